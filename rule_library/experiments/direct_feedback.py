"""Direct feedback: the output error goes straight to each layer."""

from __future__ import annotations

from functools import partial

from metaplast.reproduce.contract import Experiment
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.shared import (
    BP,
    A,
    ahead,
    learned,
    overview,
)  # fmt: skip

_SOURCE = f"{A}, fig. S1; the ranges are ours"
_LABELS = {
    "direct_feedback_alignment": "FA, direct",
    "bio_direct": "bio, direct",
    "backprop": "BP",
}


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
    draw=partial(overview, variant="bio_direct", labels=_LABELS),
)  # fmt: skip
