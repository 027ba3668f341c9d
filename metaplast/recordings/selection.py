"""Selection of terms: forward by score tests, backward by t, then exchanges of terms.

1. Forward: of the candidates whose score test is significant over all candidates together, the one
   that saves most deviance enters; the rule is refitted.
2. Backward: a term leaves if its t is below the threshold.
3. Exchanges: a term may be replaced by another, or two by one, or one may leave, if that lowers

       deviance / φ + t*² · number of terms,

   t* being the threshold of a t test corrected for the number of candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from metaplast.base.bands import LEVEL
from metaplast.recordings.fit import Fit, fit, none
from metaplast.recordings.moments import Moments, Problem
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.pieces import DivergedError
from metaplast.recordings.quadratic import Quadratic
from metaplast.recordings.score import ScoreTest, errors, quadratic_of, score_test

Told = Callable[[str], None]
# Exchanges that are refitted in a round, best first by the quadratic deviance.
_TRIED = 6
_MOST_TERMS = 20
# Convergence while terms are chosen; the selected rule is fitted to the end.
_COARSE = 1e-6
# The share of a weight that is lost in a step where a search begins with decay.
_DECAY = 0.1


@dataclass(frozen=True)
class Step:
    """A step of the selection.

    Attributes:
        what: "added", "removed", "exchanged" or "began with".
        terms: the rule after it.
        term: the term that entered or left.
        z: its score statistic, or its t.
        p: probability of the largest |z| over all candidates; 1 if it was not tested.
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
        fit: of its terms.
        pool: all candidates.
        steps: in order.
        test: score test of the absent candidates at the end.
        quadratic: deviance near the fit, over the whole pool.
        moments: of the whole pool at the fit.
        threshold: t*.
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
        """Numbers of the selected terms in the pool."""
        return [self.pool.index(term) for term in self.fit.terms]


def threshold(candidates: int, clusters: int) -> float:
    """Return t*: two-sided, at 1 − LEVEL divided by the number of candidates."""
    from scipy.special import stdtrit

    tail = (1 - LEVEL) / (2 * candidates)
    return float(stdtrit(max(clusters - 1, 1), 1 - tail))


@dataclass
class _Search:
    """The state of a selection."""

    problem: Problem
    pool: tuple[MonomialTerm, ...]
    told: Told
    seed: int
    current: Fit
    steps: list[Step]
    limit: float

    @property
    def kept(self) -> list[int]:
        return [self.pool.index(term) for term in self.current.terms]

    def look(self) -> tuple[Moments, Quadratic]:
        """Return the moments of the whole pool at the current fit, and their quadratic."""
        theta = np.zeros(len(self.pool))
        theta[self.kept] = self.current.theta
        at = replace(self.current.parameters, theta=theta)
        moments = self.problem.moments(self.pool, at)
        others = at.others(self.problem.free)
        return moments, quadratic_of(moments, theta, self.problem.loss, others)

    def refitted(self, kept: Sequence[int], quadratic: Quadratic) -> Fit | None:
        """Return the fit of some terms, begun where the quadratic deviance is least."""
        terms = tuple(self.pool[k] for k in kept)
        at = self.current.parameters
        starts = [quadratic.fitted(kept), np.zeros(len(kept))]
        for theta in starts:
            start = replace(at, theta=np.asarray(theta, dtype=float))
            try:
                return fit(self.problem, terms, start, tolerance=_COARSE)
            except DivergedError:
                continue
        return None

    def take(self, found: Fit, step: Step) -> None:
        self.current = found
        self.steps.append(step)
        self.told(f"{step.what} {step.term}: {len(found.terms)} terms")


def select(
    problem: Problem, pool: tuple[MonomialTerm, ...], *, seed: int = 0, told: Told = lambda _: None
) -> Selection:
    """Return the selected rule; see the module's text.

    Args:
        problem: the data.
        pool: candidates.
        seed: of the random signs in score tests.
        told: receives a line about each step.
    """
    limit = threshold(len(pool), problem.data.clusters)
    null = fit(problem, (), none(problem, 0))
    search = _Search(problem, pool, told, seed, null, [], limit)
    _grow(search)
    if not search.current.terms:
        _grow_from_decay(search, null)
    return _ended(search)


def select_from(
    problem: Problem, pool: tuple[MonomialTerm, ...], found: Fit, steps: Sequence[Step],
    limit: float, seed: int, told: Told,
) -> Selection:  # fmt: skip
    """Return the rule that a selection from another rule leads to.

    Args:
        problem: the data.
        pool: candidates; the terms of the rule are among them.
        found: the rule.
        steps: that led to it.
        limit: t*.
        seed: of the random signs in score tests.
        told: receives a line about each step.
    """
    search = _Search(problem, pool, told, seed, found, list(steps), limit)
    _grow(search)
    return _ended(search)


def selection_of(
    problem: Problem, pool: tuple[MonomialTerm, ...], found: Fit, steps: Sequence[Step],
    limit: float, seed: int,
) -> Selection:  # fmt: skip
    """Return a fitted rule as a selection; see `select_from`."""
    search = _Search(problem, pool, lambda _: None, seed, found, list(steps), limit)
    moments, quadratic = search.look()
    test = score_test(moments, search.kept, quadratic, len(pool), seed=seed)
    return Selection(found, pool, tuple(steps), test, quadratic, moments, limit)


def _ended(search: _Search) -> Selection:
    """Return the search as a selection, with its rule fitted to the end."""
    found = fit(search.problem, search.current.terms, search.current.parameters)
    return selection_of(search.problem, search.pool, found, search.steps, search.limit, search.seed)


def _grow(search: _Search) -> None:
    """Add, remove and exchange terms until nothing improves."""
    seen: set[frozenset[int]] = set()
    size = len(search.pool)
    while len(search.current.terms) < min(_MOST_TERMS, size):
        moments, quadratic = search.look()
        test = score_test(moments, search.kept, quadratic, size, seed=search.seed)
        if not _add(search, test, quadratic):
            break
        _remove(search)
        if frozenset(search.kept) in seen:
            break
        seen.add(frozenset(search.kept))
    _exchange(search)


def _grow_from_decay(search: _Search, null: Fit) -> None:
    """Grow a rule from weights that decay, and keep it if it is far better than no plasticity.

    Where weights are forgotten soon, no single term helps: without decay, the effect of a change
    lasts for ever. So a rule of several terms can only be seen from weights that decay.
    """
    decay = MonomialTerm(weight=1)
    if decay not in search.pool:
        return
    start = replace(null.parameters, theta=np.array([-_DECAY / search.problem.layer.eta]))
    try:
        search.current = fit(search.problem, (decay,), start, tolerance=_COARSE)
    except DivergedError:
        return
    search.steps.append(Step("began with", (decay,), decay.label, 0.0))
    _grow(search)
    _, quadratic = search.look()
    fallen = (null.moments.total - search.current.moments.total) / quadratic.dispersion
    count = len(search.current.terms)
    if not count or fallen < search.limit**2 * count:
        search.current, search.steps = null, []


def _add(search: _Search, test: ScoreTest, quadratic: Quadratic) -> bool:
    """Let the best significant candidate enter; return False if none lowers the deviance enough."""
    significant = np.flatnonzero(test.p <= 1 - LEVEL)
    best: tuple[int, Fit] | None = None
    # What the quadratic promises may not be there: the best few are refitted.
    order = sorted(significant.tolist(), key=lambda k: -test.gain[k])[:_TRIED]
    for place, k in enumerate(order):
        found = search.refitted([*search.kept, k], quadratic)
        if found is not None and (best is None or found.moments.total < best[1].moments.total):
            best = k, found
        # The next one promises less than this one gave.
        following = test.gain[order[place + 1]] if place + 1 < len(order) else 0.0
        if best is not None and _fallen(search, best[1], quadratic) >= following:
            break
    if best is None:
        return False
    entered, found = best
    if _fallen(search, found, quadratic) < search.limit**2 / 2:
        return False
    label, z, p = search.pool[entered].label, float(test.z[entered]), float(test.p[entered])
    search.take(found, Step("added", found.terms, label, z, p))
    return True


def _fallen(search: _Search, found: Fit, quadratic: Quadratic) -> float:
    """Return how much less the deviance of another model is, in units of φ."""
    return (search.current.moments.total - found.moments.total) / quadratic.dispersion


def _remove(search: _Search) -> None:
    """Let terms leave without which the deviance hardly rises, the weakest first."""
    while len(search.current.terms) > 1:
        # While terms are missing, clusters differ by them: errors by clusters are too large.
        spread = errors(search.current, search.problem.loss)
        t = search.current.theta / np.maximum(spread.by_model, 1e-300)
        weakest = int(np.argmin(np.abs(t)))
        if abs(t[weakest]) >= spread.quantile:
            return
        kept = search.kept
        del kept[weakest]
        _, quadratic = search.look()
        found = search.refitted(kept, quadratic)
        if found is None:
            return
        # Far from zero a t may be small although the term matters: the deviance decides.
        if -_fallen(search, found, quadratic) >= spread.quantile**2:
            return
        label = search.current.terms[weakest].label
        search.take(found, Step("removed", found.terms, label, float(t[weakest])))


def _exchange(search: _Search) -> None:
    for _ in range(10):
        kept = search.kept
        if not kept:
            return
        _, quadratic = search.look()
        penalty = search.limit**2
        now = search.current.moments.total / quadratic.dispersion + penalty * len(kept)
        found = None
        for tried in _exchanges(kept, len(search.pool), quadratic, penalty)[:_TRIED]:
            other = search.refitted(tried, quadratic)
            if other is None:
                continue
            cost = other.moments.total / quadratic.dispersion + penalty * len(tried)
            if cost < now - 1e-6 * abs(now) * (found is None) - 1e-9:
                now, found = cost, other
        if found is None:
            return
        left = set(search.current.terms) - set(found.terms)
        came = set(found.terms) - set(search.current.terms)
        words = " and ".join(t.label for t in sorted(left))
        words += f" for {' and '.join(t.label for t in sorted(came))}" if came else ""
        search.take(found, Step("exchanged", found.terms, words, 0.0))


def _exchanges(
    kept: list[int], candidates: int, quadratic: Quadratic, penalty: float
) -> list[list[int]]:
    """Return the neighbours of a model, best first by the quadratic deviance."""
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
                for place in np.argsort(-gains)[:_TRIED]:
                    value = base + float(gains[place]) - penalty * (len(rest) + 1)
                    found.append((value, [*rest, absent[place]]))
    found.sort(key=lambda each: -each[0])
    return [model for _, model in found]
