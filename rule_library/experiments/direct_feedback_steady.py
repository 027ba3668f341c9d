"""Direct feedback, with the outer loop chosen on separate seeds."""

from __future__ import annotations

from rule_library.experiments.direct_feedback import experiment
from rule_library.experiments.shared import LOOPS

direct_feedback_steady = experiment(
    "direct-feedback-steady",
    "As `direct-feedback`, but direct feedback alignment and the three terms each use the outer loop that does best for them on "
    "separate seeds.",
    steady=LOOPS,
)
