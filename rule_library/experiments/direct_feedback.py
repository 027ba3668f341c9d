"""Direct feedback: the output error goes straight to each layer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from metaplast.reproduce.experiment import Experiment
from metaplast.reproduce.verdict import Claim
from rule_library.experiments.shared import (
    BP,
    ahead,
    learned,
    overview,
)  # fmt: skip

_SOURCE = "ours: nothing on direct feedback is among our sources"
_STEADY: tuple[str, ...] = ("_steady", ", with the outer loop chosen", "; the outer loop is ours")


def experiment(
    name: str, text: str, steady: Mapping[str, Mapping[str, Any]] | None = None
) -> Experiment:
    """Return the comparison of direct feedback alignment and the three terms with direct feedback.

    Args:
        name: the name of the experiment.
        text: its paragraph on the results page.
        steady: outer loops among which each variant chooses; None for the published loop.
    """
    end, title, source = _STEADY if steady else ("", "", "")
    fa = learned(f"direct_feedback_alignment{end}", "direct_feedback_alignment", steady)
    bio = learned(f"bio_direct{end}", "bio", steady, feedback="direct")
    return Experiment(
        name=name,
        title=f"Direct feedback: the output error goes straight to each layer{title}",
        source=_SOURCE + source,
        text=text,
        variants=(fa, bio, BP),
        claims=(
            Claim(
                "with direct feedback too, the three terms are above the error-Hebbian term alone",
                _SOURCE + source, ahead(bio.name, fa.name), 0, unit="points",
            ),
        ),
        draw=partial(
            overview,
            variant=bio.name,
            labels={fa.name: "FA, direct", bio.name: "bio, direct", BP.name: "BP"},
        ),
    )  # fmt: skip


direct_feedback = experiment(
    "direct-feedback",
    "Direct feedback alignment, and the three terms with direct feedback, are meta-learned like the other rules. Experiment "
    "and claim are ours, modelled on the published ones for layer-by-layer feedback. With the published loop, runs can end "
    "in divergence; `direct-feedback-steady` is the same experiment with the outer loop chosen on separate seeds.",
)
