"""Networks that learn MNIST online, shared by several experiments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.online.probes import explained_variance, reconstructed_images, reconstruction_errors
from metaplast.report.curve import Curve
from metaplast.reproduce.online import OnlineVariant, TrainingSetup
from metaplast.reproduce.panels import Panel
from metaplast.reproduce.table import Table

FIVE = TrainingSetup("mnist")
TEN = replace(FIVE, depth=10)
TINY: Mapping[str, Any] = {
    "dataset": "digits", "samples": 60, "hidden": (12, 10), "queries": 40, "records": 4,
}  # fmt: skip

# Layers whose activities are examined.
LAYERS: Mapping[int, tuple[int, ...]] = {5: (1, 2, 3, 4), 10: (1, 3, 7, 9)}
COMPONENTS, IMAGES = 50, 6

BP_ONLINE, OJA_ONLINE = "backprop", "oja:symmetric"
FA_ONLINE, OJA_FA_ONLINE = "feedback_alignment", "oja:fixed"


def network(name: str, rule: str, setup: TrainingSetup) -> OnlineVariant:
    """Return networks that learn by one rule, with all their measurements."""
    layers = LAYERS[setup.depth]
    return OnlineVariant(
        name,
        rule,
        setup,
        TINY,
        final={"reconstruction": reconstruction_errors},
        tables={"variance": partial(explained_variance, layers=layers, components=COMPONENTS)},
        shown={"image": partial(reconstructed_images, layers=layers, images=IMAGES)},
    )


BP5 = network("bp_5_layers", BP_ONLINE, FIVE)
OJA5 = network("bp_oja_5_layers", OJA_ONLINE, FIVE)
BP10 = network("bp_10_layers", BP_ONLINE, TEN)
OJA10 = network("bp_oja_10_layers", OJA_ONLINE, TEN)
FA5 = network("fa_5_layers", FA_ONLINE, FIVE)
OJA_FA5 = network("fa_oja_5_layers", OJA_FA_ONLINE, FIVE)


def end(variant: str) -> Callable[[Table], Numbers]:
    """Return the measure of held-out accuracy after the last image, %."""
    return lambda table: 100 * table.series(variant, "accuracy").last()


def lead(variant: str, other: str) -> Callable[[Table], Numbers]:
    """Return the measure of a variant's lead over another at the end, points."""
    return lambda table: end(variant)(table) - end(other)(table)


def accuracy_panel(table: Table, title: str, variants: Mapping[str, str]) -> Panel:
    """Return held-out accuracy against images learned."""
    lines = {label: table.series(name, "accuracy").curve(100) for name, label in variants.items()}
    return Panel(title, "images learned", lines, (0, 100))


def layer_panel(table: Table, title: str, column: str, variant: str) -> Panel:
    """Return one line for each layer against images learned, on a logarithmic axis."""
    lines = {
        str(layer): series.curve()
        for layer, series in enumerate(table.numbered(variant, column), start=1)
    }
    return Panel(title, "images learned", lines, log=True, layered=True)


def profile(table: Table, column: str, variant: str) -> Curve:
    """Return a quantity at the end as a function of the layer."""
    values = np.stack([series.last() for series in table.numbered(variant, column)], 1)
    return Curve.over_networks(list(range(1, values.shape[1] + 1)), values)
