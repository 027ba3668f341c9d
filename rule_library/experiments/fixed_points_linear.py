"""Three learning rules for the fixed points of a linear recurrent network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.report.canvas import style
from metaplast.report.curve import Curve
from metaplast.reproduce.direct import DirectVariant
from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import Series, Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.linear_rates import learn, surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CODE = "released code LearningFixedPointsInRNNs"
RATES = (0.03, 0.1, 0.3, 1.0, 3.0)
RULES = {
    "euclidean": "ΔW₁, Euclidean gradient",
    "exact": "ΔW₂, reparameterised",
    "linearised": "ΔW₃, linearised",
}
_FULL = {"neurons": 200, "samples": 100, "iterations": 3500, "every": 25}
_TINY = {"neurons": 8, "samples": 5, "iterations": 60, "every": 20}
_RIDGES = {"neurons": 200, "samples": 100, "line": 201, "plane": 101}
_FEW = {"neurons": 8, "samples": 5, "line": 21, "plane": 5}
# Differences between losses below this are rounding.
LEAST = 1e-20


def _name(rule: str, rate: float) -> str:
    return f"{rule}_{rate:g}"


def _loss(table: Table, rule: str, rate: float) -> Series:
    """Return log10 of the loss, [seed, place]."""
    series = table.series(_name(rule, rate), "loss")
    return Series(series.x, np.log10(np.maximum(series.values, LEAST)))


def _end(rule: str, rate: float) -> Callable[[Table], Numbers]:
    """Return the measure of log10 of the loss at the end."""
    return lambda table: _loss(table, rule, rate).last()


def _behind(rule: str, other: str, rate: float) -> Callable[[Table], Numbers]:
    """Return the measure of how many decades one rule ends above another."""
    return lambda table: _end(rule, rate)(table) - _end(other, rate)(table)


def _rising(table: Table) -> Numbers:
    """Return the share of places where ΔW₁'s loss at the largest rate is above the previous, %."""
    steps = np.diff(_loss(table, "euclidean", RATES[-1]).values, axis=1)
    return np.asarray(100 * (steps > 0).mean(1))


def _largest_gap(table: Table) -> Numbers:
    """Return the largest distance between ΔW₂'s and ΔW₃'s loss at any place and rate, decades."""
    gaps = [
        np.abs(_loss(table, "exact", rate).values - _loss(table, "linearised", rate).values)
        for rate in RATES
    ]
    # Below this, rounding decides.
    floor = [np.maximum(_loss(table, "exact", rate).values, -12) for rate in RATES]
    return np.max([np.where(f > -12, g, 0).max(1) for f, g in zip(floor, gaps, strict=True)], 0)  # type: ignore[no-any-return]


def _angle(rule: str, rate: float, *, first: bool = False) -> Callable[[Table], Numbers]:
    """Return the measure of an angle at the first place, or at the last where it is not rounding."""

    def measure(table: Table) -> Numbers:
        values = table.series(_name(rule, rate), "angle").values
        finite = [row[np.isfinite(row)] for row in values]
        return np.array([row[0 if first else -1] for row in finite])

    return measure


def _ridges(table: Table) -> Numbers:
    """Return the largest loss outside the stable region relative to that inside it, decades."""
    line, radius = (table.series("surface", name).values for name in ("line", "radius"))
    inside = np.where(radius < 1, line, 0).max(1)
    return np.asarray(np.log10(np.where(radius < 1, 0, line).max(1)) - np.log10(inside))


def _edge(table: Table) -> Numbers:
    """Return the largest |t| on the line with a spectral radius below 1."""
    series = table.series("surface", "radius")
    return np.array([np.abs(series.x[row < 1]).max() for row in series.values])


def _draw(table: Table) -> Mapping[str, Figure]:
    shown = []
    for rule, label in RULES.items():
        lines = {
            f"rate {rate:g}": table.series(_name(rule, rate), "loss").curve(median=True)
            for rate in RATES
        }
        shown.append(Panel(f"loss, {label}", "iterations", lines, (1e-9, 10), log=True))
    for rule, title in (("exact", "angle of ΔW₁ and ΔW₂"), ("linearised", "angle of ΔW₂ and ΔW₃")):
        lines = {f"rate {r:g}": table.series(_name(rule, r), "angle").curve() for r in RATES[:-1]}
        shown.append(Panel(f"{title}, degrees", "iterations", lines))
    line = table.series("surface", "line")
    one = {"loss": Curve.over_networks([float(x) for x in line.x], line.values[:1])}
    shown.append(Panel("loss from W* in a random direction, seed 0", "t", one, log=True))
    return {"": figure_of(shown, columns=3), "surface": _plane(table)}


def _plane(table: Table) -> Figure:
    """Return the loss in a plane through W*, seed 0, in decades."""
    from matplotlib.figure import Figure

    rows = table.numbered("surface", "plane")
    values = np.array([series.values[0] for series in rows])
    with style():
        figure = Figure(figsize=(4.6, 3.8), layout="constrained")
        axes = figure.subplots()
        image = axes.imshow(
            np.log10(np.maximum(values, 1e-3)), extent=(-1, 1, -1, 1), origin="lower", vmax=4
        )
        axes.set(title="loss in a plane through W*, log₁₀", xlabel="t", ylabel="s")
        figure.colorbar(image)
    return figure


fixed_points_linear = Experiment(
    name="fixed-points-linear",
    title="Learning the fixed points of a linear recurrent network",
    source=f"{CODE}, linear test and loss surface",
    text="The network r = W r + X has 200 neurons; J = ‖r − R‖²/m over m = 100 inputs, in full batches. ΔW₁ is the gradient of J with respect to W. ΔW₂ is gradient descent on A = (I − W)⁻¹, "
    "and ΔW₃ is ΔW₂ to first order in the rate. Settings are as released. X, R and W_0 differ from seed to seed; the released code has one seed. Here ΔW₂ takes the gradient at A; the released code takes it at A after the step. "
    "The surface is J on a line and in a plane through a minimum W*. The ranges of all claims are ours, around what can be read off the stored figures.",
    variants=(
        *(
            DirectVariant(_name(rule, rate), learn, {**_FULL, "rule": rule, "rate": rate}, _TINY)
            for rule in RULES
            for rate in RATES
        ),
        DirectVariant("surface", surface, _RIDGES, _FEW),
    ),
    claims=(
        Claim("at rate 0.3 ΔW₁ ends above ΔW₃: log10 of the ratio of losses", CODE, _behind("euclidean", "linearised", 0.3), 0, unit="decades"),
        Claim("at rate 0.03 ΔW₁ ends above ΔW₃: log10 of the ratio of losses", CODE, _behind("euclidean", "linearised", 0.03), 0, unit="decades"),
        Claim("ΔW₁ stalls at rate 3: log10 of its loss at the end", CODE, _end("euclidean", 3.0), low=-3),
        Claim("ΔW₁ jitters at rate 3: share of places at which its loss has risen", f"{CODE}; the measure is ours", _rising, low=20, unit="%"),
        Claim("ΔW₃ still learns at rate 3: log10 of its loss at the end", CODE, _end("linearised", 3.0), high=-9),
        Claim("ΔW₃ reaches 10⁻⁹ at rate 1", CODE, _end("linearised", 1.0), high=-9),
        Claim("ΔW₂ and ΔW₃ are alike: largest distance of losses above 10⁻¹²", CODE, _largest_gap, high=0.5, unit="decades"),
        Claim("ΔW₁ and ΔW₂ begin almost orthogonal (rate 0.3)", CODE, _angle("exact", 0.3, first=True), 80, 90, "°"),
        Claim("ΔW₁ and ΔW₂ end far apart (rate 0.3)", CODE, _angle("exact", 0.3), 60, 85, "°"),
        Claim("ΔW₂ and ΔW₃ begin close (rate 1)", CODE, _angle("linearised", 1.0, first=True), high=5, unit="°"),
        Claim("ΔW₂ and ΔW₃ end closer (rate 1)", CODE, _angle("linearised", 1.0), high=0.5, unit="°"),
        Claim("the loss has ridges where the spectral radius is above 1: largest loss there over the largest elsewhere", f"{CODE}; the measure is ours", _ridges, 1, unit="decades"),
        Claim("the stable region ends near |t| = √(1 − 0.25)/2.5 = 0.346", CODE, _edge, 0.3, 0.4),
    ),
    draw=_draw,
)  # fmt: skip
