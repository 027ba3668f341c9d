"""Information about the image in deep layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.report.canvas import style
from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.networks import (
    BP5,
    BP10,
    IMAGES,
    LAYERS,
    OJA5,
    OJA10,
    profile,
)
from rule_library.experiments.shared import B

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FIG2 = f"{B}, fig. 2"
_FIG3 = f"{B}, text and fig. 3; 95 % is ours, for almost all"
_LABELS = {"bp_10_layers": "BP", "bp_oja_10_layers": "BP and Oja"}
_ENOUGH = 0.95
# Position of y_3 among the layers of a network of 10.
_Y3 = LAYERS[10].index(3)


def _components(table: Table, variant: str) -> Numbers:
    """Return how many components of y_3 hold 95 % of its variance, [seed]."""
    share = table.numbered(variant, "variance")[_Y3].values
    return (share < _ENOUGH).sum(1) + 1.0  # type: ignore[no-any-return]


def _reconstruction(table: Table) -> Numbers:
    """Return the mean over layers of log10(J with / J without Oja), [seed]."""
    logs = [
        np.mean([np.log10(s.last()) for s in table.numbered(name, "reconstruction")], axis=0)
        for name in ("bp_oja_10_layers", "bp_10_layers")
    ]
    return np.asarray(logs[0] - logs[1])


def _draw(table: Table) -> Mapping[str, Figure]:
    errors = {label: profile(table, "reconstruction", name) for name, label in _LABELS.items()}
    shown = [Panel("reconstruction error J, 10 layers", "layer", errors, log=True, marks=True)]
    for index, layer in enumerate(LAYERS[10]):
        lines = {
            label: table.numbered(name, "variance")[index].curve(100)
            for name, label in _LABELS.items()
        }
        shown.append(Panel(f"cumulative variance of y_{layer}, %", "components", lines, (0, 100)))
    figures = {"": figure_of(shown, columns=3)}
    for layers in (5, 10):
        if "image_1" in table.columns(f"bp_{layers}_layers"):
            figures[f"images-{layers}-layers"] = _pictures(table, layers)
    return figures


def _pictures(table: Table, layers: int) -> Figure:
    """Return images and their reconstructions from some layers, one row for each rule."""
    from matplotlib.figure import Figure

    rows = ("image", *(f"y_{layer}" for layer in LAYERS[layers]))
    columns = {"BP": f"bp_{layers}_layers", "BP and Oja": f"bp_oja_{layers}_layers"}
    with style():
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        for part, (title, variant) in zip(
            list(np.ravel(np.asarray(figure.subfigures(1, 2)))), columns.items(), strict=True
        ):
            part.suptitle(f"{title}, {layers} layers", fontsize=9)
            axes = part.subplots(len(rows), IMAGES, squeeze=False)
            pictures = [series.values[0] for series in table.numbered(variant, "image")]
            side = math.isqrt(len(pictures[0]))
            for index, each in enumerate(axes.flatten()):
                each.imshow(pictures[index].reshape(side, side), cmap="gray_r")
                each.set(xticks=[], yticks=[])
                each.spines[:].set_visible(False)
            for row, name in zip(axes, rows, strict=True):
                row[0].set_ylabel(name, rotation=0, ha="right", va="center")
    return figure


information = Experiment(
    name="information",
    title="What deep layers still reveal about the image",
    source=f"{B}, figs. 2 to 4",
    text="Measured after 5000 images, on 1000 others. The reconstruction error is J_ℓ = mean ‖y_ℓ₋₁ − W_ℓᵀ y_ℓ‖². Images are reconstructed by "
    "W_1ᵀ … W_ℓᵀ y_ℓ, each drawn in its own range of grey (seed 0). Our sources do not say how the paper reconstructs them.",
    variants=(BP5, OJA5, BP10, OJA10),
    claims=(
        Claim("Oja lowers the reconstruction error: mean over layers of log10(with / without)", _FIG2, _reconstruction, high=0, unit="decades"),
        Claim("y_3 has 95 % of its variance in about 10 components with BP", _FIG3, lambda table: _components(table, "bp_10_layers"), 5, 15),
        Claim("y_3 has 95 % of its variance in about 30 components with BP and Oja", _FIG3, lambda table: _components(table, "bp_oja_10_layers"), 20, 40),
    ),
    draw=_draw,
)  # fmt: skip
