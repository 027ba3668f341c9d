"""Drop terms: those with small coefficients, then those without which the rule is as good."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from metaplast.discovery.fits import Fit, best_of, is_hopeless
from metaplast.discovery.plan import Plan
from metaplast.terms.coefficients import Coefficients

Refit = Callable[[Fit, Sequence[int], Fit], Fit]


def keep_terms(u: Coefficients, threshold: float) -> list[int]:
    """Return the positions of the terms whose scaled coefficient is not negligible.

    A term k is kept if max_ℓ |u_ℓk| > threshold · max_ℓj |u_ℓj|, where u is θ divided by the term's
    scale. So two terms with equal u make updates of about equal size.

    Args:
        u: scaled coefficients.
        threshold: share of the largest coefficient, 0 … 1.
    """
    sizes = u.largest
    return [k for k in range(len(u.names)) if sizes[k] > threshold * sizes.max()]


def eliminate(
    start: Fit, plan: Plan, refit: Refit, best: Fit | None = None, least: float = 0.0
) -> tuple[Fit, dict[int, Fit]]:
    """Drop terms until the rule needs each remaining one.

    The rule needs a term if the refit without it is worse than the best fit so far: the loss of
    score is at least the least effect, and the band of the difference lies below zero. The
    comparison is with the best fit, not with the last one, so that small losses do not add up.
    Passes over the terms are repeated until every remaining term has been tried against the final
    rule.

    First, the terms that the plan names are left out all at once. If the rule is worse without
    them, the last third of them goes back into the rule, and the others are left out again, and so
    on. All other terms are then tried one by one. A term without which the rule is hopeless is
    tried last, when no other term can be dropped.

    Args:
        start: all candidates, fitted.
        plan: which terms to try together, and the order of all.
        refit: returns the refit of a fit without the terms at some positions. If it is much worse
            than the best fit, which is the last argument, it may be measured on fewer tasks.
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
        if position not in current.kept:  # Dropped with others, or its coefficient became zero.
            continue
        without = refit(current, [position], best)
        if without.is_worse_than(best, least):
            missed[position] = without
            if is_hopeless(without.score, best.score, least):
                vital.add(position)
            continue
        current = without
        best = best_of([best, current])
        # The rule has changed, so terms that it needed so far are tried again, after the others.
        queue += missed
        missed = {}
    return current, missed


def _without_many(
    start: Fit, together: Sequence[int], refit: Refit, best: Fit, least: float
) -> Fit:
    """Return the refit without as many of some terms as can be dropped together.

    Args:
        start: the fit of all terms.
        together: the terms, in the order in which they joined; see `Plan`.
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
