"""Which terms to keep: a threshold on size, then elimination one by one on validation tasks.

An L1 penalty alone leaves redundant terms: several of the candidates do nearly the same, and the
penalty has no reason to prefer one. So the terms that survive the search are tried one by one, the
most complex first: a term goes if the rule, refitted without it, is not worse on the same
validation tasks, by the band of the paired difference. And it goes if the loss is smaller than a
least effect: many tasks see what nobody would call a part of the rule, such as what a refit gains
that is not quite at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from metaplast.algebra import Formula, Projection
from metaplast.bands import CHANGE, Band, mean_band
from metaplast.term import Term


def keep_terms(u: Tensor, terms: Sequence[Term], threshold: float) -> list[int]:
    """Return the positions of the terms whose scaled coefficient is not negligible.

    A term is kept if max_ℓ |u_ℓ| > threshold · max over all terms. Units matter: u is θ over the
    term's scale, so that equal u means updates of about equal size.

    Args:
        u: scaled coefficients, [term] or [layer, term].
        terms: as long as the last axis of u.
        threshold: share of the largest, 0 … 1.
    """
    if not terms:
        return []
    sizes = u.abs().reshape(-1, len(terms)).amax(0)
    return [k for k in range(len(terms)) if sizes[k] > threshold * sizes.max()]


def complexity(term: Term) -> int:
    """Return how much a term's formula holds: monomials, gates and projections.

    A dense term, which is outside the algebra, counts as more complex than any declared one.
    """
    if not isinstance(term.formula, Formula):
        return 100
    parts = 0
    for monomial in term.formula.monomials:
        vectors = [monomial.column, *(v for g in monomial.gates for v in (g.left, g.right))]
        parts += 1 + len(monomial.gates) + sum(isinstance(v, Projection) for v in vectors)
    return parts


@dataclass(frozen=True)
class Fit:
    """A rule of some of the terms, fitted, with its accuracy on the validation tasks.

    Attributes:
        kept: positions of its terms in the pool.
        theta: their coefficients, [term] or [layer, term].
        accuracy: on each validation task, the same tasks for every fit, [episode].
    """

    kept: tuple[int, ...]
    theta: Tensor
    accuracy: Tensor

    def trimmed(self) -> Fit:
        """Return the same rule without terms whose coefficients are all zero, if any is not."""
        used = self.theta.reshape(-1, len(self.kept)).ne(0).any(0).nonzero().flatten().tolist()
        return self.only([self.kept[i] for i in used]) if used else self

    def only(self, kept: Sequence[int]) -> Fit:
        """Return some of its terms with their coefficients."""
        places = [self.kept.index(k) for k in kept]
        return Fit(tuple(kept), self.theta[..., places], self.accuracy)

    def difference(self, other: Fit) -> Band:
        """Return the mean of this accuracy minus the other's, task by task, with its band."""
        return mean_band(self.accuracy - other.accuracy, CHANGE)

    def is_worse_than(self, other: Fit, least: float) -> bool:
        """Return whether the difference is at least `least`, and its band below zero."""
        difference = self.difference(other)
        return difference.high < 0 and difference.mean <= -least


def eliminate(
    start: Fit,
    terms: Sequence[Term],
    refit: Callable[[Fit, int], Fit],
    best: Fit | None = None,
    least: float = 0.0,
) -> tuple[Fit, dict[int, Fit]]:
    """Drop terms one by one as long as none is missed.

    A term is missed if the refit without it is worse than the best fit so far, by the least effect
    and with its band below zero; comparing with the best, not the last, keeps small losses from
    adding up. The pass over the terms is repeated until every one left has been tried against the
    final rule.

    Args:
        start: all candidates, fitted.
        terms: the pool that positions refer to.
        refit: returns the fit without the term at a position.
        best: the best fit so far; None for `start`.
        least: the least effect, a share of accuracy.

    Returns:
        The final fit, and for each of its terms the fit without it.
    """
    current, best = start, _best([start, best or start])
    queue = sorted(start.kept, key=lambda k: -complexity(terms[k]))
    missed: dict[int, Fit] = {}
    while queue and len(current.kept) > 1:
        position = queue.pop(0)
        if position not in current.kept:  # A refit left its coefficient at zero.
            continue
        without = refit(current, position)
        if without.is_worse_than(best, least):
            missed[position] = without
            continue
        current = without
        best = _best([best, current])
        # The rule has changed: those missed so far are tried again, after the others.
        queue += missed
        missed = {}
    return current, missed


def _best(fits: Sequence[Fit]) -> Fit:
    return max(fits, key=lambda fit: float(fit.accuracy.mean()))


@dataclass(frozen=True)
class Selection:
    """The rule that selection arrived at, and what speaks for it.

    Every fit in it is one refit away from the same coefficients, on the same tasks, so that none
    is better for having been trained longer.

    Attributes:
        fit: the rule.
        missed: for each of its terms, the fit without it.
        spare: for each term of the pool that was dropped, the fit with it put back.
    """

    fit: Fit
    missed: Mapping[int, Fit]
    spare: Mapping[int, Fit]


def select(
    start: Fit,
    terms: Sequence[Term],
    refit_without: Callable[[Fit, int], Fit],
    refit_with: Callable[[Fit, int], Fit],
    refit: Callable[[Fit], Fit],
    fresh: Callable[[Fit, int], Fit],
    least: float = 0.0,
    rounds: int = 3,
) -> Selection:
    """Drop terms that are not missed, then try to put each dropped one back.

    What is left is refitted as it is, and has to hold against its neighbours on equal terms: each
    of its terms must still be missed, and no other one, put back, may make the rule better, by the
    least effect and with the band above zero, here and on tasks that had no part in the choice: the
    best of many may be so by luck. Where one fails, elimination begins again from the neighbour;
    the rule of the last round stands.

    Args:
        start: the candidates, fitted.
        terms: the pool that positions refer to.
        refit_without: returns the fit without the term at a position.
        refit_with: returns the fit with the term at a position put back.
        refit: returns the fit of the same terms after one more refit.
        fresh: returns the same rule, its accuracy that on other tasks, new ones in each round.
        least: the least effect, a share of accuracy.
        rounds: most times that elimination is run.
    """
    best = start
    for turn in range(rounds):
        last = turn == rounds - 1
        left, missed = eliminate(start, terms, refit_without, best, least)
        fit = refit(left)
        # The refit may have brought the coefficient of another term to zero.
        left = left.only(fit.kept)
        missed = {k: without for k, without in missed.items() if k in fit.kept}
        best = _best([best, fit])
        needless = [other for other in missed.values() if not other.is_worse_than(fit, least)]
        if needless and not last:
            start = _best(needless)
            continue
        spare = {k: refit_with(left, k) for k in range(len(terms)) if k not in fit.kept}
        if last:
            break
        better = [other for other in spare.values() if fit.is_worse_than(other, least)]
        gains = _confirmed(fit, better, fresh, turn, least)
        if not gains:
            break
        start = _best(gains)
    return Selection(fit, missed, spare)


def _confirmed(
    fit: Fit, better: Sequence[Fit], fresh: Callable[[Fit, int], Fit], turn: int, least: float
) -> list[Fit]:
    """Return the fits that are better than `fit` on the fresh tasks of a round too."""
    if not better:
        return []
    again = fresh(fit, turn)
    return [other for other in better if again.is_worse_than(fresh(other, turn), least)]
