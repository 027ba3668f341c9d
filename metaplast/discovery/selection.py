"""Choose the terms to keep: a size threshold, then elimination on validation tasks.

An L1 penalty by itself leaves redundant terms: several candidates do nearly the same, and the
penalty has no reason to prefer one. So selection tries to do without the terms that survive the
search: first without all those that a look finds harmless, then without each other term. It refits
the rule without them and compares the score on the same validation tasks. It keeps a term only if
the band of the paired difference lies below zero and the loss is at least the least effect: with
many tasks even negligible effects, such as an unconverged refit, become significant.

The remaining rule is refitted as it is and compared with its neighbours on equal terms. Each of its
terms must still be missed. No other term that is worth trying may improve the rule when it is put
back. An improvement is at least the least effect, with its band above zero, both here and on fresh
tasks that had no part in the choice, because the best of many terms may win by luck. If a neighbour
wins, elimination restarts from it; the rule of the last round is final. But if a rule without a
needless term gets worse than the rule with it in further refits, the term was not needless, and the
rule with it comes back.

Two more rules deal with what such a comparison cannot see. A term may hide a better one that does
nearly the same. So if no dropped term helps, the rules with one term in place of another are tried,
see `_swaps`. And where learning is chaotic, a refit may go astray. If the refit of the remaining
rule costs more than `CLEAR` times the least effect, the rule before it is the one that is compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from metaplast.discovery.elimination import eliminate
from metaplast.discovery.fits import CLEAR, Fit, best_of
from metaplast.discovery.plan import plan
from metaplast.terms.term import Term


@dataclass(frozen=True)
class Selection:
    """The rule that selection chose, and the evidence for it.

    Every fit is one refit away from the same coefficients and uses the same tasks, so no fit is
    better only because it was trained longer.

    Attributes:
        fit: the rule.
        missed: for each of its terms, the fit without it.
        spare: for each dropped term of the pool that was tried again, the fit with it put back.
        errors: for each other term, the gradient for it at the rule, in standard errors.
    """

    fit: Fit
    missed: Mapping[int, Fit]
    spare: Mapping[int, Fit]
    errors: Mapping[int, float] = field(default_factory=dict)


class Refitter(Protocol):
    """Trains rules that differ from a fit by one term, and measures them.

    Every method but `fresh` measures the score on the same validation tasks, or the first of them.
    """

    def without(self, fit: Fit, positions: Sequence[int], best: Fit) -> Fit:
        """Return the refit without the terms at some positions of the pool.

        It may be measured on only the first validation tasks, if these show that it is much worse
        than the best fit.
        """

    def put_back(self, fit: Fit, position: int, instead: int | None = None) -> Fit:
        """Return the refit with the term at a position of the pool put back.

        The fit may be one without another term, whose place the term takes.
        """

    def again(self, fit: Fit) -> Fit:
        """Return the refit of the same terms."""

    def longer(self, fit: Fit) -> Fit:
        """Return the refit of the same terms after they were refitted again."""

    def rival(self, without: Fit, position: int) -> int | None:
        """Return the term to try in place of the one that a fit is without, if there is one."""

    def worth_trying(self, fit: Fit) -> tuple[Sequence[int], Mapping[int, float]]:
        """Return the terms of the pool to put back, and why each other one is not put back.

        The reason is the gradient for the term at the fit, in standard errors.
        """

    def fresh(self, fit: Fit, turn: int) -> Fit:
        """Return the same rule, measured on other tasks: new ones in each round."""

    def bare(self, fit: Fit, positions: Sequence[int]) -> Fit:
        """Return the fit without the terms at some positions, not refitted.

        It is measured on the first validation tasks.
        """


def select(
    start: Fit,
    terms: Sequence[Term],
    refits: Refitter,
    least: float = 0.0,
    rounds: int = 6,
) -> Selection:
    """Drop the terms that the rule does not need, then try to put each dropped one back.

    Args:
        start: the candidates, fitted.
        terms: the pool that positions refer to.
        refits: trains and measures each rule that is tried.
        least: the least effect, a change of the score.
        rounds: the largest number of elimination rounds.
    """
    best = start
    # The rule that had one term more, which seemed needless.
    larger: tuple[Fit, Fit, dict[int, Fit]] | None = None
    for turn in range(rounds):
        last = turn == rounds - 1
        left, fit, missed = _remaining(start, terms, refits, best, least)
        best = best_of([best, fit])
        needless = [other for other in missed.values() if not other.is_worse_than(fit, least)]
        if larger is not None and fit.is_worse_than(larger[1], least):
            (left, fit, missed), needless = larger, []
        larger = None
        if needless and not last:
            larger = left, fit, missed
            start = best_of(needless)
            continue
        tried, errors = refits.worth_trying(fit)
        spare = {k: refits.put_back(left, k) for k in tried}
        if last:
            break
        gains = _better(fit, list(spare.values()), refits, turn, least)
        gains = gains or _swaps(fit, missed, refits, turn, least)
        if not gains:
            break
        start = best_of(gains)
    return Selection(fit, missed, spare, errors)


def _remaining(
    start: Fit, terms: Sequence[Term], refits: Refitter, best: Fit, least: float
) -> tuple[Fit, Fit, dict[int, Fit]]:
    """Return the rule that elimination leaves, the same refitted, and the fit without each term.

    Args:
        start: the fit that elimination starts from.
        terms: the pool that positions refer to.
        refits: trains and measures each rule that is tried.
        best: the best fit so far.
        least: the least effect.
    """
    course = plan(start, terms, partial(refits.bare, start), least)
    left, missed = eliminate(start, course, refits.without, best, least)
    fit = refits.again(left)
    if fit.is_worse_than(left, CLEAR * least):
        fit = left
    # The refit may have brought another term's coefficient to zero.
    kept = {k: without for k, without in missed.items() if k in fit.kept}
    return left.only(fit.kept), fit, kept


def _swaps(
    fit: Fit, missed: Mapping[int, Fit], refits: Refitter, turn: int, least: float
) -> list[Fit]:
    """Return the fits with another term in place of one that are better than the fit.

    Of two terms that can replace each other, the gradient at the rule does not support the dropped
    one as long as the other is in it. The gradient at the rule refitted without the other does. A
    rule that is hopeless without a term is not asked: it is too far from any good rule.

    Args:
        fit: the rule, refitted.
        missed: for each of its terms, the fit without it; a hopeless one has fewer tasks.
        refits: trains and measures each rule that is tried.
        turn: the number of the round.
        least: the least effect.
    """
    swapped = []
    for position, without in missed.items():
        if len(without.score) < len(fit.score):
            continue
        rival = refits.rival(without, position)
        if rival is not None:
            swapped.append(refits.put_back(without, rival, instead=position))
    if not any(fit.is_worse_than(other, least) for other in swapped):
        return []
    # They have had one refit more.
    fit = best_of([fit, refits.longer(fit)])
    return _better(fit, swapped, refits, turn, least)


def _better(
    fit: Fit, others: Sequence[Fit], refits: Refitter, turn: int, least: float
) -> list[Fit]:
    """Return the fits that are better than `fit`, on the fresh tasks of a round as well."""
    better = [other for other in others if fit.is_worse_than(other, least)]
    if not better:
        return []
    again = refits.fresh(fit, turn)
    return [other for other in better if again.is_worse_than(refits.fresh(other, turn), least)]
