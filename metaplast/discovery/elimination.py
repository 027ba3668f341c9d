"""The size threshold and the elimination of terms: which terms are dropped, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from metaplast.discovery.fits import Fit, best_of, is_hopeless
from metaplast.discovery.plan import Plan
from metaplast.terms.coefficients import Coefficients

Refit = Callable[[Fit, Sequence[int], Fit], Fit]


def keep_terms(u: Coefficients, threshold: float) -> list[int]:
    """Return the positions of the terms whose scaled coefficient is not negligible.

    A term is kept if max_ℓ |u_ℓ| > threshold · max over all terms. Units matter: u is θ divided by
    the term's scale, so that equal u means updates of about equal size.

    Args:
        u: scaled coefficients.
        threshold: share of the largest, 0 … 1.
    """
    sizes = u.largest
    return [k for k in range(len(u.names)) if sizes[k] > threshold * sizes.max()]


def eliminate(
    start: Fit, plan: Plan, refit: Refit, best: Fit | None = None, least: float = 0.0
) -> tuple[Fit, dict[int, Fit]]:
    """Drop terms until the rule needs each remaining one.

    A term is missed if the refit without it is worse than the best fit so far: the difference is at
    least the least effect, and its band lies below zero. Comparing with the best fit, not the last
    one, keeps small losses from adding up. Passes over the terms are repeated until every remaining
    term has been tried against the final rule.

    The plan names terms to leave out all at once first. If the rule misses them, the third that
    joined last stays in the rule, and so on. All other terms are tried one by one. A term without
    which the rule is hopeless waits until no other one can be dropped.

    Args:
        start: all candidates, fitted.
        plan: which terms to try together, and the order of all.
        refit: returns the fit without the terms at some positions; it may measure a fit that is
            much worse than the best one, its last argument, on fewer tasks.
        best: the best fit so far; None for `start`.
        least: the least effect, a change of the score.

    Returns:
        The final fit, and for each of its terms the fit without it.
    """
    best = best_of([start, best or start])
    current = _without_many(start, plan.together, refit, best, least)
    best = best_of([best, current])
    queue, vital = list(plan.order), set(plan.vital)
    missed: dict[int, Fit] = {}
    while queue and len(current.kept) > 1:
        position = next((k for k in queue if k not in vital), queue[0])
        queue.remove(position)
        if position not in current.kept:  # Dropped with others, or zero after a refit.
            continue
        without = refit(current, [position], best)
        if without.is_worse_than(best, least):
            missed[position] = without
            if is_hopeless(without.score, best.score, least):
                vital.add(position)
            continue
        current = without
        best = best_of([best, current])
        # The rule has changed: terms missed so far are tried again, after the others.
        queue += missed
        missed = {}
    return current, missed


def _without_many(
    start: Fit, together: Sequence[int], refit: Refit, best: Fit, least: float
) -> Fit:
    """Return the refit without as many of some terms as can be dropped at once.

    Args:
        start: the fit of all terms.
        together: the terms, in the order in which they joined.
        refit: as for `eliminate`.
        best: the best fit so far.
        least: the least effect.
    """
    while len(together) > 1:
        without = refit(start, sorted(together), best)
        if not without.is_worse_than(best, least):
            return without
        together = together[: len(together) - max(1, len(together) // 3)]
    return start
