"""Choose the terms to keep by elimination on validation tasks, after the size threshold.

An L1 penalty by itself leaves redundant terms: several candidates have nearly the same effect, and
the penalty does not prefer one of them. So selection leaves out terms that survived the search:
first all those that seem harmless to remove (see `plan`), then each other term. It refits the rule
without them and compares the scores on the same validation tasks. It keeps a term only if the band
of the paired difference lies below zero and the loss is at least the least effect. The second
condition is needed because with many tasks even negligible effects, such as that of an unconverged
refit, become significant.

The remaining rule is refitted once more, so that it has had as many refits as its neighbours, the
rules with one term fewer or one term more. Then it is compared with them. Removing any of its terms
must still make it worse. Putting back any other term that is worth trying must not improve it. An
improvement must be at least the least effect, with its band above zero, both on the validation
tasks and on fresh tasks that were not used before, because the best of many terms may win by
chance. If a neighbour wins, elimination restarts from it; the rule of the last round is final. But
if removing a term seemed harmless, and the smaller rule is worse than the larger one after further
refits, the larger rule is restored.

Two more steps handle what such a comparison cannot detect. A term may hide a better one with nearly
the same effect. So if no dropped term helps, selection tries rules with one term in place of
another, see `_swaps`. And where learning is chaotic, a refit may fail. If the refit of the
remaining rule loses more than `CLEAR` times the least effect, the rule before that refit is used.
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

    All fits are refitted once from the same coefficients on the same tasks, so no fit is better
    only because it was trained longer.

    Attributes:
        fit: the rule.
        missed: for each of its terms, by position, the fit without it.
        spare: for each dropped term that was tried again, the fit with it put back.
        errors: for each other dropped term, the gradient for it at the rule, in standard errors.
    """

    fit: Fit
    missed: Mapping[int, Fit]
    spare: Mapping[int, Fit]
    errors: Mapping[int, float] = field(default_factory=dict)


class Refitter(Protocol):
    """Trains rules that differ from a fit by some terms, and measures them.

    Every method except `fresh` measures the score on the same validation tasks, or on the first of
    them.
    """

    def without(self, fit: Fit, positions: Sequence[int], best: Fit) -> Fit:
        """Return the refit without the terms at some positions of the pool.

        It may be measured on only the first validation tasks, if these show that it is much worse
        than the best fit.
        """

    def put_back(self, fit: Fit, position: int, instead: int | None = None) -> Fit:
        """Return the refit with the term at a position of the pool put back.

        The term may replace another one, `instead`, which the fit does not have.
        """

    def again(self, fit: Fit) -> Fit:
        """Return the refit of the same terms."""

    def longer(self, fit: Fit) -> Fit:
        """Return another refit of the same terms, to compare with rules refitted as often."""

    def rival(self, without: Fit, position: int) -> int | None:
        """Return the term to try in place of one that a fit does not have, or None."""

    def worth_trying(self, fit: Fit) -> tuple[Sequence[int], Mapping[int, float]]:
        """Return the terms of the pool to put back, and the gradient for each other dropped term.

        The gradient is the one at the fit, in standard errors.
        """

    def fresh(self, fit: Fit, turn: int) -> Fit:
        """Return the same rule, measured on fresh tasks, which are new in each round."""

    def bare(self, fit: Fit, positions: Sequence[int]) -> Fit:
        """Return the fit without the terms at some positions, without a refit.

        It is measured on the first validation tasks only.
        """


def select(
    start: Fit,
    terms: Sequence[Term],
    refits: Refitter,
    least: float = 0.0,
    rounds: int = 6,
    joined: Mapping[int, int] | None = None,
) -> Selection:
    """Drop the terms that the rule does not need, then try to put each dropped one back.

    Args:
        start: the candidates, fitted.
        terms: the pool that positions refer to.
        refits: trains and measures each rule that is tried.
        least: the least effect, a change of the score.
        rounds: the largest number of elimination rounds.
        joined: when each term joined a rule that grew, see `metaplast.discovery.plan.ordered`.
    """
    best = start
    # The rule before its last term was dropped, because that term seemed unnecessary.
    larger: tuple[Fit, Fit, dict[int, Fit]] | None = None
    for turn in range(rounds):
        last = turn == rounds - 1
        left, fit, missed = _remaining(start, terms, refits, best, least, joined)
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
    start: Fit, terms: Sequence[Term], refits: Refitter, best: Fit, least: float,
    joined: Mapping[int, int] | None,
) -> tuple[Fit, Fit, dict[int, Fit]]:  # fmt: skip
    """Return the rule that elimination leaves, its refit, and the fit without each of its terms.

    Args:
        start: the fit that elimination starts from.
        terms: the pool that positions refer to.
        refits: trains and measures each rule that is tried.
        best: the best fit so far.
        least: the least effect.
        joined: as for `select`.
    """
    course = plan(start, terms, partial(refits.bare, start), least, joined)
    left, missed = eliminate(start, course, refits.without, best, least)
    fit = refits.again(left)
    if fit.is_worse_than(left, CLEAR * least):
        fit = left
    # The refit may have set the coefficient of another term to zero.
    kept = {k: without for k, without in missed.items() if k in fit.kept}
    return left.only(fit.kept), fit, kept


def _swaps(
    fit: Fit, missed: Mapping[int, Fit], refits: Refitter, turn: int, least: float
) -> list[Fit]:
    """Return the fits with one term replaced by another that are better than the fit.

    If two terms can replace each other, the gradient at a rule that has one of them does not
    support the other. The gradient at the rule refitted without the first one does. Terms without
    which the rule is hopeless are skipped, because the gradient there is too far from that of any
    good rule.

    Args:
        fit: the rule, refitted.
        missed: for each of its terms, the fit without it; a hopeless fit has fewer tasks.
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
    # The swapped rules have had one refit more than `fit`.
    fit = best_of([fit, refits.longer(fit)])
    return _better(fit, swapped, refits, turn, least)


def _better(
    fit: Fit, others: Sequence[Fit], refits: Refitter, turn: int, least: float
) -> list[Fit]:
    """Return the fits that are better than `fit`, also on the fresh tasks of the round."""
    better = [other for other in others if fit.is_worse_than(other, least)]
    if not better:
        return []
    again = refits.fresh(fit, turn)
    return [other for other in better if again.is_worse_than(refits.fresh(other, turn), least)]
