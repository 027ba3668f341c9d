"""The plan of an elimination: which terms to leave out together, and the order of the others.

To make the plan, the fitted rule is evaluated without each term, before any refit. Such a look
costs a fraction of a refit: it needs a few tasks, and no gradient. A look drops no term, because a
refit may compensate for a term that is left out. But it shows which refits are worth their cost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from metaplast.discovery.fits import CLEAR, Fit, is_hopeless
from metaplast.terms.complexity import complexity
from metaplast.terms.term import Term


@dataclass(frozen=True)
class Plan:
    """Which terms elimination leaves out, and in which order.

    Attributes:
        order: positions of the terms, in the order in which they are left out one by one.
        together: positions of the terms to leave out all at once first, in the order in which they
            were added to this group.
        vital: positions of the terms without which the rule is hopeless unless a refit helps.
    """

    order: tuple[int, ...]
    together: tuple[int, ...] = ()
    vital: frozenset[int] = frozenset()


def plan(
    fit: Fit,
    terms: Sequence[Term],
    bare: Callable[[Sequence[int]], Fit],
    least: float,
    joined: Mapping[int, int] | None = None,
) -> Plan:
    """Return the plan of an elimination that starts from a fit.

    Vital terms come last, because a term that the rule needs must be tried again whenever another
    one has been dropped. Within the vital terms and within the others, the most complex terms come
    first, so that of two terms that can replace each other, the simpler one stays.

    In the same order, each term that is not vital is added to the terms to leave out together, if
    the rule without all of them loses at most `CLEAR` times the least effect. One term always stays
    in the rule.

    Args:
        fit: the rule that elimination starts from.
        terms: the pool that positions refer to.
        bare: measures the fit without the terms at some positions, without a refit.
        least: the least effect, a change of the score.
        joined: as for `ordered`.
    """
    if len(fit.kept) < 2:
        return Plan(fit.kept)
    alone = {k: bare([k]) for k in fit.kept}
    vital = frozenset(k for k in fit.kept if is_hopeless(alone[k].score, fit.score, least))
    harm = {k: -alone[k].gain_over(fit) for k in fit.kept}
    order = ordered(fit.kept, terms, harm, vital, joined)
    together: list[int] = []
    for k in order:
        # The last term of a rule stays.
        if k in vital or len(together) + 1 == len(order):
            continue
        without = bare(sorted([*together, k])) if together else alone[k]
        if without.gain_over(fit) >= -CLEAR * least:
            together.append(k)
    return Plan(tuple(order), tuple(together), vital)


def ordered(
    kept: Sequence[int],
    terms: Sequence[Term],
    harm: Mapping[int, float],
    vital: frozenset[int] = frozenset(),
    joined: Mapping[int, int] | None = None,
) -> list[int]:
    """Return the order in which to leave terms out: vital ones last, otherwise complex ones first.

    Of equally complex terms of a rule that grew, those that joined it first come first: terms that
    joined later may have made them needless, although the rule depends on them until it is
    refitted. Terms that never joined come last: those that the rule began with, and those that
    selection put back. Of terms that joined together, as in a rule that did not grow, the one with
    the least harm comes first.

    Args:
        kept: positions of the terms.
        terms: the pool that positions refer to.
        harm: how much the score falls without each term before a refit.
        vital: the vital terms.
        joined: when each term joined a rule that grew.
    """
    when = joined or {}
    return sorted(
        kept,
        key=lambda k: (k in vital, -complexity(terms[k]), when.get(k, math.inf), harm[k]),
    )
