"""Small random initial weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.panels import figure_of
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.networks import (
    BP_ONLINE,
    FIVE,
    OJA_ONLINE,
    accuracy_panel,
    end,
    layer_panel,
    network,
)
from rule_library.experiments.shared import B

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = f"{B}, fig. 5"
_DEVIATION = replace(FIVE, init="normal:0.01")
_VARIANCE = replace(FIVE, init="normal:0.1")

BP_SMALL = network("bp_naive", BP_ONLINE, _DEVIATION)
OJA_SMALL = network("bp_oja_naive", OJA_ONLINE, _DEVIATION)
_BP_VARIANCE = network("bp_naive_variance", BP_ONLINE, _VARIANCE)
_OJA_VARIANCE = network("bp_oja_naive_variance", OJA_ONLINE, _VARIANCE)


def _draw(table: Table) -> Mapping[str, Figure]:
    readings = {"": "standard deviation 0.01", "_variance": "variance 0.01"}
    shown = [
        accuracy_panel(
            table,
            f"held-out accuracy, {reading}, %",
            {f"bp_naive{end}": "BP", f"bp_oja_naive{end}": "BP and Oja"},
        )
        for end, reading in readings.items()
    ]
    updates = [
        layer_panel(table, f"norm of one update ‖ΔW_ℓ‖, {label}, layers", "update_norm", variant)
        for variant, label in (
            ("bp_naive", "BP, deviation 0.01"),
            ("bp_oja_naive", "BP and Oja, deviation 0.01"),
            ("bp_naive_variance", "BP, variance 0.01"),
            ("bp_oja_naive_variance", "BP and Oja, variance 0.01"),
        )
    ]
    return {"": figure_of([*shown, *updates])}


naive_init = Experiment(
    name="naive-init",
    title="Initial weights N(0, 0.01), 5 layers",
    source=f"{B}, fig. 5 and S1",
    text="As `depth`, with all weights drawn from N(0, 0.01). Our sources do not say whether 0.01 is a standard deviation or a variance, so we run both. "
    "Norms of updates are means over 8 held-out images.",
    variants=(BP_SMALL, OJA_SMALL, _BP_VARIANCE, _OJA_VARIANCE),
    claims=(
        Claim("standard deviation 0.01: BP has learned nothing after 5000 images", _SOURCE, end("bp_naive"), high=20, unit="%"),
        Claim("standard deviation 0.01: BP with Oja learns", _SOURCE, end("bp_oja_naive"), 50, unit="%"),
        Claim("variance 0.01: BP has learned nothing after 5000 images", _SOURCE, end("bp_naive_variance"), high=20, unit="%"),
        Claim("variance 0.01: BP with Oja learns", _SOURCE, end("bp_oja_naive_variance"), 50, unit="%"),
    ),
    draw=_draw,
)  # fmt: skip
