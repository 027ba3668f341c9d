"""Shared by the experiments: data, outer loops, the published rules as variants, measures, panels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.online.probes import orthonormality_errors
from metaplast.reproduce.meta import MetaVariant
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

A = "Shervani-Tabar & Rosenbaum 2023"
B = "Shervani-Tabar et al. 2024"

EMNIST: Mapping[str, Any] = {"dataset": "emnist-bymerge"}
TINY: Mapping[str, Any] = {
    "dataset": "digits", "hidden": (16, 12), "shots": 8, "queries": 4, "episodes": 20,
    "meta_lr": 5e-3,
}  # fmt: skip

# Numbers of meta-episodes: the papers' curves flatten after about 100, and end at 600.
SETTLED, END = 100, 600
# Number of neighbouring episodes over which curves are smoothed, because 20 seeds of 50 query images
# are noisy.
WINDOW = 15


# Outer loops with one task per step, from the published loop towards today's.
_CLIPPED: Mapping[str, Any] = {"clip": 1.0}
_BACK: Mapping[str, Any] = {**_CLIPPED, "backtrack": True}
LOOPS: Mapping[str, Mapping[str, Any]] = {
    "published": {},
    "clipped": _CLIPPED,
    "clipped, steps taken back": _BACK,
    "the same, θ scaled, cosine": {
        **_BACK, "scaling": "down", "signs": True, "schedule": "cosine",
    },
}  # fmt: skip


def learned(
    name: str, terms: str, loops: Mapping[str, Mapping[str, Any]] | None = None, **changes: Any
) -> MetaVariant:
    """Return a rule meta-learned on EMNIST, with the published outer loop or the best of `loops`."""
    probes = {"orthonormality": orthonormality_errors}
    quick = dict(TINY)
    if "shots" in changes:
        quick["shots"] = min(changes["shots"], TINY["shots"])
    if loops:
        quick["episodes"] = 10  # Each loop runs before the best one is run.
    return MetaVariant(name, {**EMNIST, "terms": terms, **changes}, quick, probes, loops or {})


FA = learned("feedback_alignment", "feedback_alignment")
BP = learned("backprop", "backprop")
EHEBB = learned("ehebb", "ehebb")
OJA = learned("oja", "oja")
BIO = learned("bio", "bio")

# Names in figures, in the order of their colours.
ORDER = ("FA", "BP", "eHebb", "Oja", "bio", "pool")
LABELS = {
    "feedback_alignment": "FA",
    "backprop": "BP",
    "ehebb": "eHebb",
    "oja": "Oja",
    "oja_steady": "Oja",
}


def label(name: str) -> str:
    """Return the name of a variant in figures."""
    return LABELS.get(name, name.replace("_", " "))


def accuracy(table: Table, variant: str, low: float, high: float) -> Numbers:
    """Return a variant's mean meta-accuracy over some episodes in %, [seed].

    The quick version has fewer episodes and takes all of them.
    """
    series = table.series(variant, "accuracy")
    low = low if series.x[-1] > low else 0
    return 100 * series.between(low, high)


def final(variant: str) -> Callable[[Table], Numbers]:
    """Return the measure of a variant's accuracy over the last 100 episodes, %."""
    return lambda table: accuracy(table, variant, END - 100, END)


def ahead(variant: str, other: str, low: float = END - 100, high: float = END) -> Any:
    """Return the measure of a variant's lead over another, points, seed by seed."""
    return lambda table: accuracy(table, variant, low, high) - accuracy(table, other, low, high)


def settling(variant: str) -> Callable[[Table], Numbers]:
    """Return the measure of the change from episodes 100 … 200 to the last 100, points."""
    return lambda table: (
        accuracy(table, variant, END - 100, END) - accuracy(table, variant, SETTLED, 2 * SETTLED)
    )


def over_layers(table: Table, variant: str, column: str) -> Numbers:
    """Return a quantity at the end, a mean over the layers and the last sixth, [seed]."""
    layers = [series.last(1 / 6) for series in table.numbered(variant, column)]
    return np.mean(layers, axis=0)  # type: ignore[no-any-return]


def accuracy_panel(table: Table, variants: Mapping[str, str] | None = None) -> Panel:
    """Return meta-accuracy as a function of meta-episodes."""
    return _curves(table, "accuracy", "meta-accuracy, %", 100, (0, 100), variants)


def loss_panel(table: Table, variants: Mapping[str, str] | None = None) -> Panel:
    """Return the query loss, without the penalty; diverging curves leave the panel at the top.

    The median over seeds is drawn: in the mean, one diverging seed would hide all others.
    """
    title = "query cross-entropy, nats, median"
    return _curves(table, "loss", title, 1, (0, 5), variants, median=True)


def _curves(
    table: Table, column: str, title: str, scale: float, limits: tuple[float | None, float | None],
    variants: Mapping[str, str] | None, *, median: bool = False,
) -> Panel:  # fmt: skip
    names = variants or {name: label(name) for name in table.variants}
    lines = {
        shown: table.series(name, column).curve(scale, WINDOW, median=median)
        for name, shown in names.items()
    }
    return Panel(title, "meta-episodes", lines, limits)


def panels(chosen: Sequence[Panel], columns: int = 2) -> Figure:
    """Return a figure in which each rule has the same colour as in all other figures."""
    return figure_of(chosen, columns=columns, first=ORDER)


def theta_panel(table: Table, variant: str, title: str = "", faded: Sequence[str] = ()) -> Panel:
    """Return the coefficients of a variant as a function of meta-episodes."""
    lines = {name: series.curve() for name, series in table.named(variant, "theta_").items()}
    return Panel(
        title or f"θ, {label(variant)}", "meta-episodes", lines, level=(0, ""), faded=faded
    )


def angle_panel(table: Table, variant: str, shown: str = "") -> Panel:
    """Return a variant's angles to backprop's errors, layer by layer; `shown` is its name."""
    lines = {
        f"layer {layer}": series.curve(window=WINDOW)
        for layer, series in enumerate(table.numbered(variant, "angle"), start=1)
    }
    title = f"angle of the errors to backprop's, {shown or label(variant)}, degrees"
    return Panel(title, "meta-episodes", lines, (0, 100), layered=True)


def overview(
    table: Table,
    variant: str,
    labels: Mapping[str, str] | None = None,
    theta: Panel | None = None,
) -> Mapping[str, Figure]:
    """Return the figure of accuracy, loss, coefficients and angles that most experiments draw.

    Args:
        table: the numbers.
        variant: the variant whose coefficients and angles are shown.
        labels: names of the variants to show; None for all variants.
        theta: a panel to draw instead of the variant's coefficients.
    """
    curves = [accuracy_panel(table, labels), loss_panel(table, labels)]
    shown = (labels or {}).get(variant) or label(variant)
    theta = theta or theta_panel(table, variant, f"θ, {shown}")
    return {"": panels([*curves, theta, angle_panel(table, variant, shown)])}
