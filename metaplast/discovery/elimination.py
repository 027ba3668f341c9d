"""The size threshold and the elimination of terms: which are dropped, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from metaplast.discovery.fits import Fit, best_of
from metaplast.terms.algebra import Formula, Mapped, Projection
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.term import Term

# A coefficient is small below this share of the largest one, in scaled units.
SMALL = 0.5


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


def order(fit: Fit, terms: Sequence[Term], sizes: Mapping[int, float]) -> list[int]:
    """Return the order in which elimination tries the terms of a fit.

    Terms with small coefficients come first, because the rule probably does not need them, and
    because a term that the rule needs must be tried again whenever another one was dropped. Among
    the small terms and among the large ones, the most complex come first, so that of two terms that
    can replace each other the simpler one stays.

    Args:
        fit: the fit.
        terms: the pool that positions refer to.
        sizes: the size of each term's scaled coefficient, by position.
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
        sizes: the size of each term's scaled coefficient, by position; None if all are equal.

    Returns:
        The final fit, and for each of its terms the fit without it.
    """
    sizes = dict.fromkeys(start.kept, 1.0) if sizes is None else sizes
    current, best = start, best_of([start, best or start])
    queue = order(start, terms, sizes)
    together = _together(queue, terms, sizes)
    if together:
        without = refit(current, together, best)
        if not without.is_worse_than(best, least):
            current, best = without, best_of([best, without])
    missed: dict[int, Fit] = {}
    while queue and len(current.kept) > 1:
        position = queue.pop(0)
        if position not in current.kept:  # Dropped with others, or zero after a refit.
            continue
        without = refit(current, [position], best)
        if without.is_worse_than(best, least):
            missed[position] = without
            continue
        current = without
        best = best_of([best, current])
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
