"""Direct feedback, with clipped meta-gradients."""

from __future__ import annotations

from rule_library.experiments.direct_feedback import experiment

direct_feedback_clipped = experiment(
    "direct-feedback-clipped",
    "As `direct-feedback`, but the meta-gradient of an episode is clipped to norm 1.",
    "bio_direct_clipped",
    ", meta-gradients clipped",
    clip=1.0,
)
