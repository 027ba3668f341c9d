"""The state of a selection: the current rule, the steps that led to it, and its statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from metaplast.recordings.fit import Fit, fit
from metaplast.recordings.moments import Moments, Problem
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.pieces import DivergedError
from metaplast.recordings.quadratic import Quadratic
from metaplast.recordings.score import ScoreTest, quadratic_of, score_test

Told = Callable[[str], None]
# Number of candidates or exchanges that are refitted in a round, best first by the quadratic
# deviance.
TRIED = 6
# Tolerance of fits during the selection; the selected rule is fitted to full convergence.
COARSE = 1e-6


@dataclass(frozen=True)
class Step:
    """A step of the selection.

    Attributes:
        what: "added", "removed", "exchanged" or "began with".
        terms: the rule after the step.
        term: the term that entered or left.
        z: its score statistic, or its t.
        p: its p value, see `ScoreTest`; 1 if it was not tested.
    """

    what: str
    terms: tuple[MonomialTerm, ...]
    term: str
    z: float
    p: float = 1.0


@dataclass(frozen=True, eq=False)
class Selection:
    """The selected rule.

    Attributes:
        fit: the fit of its terms.
        pool: all candidates.
        steps: the steps of the selection, in order.
        test: score test of the absent candidates at the end.
        quadratic: deviance near the fit, over the whole pool.
        moments: sums over the whole pool at the fit.
        threshold: the threshold t* of `selection`.
    """

    fit: Fit
    pool: tuple[MonomialTerm, ...]
    steps: tuple[Step, ...]
    test: ScoreTest
    quadratic: Quadratic
    moments: Moments
    threshold: float

    @property
    def kept(self) -> list[int]:
        """Indices of the selected terms in the pool."""
        return [self.pool.index(term) for term in self.fit.terms]


@dataclass
class Search:
    """The state of a selection.

    Attributes:
        problem: the data.
        pool: candidates.
        told: called with one line about each step.
        seed: seed of the random signs in score tests.
        current: the current rule.
        steps: the steps that led to it.
        limit: the threshold t* of `selection`.
    """

    problem: Problem
    pool: tuple[MonomialTerm, ...]
    told: Told
    seed: int
    current: Fit
    steps: list[Step]
    limit: float

    @property
    def kept(self) -> list[int]:
        """Indices of the rule's terms in the pool."""
        return [self.pool.index(term) for term in self.current.terms]

    def look(self) -> tuple[Moments, Quadratic]:
        """Return the moments of the whole pool at the current fit, and the quadratic deviance."""
        theta = np.zeros(len(self.pool))
        theta[self.kept] = self.current.theta
        at = replace(self.current.parameters, theta=theta)
        moments = self.problem.moments(self.pool, at)
        others = at.others(self.problem.free)
        return moments, quadratic_of(moments, theta, self.problem.loss, others)

    def refitted(self, kept: Sequence[int], quadratic: Quadratic) -> Fit | None:
        """Return the fit of some terms, or None if the weights diverge.

        The fit starts at the minimum of the quadratic deviance or, if they diverge there, at θ = 0.
        """
        terms = tuple(self.pool[k] for k in kept)
        at = self.current.parameters
        starts = [quadratic.fitted(kept), np.zeros(len(kept))]
        for theta in starts:
            start = replace(at, theta=np.asarray(theta, dtype=float))
            try:
                return fit(self.problem, terms, start, tolerance=COARSE)
            except DivergedError:
                continue
        return None

    def take(self, found: Fit, step: Step) -> None:
        """Make another rule the current one."""
        self.current = found
        self.steps.append(step)
        self.told(f"{step.what} {step.term}: {len(found.terms)} terms")


def selection_of(
    problem: Problem, pool: tuple[MonomialTerm, ...], found: Fit, steps: Sequence[Step],
    limit: float, seed: int,
) -> Selection:  # fmt: skip
    """Return a fitted rule as a selection; see `select_from`."""
    search = Search(problem, pool, lambda _: None, seed, found, list(steps), limit)
    moments, quadratic = search.look()
    test = score_test(moments, search.kept, quadratic, len(pool), seed=seed)
    return Selection(found, pool, tuple(steps), test, quadratic, moments, limit)


def exchanges(
    kept: list[int], candidates: int, quadratic: Quadratic, penalty: float
) -> list[list[int]]:
    """Return the neighbours of a model, best first by the penalised quadratic deviance."""
    absent = [k for k in range(candidates) if k not in kept]
    found: list[tuple[float, list[int]]] = []
    for count in (1, 2):
        for left in combinations(kept, count):
            rest = [k for k in kept if k not in left]
            base = quadratic.saved(rest)
            if count == 1:
                found.append((base - penalty * len(rest), rest))
            if absent:
                gains = quadratic.gains(rest, absent)
                for place in np.argsort(-gains)[:TRIED]:
                    value = base + float(gains[place]) - penalty * (len(rest) + 1)
                    found.append((value, [*rest, absent[place]]))
    found.sort(key=lambda each: -each[0])
    return [model for _, model in found]
