"""Direct feedback: the output error goes straight to each layer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from metaplast.reproduce.contract import Experiment
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.shared import (
    BP,
    LOOPS,
    A,
    ahead,
    learned,
    overview,
)  # fmt: skip

_FA = learned("direct_feedback_alignment", "direct_feedback_alignment")
_TITLE = "Direct feedback: the output error goes straight to each layer"


def _experiment(
    name: str, title: str, source: str, text: str, loops: Mapping[str, Mapping[str, Any]]
) -> Experiment:
    """Return direct feedback alignment beside the three terms with direct feedback."""
    bio = learned(
        name.replace("direct-feedback", "bio_direct").replace("-", "_"),
        "bio",
        loops,
        feedback="direct",
    )
    labels = {_FA.name: "FA, direct", bio.name: "bio, direct", BP.name: "BP"}
    return Experiment(
        name=name,
        title=title,
        source=f"{A}, fig. S1{source}",
        text=text,
        variants=(_FA, bio, BP),
        claims=(
            Claim(
                "with direct feedback too, the three terms are above the error-Hebbian term alone",
                f"{A}, fig. S1; the ranges are ours", ahead(bio.name, _FA.name), 0, unit="points",
            ),
        ),
        draw=partial(overview, variant=bio.name, labels=labels),
    )  # fmt: skip


direct_feedback = _experiment(
    "direct-feedback",
    _TITLE,
    "",
    "Direct feedback alignment, and the three terms with direct feedback, meta-learned as the others. What the "
    "supplement concludes is not among our sources in words; the claim is our reading. The published loop clips no "
    "gradient, and runs can end in divergence; `direct-feedback-steady` is the same with the outer loop chosen.",
    {},
)

direct_feedback_steady = _experiment(
    "direct-feedback-steady",
    f"{_TITLE}, the outer loop chosen",
    "; the choice of the outer loop is ours",
    "As `direct-feedback`, but the three terms are meta-learned with the outer loop that does best on separate seeds.",
    LOOPS,
)
