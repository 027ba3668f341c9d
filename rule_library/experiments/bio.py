"""The three surviving terms alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from metaplast.reproduce.contract import Experiment
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.shared import (
    BIO,
    BP,
    FA,
    A,
    accuracy_panel,
    ahead,
    angle_panel,
    loss_panel,
    panels,
    theta_panel,
)  # fmt: skip

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = f"{A}, text"


def _draw(table: Table) -> Mapping[str, Figure]:
    shown = [accuracy_panel(table), loss_panel(table), theta_panel(table, "bio")]
    return {"": panels([*shown, angle_panel(table, "bio")])}


bio = Experiment(
    name="bio",
    title="The three surviving terms alone",
    source=_SOURCE,
    text="The error-Hebbian term, the error-error term and Oja's rule, meta-learned together without the other seven "
    "and without penalty.",
    variants=(FA, BIO, BP),
    claims=(
        Claim("bio is near BP at the end", _SOURCE, ahead("bio", "backprop"), -10, 10, "points"),
        Claim("bio is far above FA", _SOURCE, ahead("bio", "feedback_alignment"), 20, unit="points"),
    ),
    draw=_draw,
)  # fmt: skip
