"""The plan of an elimination: which terms to leave out together, and the order of the others.

The plan comes from a look at the fitted rule without each term, before any refit. A look costs a
fraction of a refit: a few tasks, without gradient. It does not decide anything, because a refit may
make up for a lost term. But it says which refits are worth their cost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from metaplast.discovery.fits import CLEAR, Fit, is_hopeless
from metaplast.terms.complexity import complexity
from metaplast.terms.term import Term


@dataclass(frozen=True)
class Plan:
    """What elimination tries.

    Attributes:
        order: the terms by position, in the order in which they are left out one by one.
        together: those to leave out all at once first, in the order in which they joined.
        vital: those without which the rule is hopeless unless a refit helps.
    """

    order: tuple[int, ...]
    together: tuple[int, ...] = ()
    vital: frozenset[int] = frozenset()


def plan(
    fit: Fit, terms: Sequence[Term], bare: Callable[[Sequence[int]], Fit], least: float
) -> Plan:
    """Return the plan of an elimination that starts from a fit.

    Vital terms come last: a term that the rule needs must be tried again whenever another one has
    been dropped. Within both groups, the most complex terms come first, so that of two terms that
    can replace each other, the simpler one stays.

    In the same order, each term that is not vital joins those to leave out together, if the loss of
    all of them stays below `CLEAR` times the least effect.

    Args:
        fit: the rule that elimination starts from.
        terms: the pool that positions refer to.
        bare: measures the fit without the terms at some positions, not refitted.
        least: the least effect, a change of the score.
    """
    if len(fit.kept) < 2:
        return Plan(fit.kept)
    alone = {k: bare([k]) for k in fit.kept}
    vital = frozenset(k for k in fit.kept if is_hopeless(alone[k].score, fit.score, least))
    harm = {k: -alone[k].gain_over(fit) for k in fit.kept}
    order = ordered(fit.kept, terms, harm, vital)
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
) -> list[int]:
    """Return the order in which to leave terms out: vital ones last, otherwise complex ones first.

    Args:
        kept: positions of the terms.
        terms: the pool that positions refer to.
        harm: how much the score falls without each term before a refit; of equally complex terms,
            the least important comes first.
        vital: the vital terms.
    """
    return sorted(kept, key=lambda k: (k in vital, -complexity(terms[k]), harm[k]))
