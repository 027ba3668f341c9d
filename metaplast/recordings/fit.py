"""Fit a model by Gauss–Newton on exact sensitivities, with Levenberg–Marquardt damping."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.recordings.journal import parameters, plain
from metaplast.recordings.moments import Moments, Problem
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.pieces import DivergedError, Parameters
from metaplast.terms.time_constants import MOST_TAU

_ITERATIONS = 60
TOLERANCE = 1e-10
_DAMPING = 1e-12
# A rejected step raises the damping by this factor, up to the maximum.
_RAISE, _MOST_DAMPING = 30.0, 1e8
# The largest step of log τ.
_FARTHEST = 1.0


@dataclass(frozen=True, eq=False)
class Fit:
    """A model fitted to data.

    Attributes:
        terms: the terms of the rule.
        parameters: the fitted values.
        moments: the moments at these values.
    """

    terms: tuple[MonomialTerm, ...]
    parameters: Parameters
    moments: Moments

    @property
    def theta(self) -> Numbers:
        """The coefficients, [term]."""
        return self.parameters.theta


def fit(
    problem: Problem, terms: tuple[MonomialTerm, ...], start: Parameters | None = None, *,
    tolerance: float = TOLERANCE,
) -> Fit:  # fmt: skip
    """Return the model with the lowest deviance, by Gauss–Newton from `start`.

    Each step solves (H + λ diag H) δ = u; λ rises until the deviance falls. A step is rejected if
    the weights diverge after it.

    Args:
        problem: the data.
        terms: the terms of the rule.
        start: where to begin; None for no plasticity.
        tolerance: the fit has converged if a step would lower the deviance by less than this
            fraction.

    Raises:
        DivergedError: if the weights already diverge at the start.
    """
    key = " ".join(["fit", *(term.name for term in terms)])
    known = problem.journal.recall(key)
    if known is not None:
        if known.get("diverged"):
            raise DivergedError
        at = parameters(known)
        return Fit(terms, at, problem.moments(terms, at))
    try:
        found = _newton(problem, terms, start or none(problem, len(terms)), tolerance)
    except DivergedError:
        problem.journal.keep(key, {"diverged": True})
        raise
    problem.journal.keep(key, plain(found.parameters))
    return found


def _newton(
    problem: Problem, terms: tuple[MonomialTerm, ...], at: Parameters, tolerance: float
) -> Fit:
    moments = problem.moments(terms, at)
    damping = _DAMPING
    for _ in range(_ITERATIONS):
        information, score = moments.information.sum(0), moments.score.sum(0)
        promised = float(score @ solved(information, score))
        promised += moments.blocks.promised if moments.blocks else 0.0
        if promised <= tolerance * moments.total + 1e-28 * moments.count.sum():
            break
        better = None
        while better is None and damping < _MOST_DAMPING:
            try:
                tried = _moved(at, _step(information, score, damping), moments, problem)
                found = problem.moments(terms, tried)
            except (DivergedError, np.linalg.LinAlgError):
                damping = max(damping, 1e-3) * _RAISE
                continue
            if found.total <= moments.total:
                better = tried, found
            else:
                damping = max(damping, 1e-6) * _RAISE
        if better is None:
            break
        fallen = moments.total - better[1].total
        at, moments = better
        damping = max(damping / _RAISE, _DAMPING)
        if fallen <= tolerance * moments.total:
            break
    return Fit(terms, at, moments)


def none(problem: Problem, terms: int) -> Parameters:
    """Return parameters without plasticity, at the given initial weights."""
    shift: dict[int, Numbers] = {}
    if problem.free.initial:
        for each in problem.data.trajectories:
            shift[each.animal] = np.zeros_like(each.initial)
    return Parameters(
        np.zeros(terms), shift=shift, log_taus=tuple(math.log(c.tau) for c in problem.free.clocks)
    )


def solved(information: Numbers, right: Numbers) -> Numbers:
    """Return H⁺ right, with H scaled to a unit diagonal.

    Directions without information are left out.
    """
    if not len(information):
        return np.zeros_like(right)
    size = np.sqrt(np.maximum(np.diag(information), 1e-300))
    scaled = information / np.outer(size, size)
    values, vectors = np.linalg.eigh(scaled)
    kept = values > 1e-14 * max(values.max(), 1e-300)
    basis = vectors[:, kept]
    rest = (right.T / size).T
    inner = basis.T @ rest
    inner = (inner.T / values[kept]).T
    return np.asarray(((basis @ inner).T / size).T)


def _step(information: Numbers, score: Numbers, damping: float) -> Numbers:
    if not len(score):
        return score
    diagonal = np.diag(np.diag(information))
    return solved(information + damping * diagonal, score)


def _moved_taus(before: tuple[float, ...], step: list[float]) -> tuple[float, ...]:
    """Return log τ after a step, and remove its entries from `step`."""
    found = []
    for value in before:
        change = min(max(float(step.pop(0)), -_FARTHEST), _FARTHEST)
        found.append(min(max(value + change, 0.0), math.log(MOST_TAU)))
    return tuple(found)


def _moved(at: Parameters, step: Numbers, moments: Moments, problem: Problem) -> Parameters:
    terms = len(at.theta)
    rest = list(step[terms:])
    moved = replace(at, theta=at.theta + step[:terms], log_taus=_moved_taus(at.log_taus, rest))
    if problem.free.scale:
        moved = replace(moved, scale=at.scale + float(rest.pop(0)))
    if problem.free.gain:
        moved = replace(moved, gain=at.gain + float(rest.pop(0)))
    if moments.blocks is not None:
        back, own = moments.blocks.projection, moments.blocks.step
        shift = {
            animal: old + own[animal] - np.einsum("iqj,q->ij", back[animal], step)
            for animal, old in at.shift.items()
        }
        moved = replace(moved, shift=shift)
    return moved
