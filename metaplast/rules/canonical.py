"""The terms of a rule in printed form, where two products that make up Oja's rule become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from metaplast.terms.algebra import Formula, Projection, Signal, Vector, outer
from metaplast.terms.term import Term

# Relative difference below which two coefficients count as opposite.
TOLERANCE = 1e-6


def with_oja(pairs: Sequence[tuple[Term, float]]) -> list[tuple[Term, float]]:
    """Return the terms with their coefficients, a·(u ⊗ v) and −a·(u ⊗ Mᵀu) merged into one.

    v is the signal of u's kind on the other side. The merged term is a·(u ⊗ v − u ⊗ Mᵀu), Oja's
    rule if u is the activity. It replaces the first of the two; the second is dropped.
    """
    places: dict[tuple[Signal, Vector], tuple[int, float]] = {}
    for index, (term, theta) in enumerate(pairs):
        only = term.formula.monomials if isinstance(term.formula, Formula) else ()
        if len(only) != 1 or only[0].gates or only[0].power or only[0].column is None:
            continue
        if not isinstance(only[0].row, Signal) or only[0].eligibility is not None:
            continue
        places.setdefault((only[0].row, only[0].column), (index, theta * only[0].coefficient))
    found = dict(enumerate(pairs))
    for (row, column), (index, amount) in places.items():
        term = pairs[index][0]
        carried = Projection(term.matrix, row)
        other, opposite = places.get((row, carried), (index, 0.0))
        fits = amount and abs(amount + opposite) <= TOLERANCE * abs(amount)
        if fits and column == Signal(term.matrix.columns, row.kind):
            oja = replace(term, formula=outer(row, column) - outer(row, carried))
            found[min(index, other)] = oja, amount
            del found[max(index, other)]
    return list(found.values())
