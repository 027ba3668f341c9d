"""How often rules are read back from simulated recordings, by size of the data and what is observed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.seeds import numpy_generator
from metaplast.recordings import (
    Design,
    Inference,
    InferenceSettings,
    Layer,
    PlainRule,
    Recording,
    infer,
    monomial,
    simulate,
)
from metaplast.report.curve import Curve
from metaplast.reproduce.direct import DirectVariant
from metaplast.reproduce.experiment import Experiment, Setting
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import AT, Row, Table
from metaplast.reproduce.verdict import Claim

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OURS = "ours; the design is that of Mehta et al. 2024, smaller"
_TERMS = ("xy", "y2w")
_TRIALS = (5, 10, 20, 40)
# Share of the neurons that is observed, and standard deviation of the noise; y varies by about 0.13.
_OBSERVED = {
    "all_neurons": (1.0, 0.05, "activity"),
    "all_neurons_noise_as_large": (1.0, 0.13, "activity"),
    "half": (0.5, 0.05, "activity"),
    "half_noise_as_large": (0.5, 0.13, "activity"),
    "tenth": (0.1, 0.05, "activity"),
    "tenth_noise_as_large": (0.1, 0.13, "activity"),
    "binary_choices": (1.0, 0.0, "choices"),
}
# Upper ends of axes; all other ends come from the data.
_TOPS = {"exact": 103, "wrong_and_certain": 5, "certain": 103}
_LABELS = {name: name.replace("_", " ") for name in _OBSERVED}


def read_back(seed: int, settings: Mapping[str, Any], _: Setting) -> Sequence[Row]:
    """Return, for each number of trials, how well a planted rule a x y − b y² W was read back."""
    draw = numpy_generator(seed, "recorded rules")
    theta = (float(draw.uniform(0.5, 1.5)), -float(draw.uniform(0.5, 1.5)))
    rule = PlainRule(tuple(monomial(name).to_term() for name in _TERMS), theta)
    rows = []
    for trials in settings["trials"]:
        design = Design(
            inputs=settings["inputs"], neurons=settings["neurons"], trials=trials,
            steps=settings["steps"], noise=settings["noise"], observed=settings["observed"],
            observe=settings["observe"],
        )  # fmt: skip
        made = simulate(rule, Layer(), design, seed=1000 * seed + trials)
        found = infer([Recording.of(made.arrays)], InferenceSettings(seed=seed), compare=False)
        rows.append({AT: float(trials), **_scored(found, theta)})
    return rows


def _scored(found: Inference, theta: tuple[float, ...]) -> dict[str, float]:
    truth = dict(zip(_TERMS, theta, strict=True))
    labels = {name: monomial(name).label for name in _TERMS}
    names = [each.term.name for each in found.terms]
    exact = set(names) == set(_TERMS)
    wrong = [each for each in found.terms if each.term.name not in truth]
    possible = set(names) | {
        name
        for name, label in labels.items()
        for each in found.terms
        if label in each.alone or any(label in pair for pair in each.together)
    }
    row = {
        "exact": 100.0 * exact,
        "nothing": 100.0 * (not names),
        "in_classes": 100.0 * (set(_TERMS) <= possible),
        "wrong_and_certain": 100.0 * any(each.is_certain for each in wrong),
        "certain": 100.0 * sum(e.is_certain for e in found.terms) / max(len(names), 1),
    }
    if exact:
        inside = [each.low <= truth[each.term.name] <= each.high for each in found.terms]
        row["covered"] = 100.0 * float(np.mean(inside))
        errors = [abs(e.theta / truth[e.term.name] - 1) for e in found.terms]
        row["error"] = 100.0 * float(np.mean(errors))
    return row


def _variant(name: str) -> DirectVariant:
    observed, noise, observe = _OBSERVED[name]
    full = {
        "inputs": 50, "neurons": 10, "steps": 50, "trials": _TRIALS, "noise": noise,
        "observed": observed, "observe": observe,
    }  # fmt: skip
    quick = {"inputs": 6, "neurons": 4, "steps": 40, "trials": (8,)}
    return DirectVariant(f"recorded_{name}", read_back, full, quick)


def _last(name: str, column: str) -> Callable[[Table], Numbers]:
    """Return the measure of a column at the largest size."""
    return lambda table: table.series(f"recorded_{name}", column).last()


def _over_all(column: str) -> Callable[[Table], Numbers]:
    """Return the measure of a column's mean over all variants and sizes, for each seed."""

    def measure(table: Table) -> Numbers:
        parts = [
            table.series(name, column).values
            for name in table.variants
            if column in table.columns(name)
        ]
        if not parts:
            return np.full(1, np.nan)
        # There is no value for sizes at which no support was exact.
        every = np.concatenate(parts, 1)
        counts = np.isfinite(every).sum(1)
        return np.where(counts > 0, np.nansum(every, 1) / np.maximum(counts, 1), np.nan)

    return measure


def _draw(table: Table) -> Mapping[str, Figure]:
    def lines(column: str) -> dict[str, Curve]:
        found = {}
        for name, label in _LABELS.items():
            if column in table.columns(f"recorded_{name}"):
                found[label] = table.series(f"recorded_{name}", column).curve()
        return found

    titles = {
        "exact": "exactly the planted terms, % of plants",
        "wrong_and_certain": "a wrong term called certain, % of plants",
        "error": "error of the coefficients of exact rules, %",
        "certain": "terms called certain, %",
    }
    panels = [
        Panel(title, "trials of 50 steps", lines(column), (0, _TOPS.get(column)), marks=True)
        for column, title in titles.items()
    ]
    return {"": figure_of(panels)}


recorded_rules = Experiment(
    name="recorded-rules",
    title="Rules read back from simulated recordings",
    source=_OURS,
    text="A layer of 50 inputs and 10 sigmoid neurons learns by a x y − b y² W with a, b drawn from 0.5 to 1.5, for 5 to 40 trials of 50 steps, each from known weights of its own. "
    "Noise is drawn once and added to the activity (its size is 0.05, or 0.13, the activity's own spread), or each neuron gives binary choices; all, half or a tenth of the neurons are observed. "
    "A fifth of the trials is held out. The rule is inferred from 27 candidates. A term is called certain if no one or two other candidates could replace it.",
    variants=tuple(map(_variant, _OBSERVED)),
    claims=(
        *(Claim(f"{label}: from 40 trials, exactly the planted terms", _OURS, _last(name, "exact"), 90, 100, unit="%") for name, label in _LABELS.items()),
        Claim("over all sizes, a wrong term is called certain in at most 2 % of the plants", _OURS, _over_all("wrong_and_certain"), 0, 2, unit="%"),
        Claim("intervals of exact rules cover the planted coefficients", _OURS, _over_all("covered"), 95, 100, unit="%"),
        Claim("over all sizes, each planted term is selected or in the class of a selected one", _OURS, _over_all("in_classes"), 90, 100, unit="%"),
    ),
    draw=_draw,
    seeds=20,
)  # fmt: skip
