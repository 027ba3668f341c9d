"""Norms of activities, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.panels import figure_of
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.naive_init import BP_SMALL, OJA_SMALL
from rule_library.experiments.networks import BP5, BP10, FA5, OJA5, OJA10, OJA_FA5, layer_panel
from rule_library.experiments.shared import B

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE, _V3 = f"{B}, fig. 6", f"{B}, v3's abstract; the measure is ours"
_MEASURED = f"{_SOURCE}; the measure is ours"
_PANELS = {
    "BP, 5 layers": (BP5, OJA5),
    "BP, naive init": (BP_SMALL, OJA_SMALL),
    "BP, 10 layers": (BP10, OJA10),
    "FA, 5 layers": (FA5, OJA_FA5),
}


def _spread(table: Table, variant: str) -> Numbers:
    """Return the spread of the norms of the hidden layers at the end, decades, [seed]."""
    hidden = table.numbered(variant, "activity_norm")[:-1]
    logs = np.stack([np.log10(np.maximum(series.last(), 1e-12)) for series in hidden])
    return logs.max(0) - logs.min(0)  # type: ignore[no-any-return]


def _growth(table: Table, variant: str) -> Numbers:
    """Return the factor by which the mean norm of the weights has grown, [seed]."""
    weights = [series.values for series in table.numbered(variant, "weight_norm")]
    mean = np.mean(weights, axis=0)
    return mean[:, -1] / mean[:, 0]  # type: ignore[no-any-return]


def _draw(table: Table) -> Mapping[str, Figure]:
    shown = [
        layer_panel(table, f"‖y_ℓ‖, {title}{with_oja}, layers", "activity_norm", variant.name)
        for title, pair in _PANELS.items()
        for variant, with_oja in zip(pair, ("", ", Oja"), strict=True)
    ]
    return {"": figure_of(shown)}


norms = Experiment(
    name="norms",
    title="Norms of the activities, without Oja's rule (left) and with it (right)",
    source=_SOURCE,
    text="Norms of the activities of every layer on 100 held-out images while networks learn. The last layer is a softmax.",
    variants=tuple(variant for pair in _PANELS.values() for variant in pair),
    claims=(
        Claim(
            "10 layers: Oja keeps the hidden layers' norms closer together", _MEASURED,
            lambda table: _spread(table, "bp_oja_10_layers") - _spread(table, "bp_10_layers"), high=0, unit="decades",
        ),
        Claim(
            "naive init: Oja keeps the hidden layers' norms closer together", _MEASURED,
            lambda table: _spread(table, "bp_oja_naive") - _spread(table, "bp_naive"), high=0, unit="decades",
        ),
        Claim(
            "FA's weights grow more without Oja: growth of their mean norm in %, without minus with", _V3,
            lambda table: 100 * (_growth(table, "fa_5_layers") - _growth(table, "fa_oja_5_layers")), 0, unit="points",
        ),
    ),
    draw=_draw,
)  # fmt: skip
