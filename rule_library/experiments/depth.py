"""Backprop with and without Oja's rule, 5 and 10 layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.panels import figure_of
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.networks import (
    BP5,
    BP10,
    OJA5,
    OJA10,
    accuracy_panel,
    lead,
)
from rule_library.experiments.shared import B

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = f"{B}, fig. 1"


def _draw(table: Table) -> Mapping[str, Figure]:
    shown = [
        accuracy_panel(
            table,
            f"held-out accuracy, {layers} layers, %",
            {f"bp_{layers}_layers": "BP", f"bp_oja_{layers}_layers": "BP and Oja"},
        )
        for layers in (5, 10)
    ]
    return {"": figure_of(shown)}


depth = Experiment(
    name="depth",
    title="Backprop with and without Oja's rule in networks of 5 and 10 layers",
    source=_SOURCE,
    text="Networks learn 5000 MNIST images online, one by one, and are tested on 1000 others. The papers do not print their coefficients, "
    "so we find those of each variant by a grid search over nonzero values, with 3 networks, on images that are used for nothing else. The widths of 10 layers are the widths of 5 layers, "
    "stretched linearly (our choice).",
    variants=(BP5, OJA5, BP10, OJA10),
    claims=(
        Claim("5 layers: BP with Oja is slightly below BP", _SOURCE, lead("bp_oja_5_layers", "bp_5_layers"), -10, 0, "points"),
        Claim("10 layers: BP with Oja clearly wins", _SOURCE, lead("bp_oja_10_layers", "bp_10_layers"), 10, unit="points"),
        Claim("BP drops a lot from 5 to 10 layers", _SOURCE, lead("bp_10_layers", "bp_5_layers"), high=-10, unit="points"),
    ),
    draw=_draw,
)  # fmt: skip
