"""Whether an outer loop had enough steps to reach its best coefficients; if not, it goes on.

Adam moves a scaled coefficient by at most about the step size. So the sum of all step sizes bounds
the distance that a coefficient can cover, and one that covered nearly that much was still moving at
full speed at the end: its best value may lie far beyond. That happens if learning needs large
coefficients, such as with few examples in a task. Such a loop goes on for another round of as many
steps, which are twice as large and again follow the whole schedule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metaplast.meta.backtracking import COLD, GROW
from metaplast.meta.settings import OuterSettings, Schedule
from metaplast.terms.coefficients import Coefficients

# A coefficient that covered more than this share of the longest possible distance fell short.
_MOST = 0.9
# A loop of fewer steps is only a trial.
_FEWEST = 30
# The steps of a round are larger than those of the round before by this factor.
FACTOR = 2.0


@dataclass(frozen=True)
class Shortfall:
    """A coefficient that moved nearly as far as the steps of a round allow.

    Attributes:
        term: the name of its term.
        start: its value at the start of the round.
        end: its value at the end.
        step: the step size of the round.
    """

    term: str
    start: float
    end: float
    step: float


def shortfall(
    settings: OuterSettings,
    number: int,
    start: Mapping[str, Sequence[float]],
    end: Coefficients,
    scale: Coefficients,
    *,
    cold: bool,
    shrunk: bool = False,
) -> Shortfall | None:
    """Return the first coefficient that fell short in a round; None if all had enough steps.

    Args:
        settings: of the loop.
        number: the number of the round, counted from 0.
        start: θ at the start of the round, by term.
        end: θ at its end.
        scale: the units of θ.
        cold: whether the first steps of the loop were short, because θ was still a guess.
        shrunk: whether all coefficients shrank in some step, because learning was chaotic. Then one
            that came nearer to zero says nothing about the steps.
    """
    if settings.optimizer != "Adam" or settings.steps < _FEWEST:
        return None
    step = settings.meta_lr * FACTOR**number
    longest = step * _whole_steps(settings, cold=cold and number == 0 and settings.backtrack)
    units, ends = scale.columns(), end.columns()
    for term, starts in start.items():
        for first, last, unit in zip(starts, ends[term], units[term], strict=True):
            if shrunk and abs(last) < abs(first) and first * last >= 0:
                continue
            if abs(last - first) > _MOST * longest * unit:
                return Shortfall(term, first, last, step)
    return None


def _whole_steps(settings: OuterSettings, *, cold: bool) -> float:
    """Return the sum of the step sizes of a round, in units of the largest one."""
    total, radius = 0.0, COLD if cold else 1.0
    for index in range(settings.steps):
        total += radius * scheduled(settings.schedule, index / settings.steps)
        radius = min(1.0, GROW * radius)
    if settings.schedule == "constant":
        # The final θ is a mean over the last ones.
        total -= (window(settings) + 1) / 2
    return total


def window(settings: OuterSettings) -> int:
    """Return how many of the latest θ are averaged in the end; 0 if the last one is taken."""
    return 0 if settings.schedule == "cosine" else max(1, settings.steps // 5)


def scheduled(schedule: Schedule, fraction: float) -> float:
    """Return the factor of a schedule on the step size after a fraction of the steps, 0 … 1."""
    return 0.5 * (1 + math.cos(math.pi * fraction)) if schedule == "cosine" else 1.0
