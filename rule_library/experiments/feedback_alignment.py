"""Feedback alignment and backprop, with meta-learned rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.panels import Panel
from metaplast.reproduce.table import Table
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.shared import (
    BP,
    FA,
    A,
    final,
    over_layers,
    overview,
    settling,
)  # fmt: skip

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SOURCE = A
_ANGLES = f"ours: {A} measures these angles; what it says of FA's is not among our sources"


def _draw(table: Table) -> Mapping[str, Figure]:
    both = {
        shown: table.series(name, "theta_error_hebbian").curve()
        for name, shown in (("feedback_alignment", "FA"), ("backprop", "BP"))
    }
    theta = Panel("θ of the error-Hebbian term", "meta-episodes", both, level=(0, ""))
    return overview(table, "feedback_alignment", theta=theta)


feedback_alignment = Experiment(
    name="feedback-alignment",
    title="Feedback alignment and backprop with meta-learned rates",
    source=_SOURCE,
    text="One coefficient, the rate θ of −e yᵀ, is meta-learned with fixed random feedback (FA) and with "
    "symmetric feedback (BP). Accuracy, loss and angles are measured in each meta-episode before θ changes; the "
    "curves are running means over 15 episodes. In the released code no meta-gradient flows through B = Wᵀ; "
    "here it does.",
    variants=(FA, BP),
    claims=(
        Claim("FA reaches about 25 % meta-accuracy", _SOURCE, final("feedback_alignment"), 20, 30, "%"),
        Claim("BP reaches about 70 % meta-accuracy", _SOURCE, final("backprop"), 65, 75, "%"),
        Claim(
            "FA has settled by about 100 episodes: change from episodes 101–200 to the last 100",
            _SOURCE, settling("feedback_alignment"), -5, 5, "points",
        ),
        Claim(
            "BP has settled by about 100 episodes: change from episodes 101–200 to the last 100",
            _SOURCE, settling("backprop"), -5, 5, "points",
        ),
        Claim(
            "FA's errors stay far from BP's: mean angle over the layers",
            _ANGLES, lambda table: over_layers(table, "feedback_alignment", "angle"), 60, 90, "°",
        ),
    ),
    draw=_draw,
)  # fmt: skip
