"""Choose the terms to keep: a size threshold, then elimination on validation tasks.

An L1 penalty by itself leaves redundant terms: several candidates do nearly the same, and the
penalty has no reason to prefer one. So selection tries to do without the terms that survive the
search: first without all small and complex ones together, then without each other term. It refits
the rule without them and compares the score on the same validation tasks. It keeps a term only if
the band of the paired difference lies below zero and the loss is at least the least effect: with
many tasks even negligible effects, such as an unconverged refit, become significant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from metaplast.base.bands import Band, mean_band
from metaplast.terms.algebra import Formula, Mapped, Projection
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.term import Term

# A coefficient is small below this share of the largest one, in scaled units.
SMALL = 0.5
# A rule is hopeless if the first tasks show that it is worse by so many standard errors.
CERTAIN = 5.0


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


def complexity(term: Term) -> int:
    """Return the size of a term's formula.

    It counts monomials (those in an eligibility too), gates (scalars too), projections, functions
    and powers of the weights.

    A dense term, which is outside the algebra, counts as more complex than any declared one.
    """
    return _size(term.formula) if isinstance(term.formula, Formula) else 100


def _size(formula: Formula) -> int:
    parts = 0
    for monomial in formula.monomials:
        vectors = [monomial.column, *(v for gate in monomial.gates for v in gate.vectors)]
        parts += 1 + len(monomial.gates) + sum(isinstance(v, Projection) for v in vectors)
        functions = [v for v in (monomial.row, *vectors) if isinstance(v, Mapped)]
        parts += sum(len(v.factors) for v in functions) + monomial.power
        if monomial.eligibility is not None:
            parts += _size(monomial.eligibility.formula)
    return parts


@dataclass(frozen=True)
class Fit:
    """A fitted rule of some of the terms, with its score on the validation tasks.

    Attributes:
        kept: positions of its terms in the pool.
        theta: their coefficients, in the same order.
        score: on each validation task, the same tasks for every fit, [episode]; on the first ones
            alone if these show that the fit is hopeless.
    """

    kept: tuple[int, ...]
    theta: Coefficients
    score: Tensor

    def trimmed(self) -> Fit:
        """Return the rule without the terms whose coefficients are all zero, unless all are."""
        used = self.theta.used
        places = [k for k, name in zip(self.kept, self.theta.names, strict=True) if name in used]
        return self.only(places) if places else self

    def only(self, kept: Sequence[int]) -> Fit:
        """Return a subset of its terms with their coefficients."""
        names = [self.theta.names[self.kept.index(k)] for k in kept]
        return Fit(tuple(kept), self.theta.select(names), self.score)

    def difference(self, other: Fit) -> Band:
        """Return the mean of this score minus the other's, task by task, with its band."""
        return mean_band(_paired(self.score, other.score))

    def is_worse_than(self, other: Fit, least: float) -> bool:
        """Return whether the difference is at least `least`, and its band below zero."""
        difference = self.difference(other)
        return difference.high < 0 and difference.mean <= -least


def _paired(score: Tensor, other: Tensor) -> Tensor:
    """Return the difference on each task that both rules were measured on, [episode]."""
    shared = min(len(score), len(other))
    return score[:shared] - other[:shared]


def is_hopeless(score: Tensor, best: Tensor, least: float) -> bool:
    """Return whether the first tasks alone show that a rule is worse than the best one.

    Its mean difference is below zero by at least `CERTAIN` standard errors and by 10 times the
    least effect. This is much stricter than the band on all tasks, because it is an early look.

    Args:
        score: of the rule on the first validation tasks, [episode].
        best: of the best rule, [episode].
        least: the least effect.
    """
    difference = _paired(score, best)
    error = difference.std() / math.sqrt(len(difference))
    return bool(difference.mean() < -torch.maximum(CERTAIN * error, error.new_tensor(10 * least)))


def order(fit: Fit, terms: Sequence[Term], sizes: Mapping[int, float]) -> list[int]:
    """Return the order in which elimination tries the terms of a fit.

    Terms with small coefficients come first, because the rule probably does not need them: a term
    that is missed must be tried again whenever another one has gone. Among small ones and among
    large ones, the most complex come first, so that of two terms that replace each other the
    simpler stays.

    Args:
        fit: the fit.
        terms: the pool that positions refer to.
        sizes: of each term's scaled coefficient, by position.
    """
    largest = max(sizes[k] for k in fit.kept)
    return sorted(
        fit.kept,
        key=lambda k: (sizes[k] > SMALL * largest, -complexity(terms[k]), sizes[k]),
    )


def eliminate(
    start: Fit,
    terms: Sequence[Term],
    refit: Callable[[Fit, Sequence[int], Fit], Fit],
    best: Fit | None = None,
    least: float = 0.0,
    sizes: Mapping[int, float] | None = None,
) -> tuple[Fit, dict[int, Fit]]:
    """Drop terms until the rule needs each remaining one.

    A term is missed if the refit without it is worse than the best fit so far: the difference is at
    least the least effect, and its band lies below zero. Comparing with the best fit, not the last
    one, keeps small losses from adding up. The pass over the terms is repeated until every
    remaining one has been tried against the final rule.

    Small terms that are more complex than others are first left out all at once. If the rule misses
    them, they are tried one by one.

    Args:
        start: all candidates, fitted.
        terms: the pool that positions refer to.
        refit: returns the fit without the terms at some positions; it may measure a fit that is
            much worse than the best one, its last argument, on fewer tasks.
        best: the best fit so far; None for `start`.
        least: the least effect, a change of the score.
        sizes: of each term's scaled coefficient, by position; None if all are equal.

    Returns:
        The final fit, and for each of its terms the fit without it.
    """
    sizes = dict.fromkeys(start.kept, 1.0) if sizes is None else sizes
    current, best = start, _best([start, best or start])
    queue = order(start, terms, sizes)
    together = _together(queue, terms, sizes)
    if together:
        without = refit(current, together, best)
        if not without.is_worse_than(best, least):
            current, best = without, _best([best, without])
    missed: dict[int, Fit] = {}
    while queue and len(current.kept) > 1:
        position = queue.pop(0)
        if position not in current.kept:  # It left with others, or a refit brought it to zero.
            continue
        without = refit(current, [position], best)
        if without.is_worse_than(best, least):
            missed[position] = without
            continue
        current = without
        best = _best([best, current])
        # The rule has changed: terms missed so far are tried again, after the others.
        queue += missed
        missed = {}
    return current, missed


def _together(queue: Sequence[int], terms: Sequence[Term], sizes: Mapping[int, float]) -> list[int]:
    """Return the terms to leave out all at once: small ones, more complex than the simplest."""
    simplest = min(complexity(terms[k]) for k in queue)
    limit = SMALL * max(sizes[k] for k in queue)
    found = [k for k in queue if sizes[k] <= limit and complexity(terms[k]) > simplest]
    return sorted(found) if len(found) > 1 else []


def _best(fits: Sequence[Fit]) -> Fit:
    """Return the best fit; two are compared on the tasks that both were measured on."""
    best = fits[0]
    for fit in fits[1:]:
        if _paired(fit.score, best.score).mean() > 0:
            best = fit
    return best


@dataclass(frozen=True)
class Selection:
    """The rule that selection chose, and the evidence for it.

    Every fit is one refit away from the same coefficients and uses the same tasks, so that no fit
    is better only because it was trained longer.

    Attributes:
        fit: the rule.
        missed: for each of its terms, the fit without it.
        spare: for each dropped term of the pool that was tried again, the fit with it put back.
        errors: for each other term, the gradient to it at the rule, in standard errors.
    """

    fit: Fit
    missed: Mapping[int, Fit]
    spare: Mapping[int, Fit]
    errors: Mapping[int, float] = field(default_factory=dict)


class Refitter(Protocol):
    """Trains rules that differ from a fit by one term, and measures them.

    Every method but `fresh` measures the score on the same validation tasks.
    """

    def without(self, fit: Fit, positions: Sequence[int], best: Fit) -> Fit:
        """Return the refit without the terms at some positions of the pool.

        It may be measured on the first validation tasks alone, if these show that it is much worse
        than the best fit.
        """

    def put_back(self, fit: Fit, position: int) -> Fit:
        """Return the refit with the term at a position of the pool put back."""

    def again(self, fit: Fit) -> Fit:
        """Return the refit of the same terms."""

    def worth_trying(self, fit: Fit) -> tuple[Sequence[int], Mapping[int, float]]:
        """Return the terms of the pool to put back, and for all others why not.

        The reason is the gradient to the term at the fit, in standard errors.
        """

    def fresh(self, fit: Fit, turn: int) -> Fit:
        """Return the same rule, measured on other tasks: new ones in each round."""

    def sizes(self, fit: Fit) -> Mapping[int, float]:
        """Return the sizes of its scaled coefficients, by position in the pool."""


def select(
    start: Fit,
    terms: Sequence[Term],
    refits: Refitter,
    least: float = 0.0,
    rounds: int = 3,
) -> Selection:
    """Drop terms that are not missed, then try to put each dropped one back.

    The remaining rule is refitted as it is and compared with its neighbours on equal terms. Each of
    its terms must still be missed. No other term that is worth trying may make the rule better when
    it is put back, by the least effect and with the band above zero, both here and on fresh tasks
    that had no part in the choice, because the best of many may win by luck. If a neighbour wins,
    elimination restarts from it; the rule of the last round is final.

    Args:
        start: the candidates, fitted.
        terms: the pool that positions refer to.
        refits: trains and measures each rule that is tried.
        least: the least effect, a change of the score.
        rounds: the largest number of elimination rounds.
    """
    best = start
    for turn in range(rounds):
        last = turn == rounds - 1
        left, missed = eliminate(start, terms, refits.without, best, least, refits.sizes(start))
        fit = refits.again(left)
        # The refit may have brought another term's coefficient to zero.
        left = left.only(fit.kept)
        missed = {k: without for k, without in missed.items() if k in fit.kept}
        best = _best([best, fit])
        needless = [other for other in missed.values() if not other.is_worse_than(fit, least)]
        if needless and not last:
            start = _best(needless)
            continue
        tried, errors = refits.worth_trying(fit)
        spare = {k: refits.put_back(left, k) for k in tried}
        if last:
            break
        better = [other for other in spare.values() if fit.is_worse_than(other, least)]
        gains = _confirmed(fit, better, refits, turn, least)
        if not gains:
            break
        start = _best(gains)
    return Selection(fit, missed, spare, errors)


def _confirmed(
    fit: Fit, better: Sequence[Fit], refits: Refitter, turn: int, least: float
) -> list[Fit]:
    """Return the fits that are also better than `fit` on the fresh tasks of a round."""
    if not better:
        return []
    again = refits.fresh(fit, turn)
    return [other for other in better if again.is_worse_than(refits.fresh(other, turn), least)]
