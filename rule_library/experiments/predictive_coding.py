"""Predictive coding compared with backpropagation, in single and in double precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.coding_runs import TINY, CodingSetup, CodingTraining, accuracy_lead
from rule_library.experiments.coding_sweeps import CodingSweeps
from rule_library.experiments.networks import layer_panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = "Rosenbaum 2022 (Torch2PC)"
_MSE, _CE = CodingSetup(loss="mse"), CodingSetup()


def _training(
    name: str,
    algorithm: str,
    full: CodingSetup = _CE,
    *,
    one: bool = False,
    double: bool = False,
) -> CodingTraining:
    """Return a network that learns, with η = 1 and n = 5 if `one`, else with η = 0.1 and n = 20."""
    eta, n = (1.0, 5) if one else (0.1, 20)
    return CodingTraining(name, algorithm, eta, n, full, TINY, double=double)


_VARIANTS = (
    _training("bp_mse", "backprop", _MSE),
    _training("strict", "strict", _MSE),
    _training("strict_double", "strict", _MSE, double=True),
    _training("bp_cross_entropy", "backprop"),
    _training("fixed", "fixed"),
    _training("fixed_double", "fixed", double=True),
    _training("fixed_one", "fixed", one=True),
    _training("fixed_one_double", "fixed", double=True, one=True),
    CodingSweeps("strict_sweeps", "strict", full=_MSE, quick=TINY, scales=(1.0, 100.0, 1000.0)),
    CodingSweeps("fixed_sweeps", "fixed", full=_CE, quick=TINY, images=300),
)  # fmt: skip


def _mean(variant: str, column: str) -> Callable[[Table], Numbers]:
    """Return the measure of a column's mean over the second half of the steps, [seed]."""
    return lambda table: table.series(variant, column).last(0.5)


def _largest(variant: str, column: str) -> Callable[[Table], Numbers]:
    """Return the measure of the largest value in any layer and at any record, [seed]."""

    def measure(table: Table) -> Numbers:
        layers = [series.values.max(1) for series in table.numbered(variant, column)]
        return np.asarray(np.max(layers, axis=0))

    return measure


def _at(variant: str, column: str, n: float) -> Callable[[Table], Numbers]:
    """Return the measure of a column at one number of sweeps, or one scale, [seed]."""

    def measure(table: Table) -> Numbers:
        series = table.series(variant, column)
        return np.asarray(series.values[:, int(np.argmin(abs(series.x - n)))])

    return measure


def _ratio(variant: str, other: str) -> Callable[[Table], Numbers]:
    def measure(table: Table) -> Numbers:
        own, others = (table.series(name, "seconds").last() for name in (variant, other))
        return own / others

    return measure


def _growth(table: Table) -> Numbers:
    """Return how much the error of strict in layer 1 grows with the loss, × 1000 against × 1."""
    found = [_at("strict_sweeps", "scaled_error_1", scale)(table) for scale in (1000, 1)]
    return found[0] - found[1]


_FIG1, _FIG2, _FIG3, _FIG4, _FIG5 = (f"{_SOURCE}, fig. {i}" for i in range(1, 6))
_OURS = f"ours, against {_SOURCE}"
_CLAIMS = (
    Claim("Strict learns as well as BP, Adam", _FIG1, accuracy_lead("strict", "bp_mse"), -2, 2, "points"),
    Claim("FixedPred, η = 0.1, n = 20, learns as well as BP, Adam", _FIG3, accuracy_lead("fixed", "bp_cross_entropy"), -2, 2, "points"),
    Claim("FixedPred, η = 1, n = 5, learns as well as BP, Adam", _FIG5, accuracy_lead("fixed_one", "bp_cross_entropy"), -2, 2, "points"),
    Claim("Strict's gradient is off by about its own size in layer 1 (about 0.98)", _FIG1, _mean("strict", "error_1"), 0.85, 1.1),
    Claim("FixedPred's gradient, η = 0.1, n = 20, is off by 0.89 in layer 1", _FIG3, _mean("fixed", "error_1"), 0.85, 0.93),
    Claim("in double precision FixedPred's gradient is off by exactly 1 − Pr[Binomial(19, 0.1) ≥ 4] = 0.885", _OURS, _mean("fixed_double", "error_1"), 0.8849, 0.8851),
    Claim("FixedPred's gradient turns away from BP's in layer 1 (about 5 to 15°)", _FIG3, _mean("fixed", "angle_1"), 1, 20, "degrees"),
    Claim("in double precision FixedPred's largest angle in any layer is 0", _OURS, _largest("fixed_double", "angle"), high=1e-3, unit="degrees"),
    Claim("in single precision too, if metaplast.predictive_coding computes it", _OURS, _largest("fixed", "own_angle"), high=0.05, unit="degrees"),
    Claim("FixedPred, η = 1, n = 5, is off by at most 0.015", _FIG5, _mean("fixed_one", "error_1"), 0, 0.015),
    Claim("in double precision FixedPred, η = 1, n = 5, is BP", _OURS, _largest("fixed_one_double", "error"), high=1e-6),
    Claim("after 200 sweeps with η = 0.5, FixedPred stays off by about 0.05 in layer 1", _FIG4, _at("fixed_sweeps", "single_0.5_error_1", 200), 0.01, 0.2),
    Claim("in double precision it is not off after 200 sweeps with η = 0.5", _OURS, _at("fixed_sweeps", "double_0.5_error_1", 200), high=1e-4),
    Claim("Strict with η = 0.5 diverges within 20 sweeps: log10 of its error in layer 1", _FIG2, lambda table: np.log10(_at("strict_sweeps", "single_0.5_error_1", 20)(table)), 1),
    Claim("Strict with η = 0.2 comes near BP with n: error in layer 1 after 200 sweeps minus after 20", _FIG2, lambda table: _at("strict_sweeps", "double_0.2_error_1", 200)(table) - _at("strict_sweeps", "double_0.2_error_1", 20)(table), high=-0.2),
    Claim("Strict's error in layer 1 is larger for a larger loss: summed over 100 images and 10 outputs minus their mean", _OURS, _growth, 0.2),
    Claim("Strict, n = 20, takes longer than BP (published: 4.1 times)", _SOURCE, _ratio("strict", "bp_mse"), 2),
    Claim("FixedPred, n = 20, takes longer than BP (published: 3.7 times)", _SOURCE, _ratio("fixed", "bp_cross_entropy"), 1.5),
)  # fmt: skip


def _panel(
    table: Table, title: str, column: str, variants: Mapping[str, str], scale: float = 1
) -> Panel:
    lines = {label: table.series(name, column).curve(scale) for name, label in variants.items()}
    return Panel(title, "batches", lines)


def _sweep_panel(
    table: Table, title: str, variant: str, column: str, *, log: bool = False
) -> Panel:
    lines = {
        f"η = {eta}": table.series(variant, name).curve()
        for eta in ("0.1", "0.2", "0.5", "1")
        if (name := column.replace("ETA", eta)) in table.columns(variant)
    }
    limits = (1e-8, 1e4) if log else (0, 90)
    return Panel(title, "sweeps n", lines, limits, log=log)


def _training_figure(table: Table) -> Figure:
    shown = []
    for title, double, bp, names in (
        ("MSE, Strict", "strict_double", "bp_mse", {"strict": "single"}),
        ("η = 0.1, n = 20", "fixed_double", "bp_cross_entropy", {"fixed": "single"}),
        ("η = 1, n = 5", "fixed_one_double", "bp_cross_entropy", {"fixed_one": "single"}),
    ):
        (single,) = names
        lines = {bp: "BP", single: "single", double: "double"}
        shown += [
            _panel(table, f"accuracy, %, {title}", "accuracy", lines, 100),
            _panel(table, f"loss, {title}", "loss", lines),
        ]
        for column, what in (("error", "relative error"), ("angle", "angle, degrees")):
            for name, precision in ((single, "single"), (double, "double")):
                panel = layer_panel(table, f"{what}, {precision}, {title}", column, name)
                shown.append(Panel(panel.title, "batches", panel.lines, layered=True))
    return figure_of(shown)


def _sweep_figure(table: Table) -> Figure:
    return figure_of([
        _sweep_panel(table, f"{what}, {title}, {precision}", variant, f"{precision}_ETA_{column}_1", log=column == "error")
        for variant, title in (("strict_sweeps", "Strict"), ("fixed_sweeps", "FixedPred"))
        for column, what in (("error", "error of layer 1"), ("angle", "angle of layer 1"))
        for precision in ("single", "double")
    ])  # fmt: skip


def _draw(table: Table) -> Mapping[str, Figure]:
    return {"": _training_figure(table), "sweeps": _sweep_figure(table)}


predictive_coding = Experiment(
    name="predictive-coding",
    title="Predictive coding compared with backpropagation, in single and in double precision",
    source=f"{_SOURCE}, figs. 1 to 5, MNIST",
    text="The published convolutional network of five layers learns MNIST from batches of 300 images by Strict (mean squared error, mean over batch and outputs; η = 0.1, n = 20) and "
    "FixedPred (cross-entropy, mean over the batch; η = 0.1, n = 20 and η = 1, n = 5), with Adam and the published rate 0.002. Single precision uses the published arithmetic, which stores v itself; "
    "double precision uses `metaplast.predictive_coding`, which stores v − v̂. Relative error and angle compare the gradient of each layer's weight with that of backpropagation in the same network. "
    "We derived that FixedPred's gradient in layer ℓ is Pr[Binomial(n − 1, η) ≥ L − ℓ] times that of backpropagation. So all its angles, and the plateaus of its errors, are rounding errors, and it is "
    "backpropagation with smaller rates in low layers. Adam undoes these rates; SGD does not (`predictive-coding-sgd`). "
    "The figure of sweeps uses one batch (300 images for FixedPred, 100 for Strict) in a network that backpropagation has trained. Unlike in the publication, training images come from half of the data set, because the other half serves to choose rates of SGD, and "
    "accuracy is measured on 1000 held-out images. The ranges of all claims are ours, around what can be read off the published figures.",
    variants=_VARIANTS,
    claims=_CLAIMS,
    draw=_draw,
)  # fmt: skip
