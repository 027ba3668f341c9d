"""Direct feedback: the output error goes straight to each layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from metaplast.reproduce.contract import Experiment
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.shared import (
    BP,
    A,
    accuracy_panel,
    ahead,
    angle_panel,
    learned,
    loss_panel,
    panels,
    theta_panel,
)  # fmt: skip

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = f"{A}, fig. S1; the ranges are ours"
_LABELS = {
    "direct_feedback_alignment": "FA, direct",
    "bio_direct": "bio, direct",
    "backprop": "BP",
}


def _draw(table: Table) -> Mapping[str, Figure]:
    shown = [accuracy_panel(table, _LABELS), loss_panel(table, _LABELS)]
    shown += [theta_panel(table, "bio_direct"), angle_panel(table, "bio_direct")]
    return {"": panels(shown)}


direct_feedback = Experiment(
    name="direct-feedback",
    title="Direct feedback: the output error goes straight to each layer",
    source=f"{A}, fig. S1",
    text="Direct feedback alignment, and the three terms with direct feedback, meta-learned as the others. What the "
    "supplement concludes is not among our sources in words; the claims are our reading.",
    variants=(
        learned("direct_feedback_alignment", "direct_feedback_alignment"),
        learned("bio_direct", "bio", feedback="direct"),
        BP,
    ),
    claims=(
        Claim(
            "with direct feedback too, the three terms are above the error-Hebbian term alone",
            _SOURCE, ahead("bio_direct", "direct_feedback_alignment"), 0, unit="points",
        ),
    ),
    draw=_draw,
)  # fmt: skip
