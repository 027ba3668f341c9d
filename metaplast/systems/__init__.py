"""Systems that learn, feedbacks that supply errors, objectives of outputs, constraints on weights.

Each has an abstract class, in `system`, `feedback`, `objective` and `constraint`. Each
implementation is one file, found through an entry point.
"""

from metaplast.systems.constrained import Constrained, constrained
from metaplast.systems.constraint import (
    Limits,
    WeightConstraint,
    all_constraints,
    get_constraint,
)
from metaplast.systems.feedback import (
    ChainFeedback,
    ErrorPass,
    Feedback,
    Passage,
    all_feedbacks,
    feedback_for,
    get_feedback,
)
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.kind import SystemKind, SystemRequest, all_systems, get_system
from metaplast.systems.learner import Learner
from metaplast.systems.objective import Objective, all_objectives, get_objective
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples, Group, Presented, System
from metaplast.systems.timing import Timing

__all__ = [
    "ChainFeedback",
    "Constrained",
    "ErrorPass",
    "Examples",
    "Feedback",
    "FixedPoint",
    "FullyConnected",
    "Group",
    "Learner",
    "Limits",
    "Objective",
    "Passage",
    "Presented",
    "Recurrent",
    "State",
    "System",
    "SystemKind",
    "SystemRequest",
    "Timing",
    "View",
    "WeightConstraint",
    "all_constraints",
    "all_feedbacks",
    "all_objectives",
    "all_systems",
    "constrained",
    "feedback_for",
    "get_constraint",
    "get_feedback",
    "get_objective",
    "get_system",
]
