"""Short-term memory of recurrent networks: BPTT with and without Oja's rule on W_h."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.memory_runs import MemorySetup, MemoryVariant
from rule_library.experiments.shared import B

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = f"{B}, fig. 7"
_RANGE = f"{_SOURCE}; the range is ours"
_V3 = f"{B}, v3's abstract; the measure is ours"
_ORTHOGONAL = f"{B}, section 2.4; the measure is ours"
# The terms of each rule, and its name in figures.
RULES: Mapping[str, tuple[str, ...]] = {
    "bptt": ("error_hebbian",),
    "bptt_potential_oja": ("error_hebbian", "potential_oja"),
    "bptt_drive_oja": ("error_hebbian", "drive_oja"),
}
LABELS = {"bptt": "BPTT", "bptt_potential_oja": "with Oz", "bptt_drive_oja": "with Oσ"}
# Sixteen points each, in quarters of a decade.
_LINE = (tuple(range(-19, -3)),)
_SQUARE = ((-14, -12, -10, -8), (-14, -12, -10, -8))
TINY: Mapping[str, Any] = {
    "dataset": "digits", "time": 8, "neurons": 6, "images": 8, "every": 2, "queries": 10,
    "tuning_images": 4, "tuning_seeds": 1, "tuning_queries": 10,
}  # fmt: skip


def late(table: Table, variant: str) -> Numbers:
    """Return accuracy over the last quarter of the images, %, [seed]."""
    return 100 * table.series(variant, "accuracy").last(1 / 4)


def early(table: Table, variant: str) -> Numbers:
    """Return accuracy over the first quarter of the images, without the untrained network, %."""
    series = table.series(variant, "accuracy")
    return 100 * series.between(0, series.x[-1] / 4)


def _changed(column: str, first: int | None = None) -> Callable[[Table, str], Numbers]:
    """Return the measure of the change of a norm, in decades, [seed].

    It is the change from step `first` (by default, the first step of all) to the last step.
    """

    def measure(table: Table, variant: str) -> Numbers:
        series = table.series(variant, column)
        start = 0 if first is None else int(np.searchsorted(series.x, first))
        return np.abs(np.log10(series.values[:, -1] / series.values[:, start]))

    return measure


def _uneven(table: Table, variant: str) -> Numbers:
    """Return the mean distance of W_h's singular values from 1 at the end, [seed]."""
    return np.asarray(np.abs(table.series(variant, "singular").values - 1).mean(1))


def compared(measure: Callable[[Table, str], Numbers], variant: str) -> Callable[[Table], Numbers]:
    """Return the measure of a quantity of a variant minus that of BPTT."""
    return lambda table: measure(table, variant) - measure(table, "bptt")


def _claims(variant: str, name: str) -> tuple[Claim, ...]:
    errors, activities = _changed("error_norm"), _changed("activity_norm", 5)
    return (
        Claim(f"{name} ends clearly above BPTT (last quarter of the images)", _RANGE, compared(late, variant), 10, unit="points"),
        Claim(f"{name} learns faster than BPTT (first quarter of the images)", _RANGE, compared(early, variant), 5, unit="points"),
        Claim(f"{name} brings W_h's singular values closer to 1: mean distance minus BPTT's", _ORTHOGONAL, compared(_uneven, variant), high=0),
        Claim(f"{name} keeps errors from vanishing or exploding: change of ‖e_t‖ over all t minus BPTT's", _V3, compared(errors, variant), high=0, unit="decades"),
        Claim(f"{name} keeps activities from vanishing or exploding: change of ‖σ(z_t)‖ after the image minus BPTT's", _V3, compared(activities, variant), high=0, unit="decades"),
    )  # fmt: skip


def _panel(table: Table, title: str, x: str, column: str, *, log: bool = False,
           untrained: bool = True, level: tuple[float, str] | None = None) -> Panel:  # fmt: skip
    lines = {label: table.series(name, column).curve(median=log) for name, label in LABELS.items()}
    if untrained:
        lines["untrained"] = table.series("bptt", f"{column}_initial").curve(median=log)
    return Panel(title, x, lines, log=log, level=level)


def _draw(table: Table) -> Mapping[str, Figure]:
    accuracy = {n: table.series(v, "accuracy").curve(100) for v, n in LABELS.items()}
    return {"": figure_of([
        Panel("held-out accuracy, %", "images learned", accuracy, (0, 100), level=(10, "chance")),
        _panel(table, "singular values of W_h", "number", "singular", level=(1, "")),
        _panel(table, "‖σ(z_t)‖, median over seeds", "time step t", "activity_norm", log=True),
        _panel(table, "‖e_t‖, median over seeds", "time step t", "error_norm", log=True),
    ])}  # fmt: skip


short_term_memory = Experiment(
    name="short-term-memory",
    title="Short-term memory: BPTT with and without Oja's rule on the recurrent weights",
    source=_SOURCE,
    text="A recurrent network sees an MNIST image for 5 time steps, then nothing, and classifies it after step 50; it learns 8000 images online, one by one. It learns by backpropagation through time (BPTT), "
    "with or without Oja's rule on W_h: O_z as printed (`potential_oja`), or O_σ, our variant with σ(z_t) instead of z_t (`drive_oja`). Number of neurons (100), σ (tanh), Xavier-uniform weights, loss (cross-entropy) and number of images are our choice. "
    "Each rule has its own coefficients, found with the same effort: 16 points of a grid, 3 networks and 8000 images each, on images and seeds used for nothing else; the best mean accuracy over the last quarter of the images wins. "
    "BPTT's rate is tried from 1.8e-5 to 0.1, four a decade; with Oja's rule, both coefficients are tried from 3.2e-4 to 0.01, two a decade, in all combinations. A grid grows by 4 points at an edge at which its best point lies, at most twice. "
    "Norms are geometric means over 100 held-out images at the end of learning; they are compared between step 5 and step 50 for activities, and between step 50 and step 1 for errors. A network that diverges counts as accuracy 0.",
    variants=tuple(
        MemoryVariant(name, terms, _LINE if len(terms) == 1 else _SQUARE, MemorySetup(), TINY)
        for name, terms in RULES.items()
    ),
    claims=(*_claims("bptt_potential_oja", "O_z"), *_claims("bptt_drive_oja", "O_σ")),
    draw=_draw,
)  # fmt: skip
