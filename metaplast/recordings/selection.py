"""Selection of terms: forward by score tests, backward by t, then exchanges of terms.

1. Forward: among the candidates whose score test is significant (corrected for the number of
   candidates), the one that lowers the deviance the most is added, and the rule is refitted.
2. Backward: a term is removed if its |t| is below the threshold of a single t test, and the
   deviance without it is hardly higher.
3. Exchanges: one term may be replaced by another, two by one, or one removed, if this lowers

       deviance / φ + t*² · number of terms,

   where t* is the threshold of a t test corrected for the number of candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from metaplast.base.bands import LEVEL
from metaplast.recordings.fit import Fit, fit, none
from metaplast.recordings.moments import Problem
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.pieces import DivergedError
from metaplast.recordings.quadratic import Quadratic
from metaplast.recordings.score import ScoreTest, errors, score_test
from metaplast.recordings.search import (
    COARSE,
    TRIED,
    Search,
    Selection,
    Step,
    Told,
    exchanges,
    selection_of,
)

_MOST_TERMS = 20
# The fraction of a weight that decays in a step, in a search that begins with weight decay.
_DECAY = 0.1


def threshold(candidates: int, clusters: int) -> float:
    """Return t*: two-sided, at 1 − LEVEL divided by the number of candidates."""
    from scipy.special import stdtrit

    tail = (1 - LEVEL) / (2 * candidates)
    return float(stdtrit(max(clusters - 1, 1), 1 - tail))


def select(
    problem: Problem, pool: tuple[MonomialTerm, ...], *, seed: int = 0, told: Told = lambda _: None
) -> Selection:
    """Return the selected rule; see the top of the module.

    Args:
        problem: the data.
        pool: candidates.
        seed: the seed of the random signs in score tests.
        told: receives a line about each step.
    """
    limit = threshold(len(pool), problem.data.clusters)
    null = fit(problem, (), none(problem, 0))
    search = Search(problem, pool, told, seed, null, [], limit)
    _grow(search)
    if not search.current.terms:
        _grow_from_decay(search, null)
    return _ended(search)


def select_from(
    problem: Problem, pool: tuple[MonomialTerm, ...], found: Fit, steps: Sequence[Step],
    limit: float, seed: int, told: Told,
) -> Selection:  # fmt: skip
    """Continue a selection from a given rule.

    Args:
        problem: the data.
        pool: candidates; the terms of the rule are among them.
        found: the fit of the given rule.
        steps: the steps that led to it.
        limit: the threshold t*.
        seed: the seed of the random signs in score tests.
        told: receives a line about each step.
    """
    search = Search(problem, pool, told, seed, found, list(steps), limit)
    _grow(search)
    return _ended(search)


def _ended(search: Search) -> Selection:
    """Return the result of a search, with the rule fitted to full convergence."""
    found = fit(search.problem, search.current.terms, search.current.parameters)
    return selection_of(search.problem, search.pool, found, search.steps, search.limit, search.seed)


def _grow(search: Search) -> None:
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


def _grow_from_decay(search: Search, null: Fit) -> None:
    """Grow a rule that starts with weight decay; keep it if it is far better than no plasticity.

    If the true rule forgets quickly, no single term improves the fit, because without decay the
    effect of each change would last forever. With decay in the rule from the start, the search can
    find the other terms.
    """
    decay = MonomialTerm(weight=1)
    if decay not in search.pool:
        return
    start = replace(null.parameters, theta=np.array([-_DECAY / search.problem.layer.eta]))
    try:
        search.current = fit(search.problem, (decay,), start, tolerance=COARSE)
    except DivergedError:
        return
    search.steps.append(Step("began with", (decay,), decay.label, 0.0))
    _grow(search)
    _, quadratic = search.look()
    fallen = (null.moments.total - search.current.moments.total) / quadratic.dispersion
    count = len(search.current.terms)
    if not count or fallen < search.limit**2 * count:
        search.current, search.steps = null, []


def _add(search: Search, test: ScoreTest, quadratic: Quadratic) -> bool:
    """Add the best significant candidate; return False if none lowers the deviance enough."""
    significant = np.flatnonzero(test.p <= 1 - LEVEL)
    best: tuple[int, Fit] | None = None
    # The quadratic deviance is only an approximation, so the best few candidates are refitted.
    order = sorted(significant.tolist(), key=lambda k: -test.gain[k])[:TRIED]
    for place, k in enumerate(order):
        found = search.refitted([*search.kept, k], quadratic)
        if found is not None and (best is None or found.moments.total < best[1].moments.total):
            best = k, found
        # Stop when the next candidate is predicted to gain less than the best one did.
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


def _fallen(search: Search, found: Fit, quadratic: Quadratic) -> float:
    """Return by how much another model lowers the deviance, in units of φ."""
    return (search.current.moments.total - found.moments.total) / quadratic.dispersion


def _remove(search: Search) -> None:
    """Remove terms whose removal hardly raises the deviance, the weakest first."""
    while len(search.current.terms) > 1:
        # While terms are still missing, clusters differ more than they should, so standard errors
        # from clusters are too large.
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
        # A large coefficient can have a small t although the term matters, so the deviance decides.
        if -_fallen(search, found, quadratic) >= spread.quantile**2:
            return
        label = search.current.terms[weakest].label
        search.take(found, Step("removed", found.terms, label, float(t[weakest])))


def _exchange(search: Search) -> None:
    for _ in range(10):
        kept = search.kept
        if not kept:
            return
        _, quadratic = search.look()
        penalty = search.limit**2
        now = search.current.moments.total / quadratic.dispersion + penalty * len(kept)
        found = None
        for tried in exchanges(kept, len(search.pool), quadratic, penalty)[:TRIED]:
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
