"""Meta-learning θ: the outer loop, its settings, backtracking, and evaluation on tasks."""

from metaplast.meta.evaluation import Evaluation, evaluate
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.record import Record
from metaplast.meta.settings import OuterSettings

__all__ = [
    "Evaluation",
    "OuterLoop",
    "OuterSettings",
    "Record",
    "evaluate",
]
