"""The noise of observed weights, estimated together with that of the activity or the choices.

The precision λ of an observed weight is the noise variance φ of the other observations divided by
the noise variance of the weights. Both come from the residuals of a fit, so the selection is
repeated until λ no longer changes. If only weights were observed, λ is 1 and φ is the variance of
their noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from metaplast.recordings.fit import Fit, fit
from metaplast.recordings.moments import Problem
from metaplast.recordings.score import dispersion
from metaplast.recordings.search import Selection

# λ has converged if it changes by less than this share. The second number limits the rounds.
_SAME, _ROUNDS = 0.1, 4
# Noise below this share of the usual size of the observations is rounding.
_EXACT = 1e-6


def with_noise(
    problem: Problem, select: Callable[[Problem], tuple[Problem, Selection]]
) -> tuple[Problem, Selection]:
    """Return the problem whose λ agrees with the selected rule, and the selection.

    Args:
        problem: the data.
        select: makes the selection at a problem's λ; returns the problem, with everything else that
            was fitted, and the selection.

    Raises:
        DivergedError: if the weights diverge even without plasticity.
    """
    if not _sees_both(problem):
        return select(problem)
    problem = replace(problem, precision=precision(problem, fit(problem, ())))
    for _ in range(_ROUNDS):
        fitted, found = select(problem)
        again = precision(fitted, found.fit)
        if abs(math.log(again / problem.precision)) < _SAME:
            break
        problem = replace(problem, precision=again)
    return fitted, found


def precision(problem: Problem, found: Fit) -> float:
    """Return λ from the residuals of a fit."""
    squares, number = found.moments.weights
    size = _mean_square(problem, weights=True)
    weights = max(squares / max(number, 1), _EXACT**2 * size, 1e-300)
    if not problem.loss.has_noise:
        return 1.0 / weights
    others = found.moments.count.sum() - number
    rest = max(found.moments.total - problem.precision * squares, 0.0) / max(float(others), 1.0)
    return max(rest, _EXACT**2 * _mean_square(problem, weights=False), 1e-300) / weights


def noises(problem: Problem, found: Fit) -> tuple[float | None, float | None]:
    """Return the standard deviations of the noise of the activity and of observed weights.

    Each is None if nothing of its kind was observed; the first also if the loss fixes the noise.
    """
    count = len(found.terms) + problem.free.count
    variance = dispersion(found.moments, count, problem.loss)
    seen = found.moments.weights[1]
    others = float(found.moments.count.sum()) - seen
    activity = math.sqrt(variance) if problem.loss.has_noise and others else None
    return activity, math.sqrt(variance / problem.precision) if seen else None


def _sees_both(problem: Problem) -> bool:
    parts = problem.data.trajectories
    weights = any(each.weights for each in parts)
    return weights and any(np.isfinite(each.observed).any() for each in parts)


def _mean_square(problem: Problem, *, weights: bool) -> float:
    """Return the mean square of the observed weights, or of all other observations."""
    total, number = 0.0, 0
    for each in problem.data.trajectories:
        for part in each.weights.values() if weights else [each.observed]:
            total, number = total + float(np.nansum(part**2)), number + np.isfinite(part).sum()
    return total / max(number, 1)
