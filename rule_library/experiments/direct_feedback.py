"""Direct feedback: the output error goes straight to each layer."""

from __future__ import annotations

from functools import partial
from typing import Any

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
FA_DIRECT = learned("direct_feedback_alignment", "direct_feedback_alignment")


def experiment(name: str, text: str, bio: str, note: str = "", **changes: Any) -> Experiment:
    """Return direct feedback alignment beside the three terms with direct feedback.

    Args:
        name: of the experiment.
        text: about it.
        bio: name of the variant with three terms.
        note: added to the title and to the source of the claim.
        changes: fields of `DiscoveryConfig` in which that variant differs from the published loop.
    """
    labels = {FA_DIRECT.name: "FA, direct", bio: "bio, direct", BP.name: "BP"}
    return Experiment(
        name=name,
        title=f"Direct feedback: the output error goes straight to each layer{note}",
        source=f"{A}, fig. S1{note and '; clipping is ours'}",
        text=text,
        variants=(FA_DIRECT, learned(bio, "bio", feedback="direct", **changes), BP),
        claims=(
            Claim(
                "with direct feedback too, the three terms are above the error-Hebbian term alone",
                _SOURCE, ahead(bio, FA_DIRECT.name), 0, unit="points",
            ),
        ),
        draw=partial(overview, variant=bio, labels=labels),
    )  # fmt: skip


direct_feedback = experiment(
    "direct-feedback",
    "Direct feedback alignment, and the three terms with direct feedback, meta-learned as the others. What the "
    "supplement concludes is not among our sources in words; the claim is our reading. The published loop clips no "
    "gradient, and runs can end in divergence; `direct-feedback-clipped` is the same with the gradient of an episode clipped to norm 1.",
    "bio_direct",
)
