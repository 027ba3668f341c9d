"""How complex a term is: of two equivalent terms, selection keeps the simpler one."""

from __future__ import annotations

from metaplast.terms.algebra import Formula, Mapped, Projection
from metaplast.terms.term import Term


def complexity(term: Term) -> int:
    """Return the size of a term's formula.

    The size counts monomials (including those in an eligibility), gates (including scalars),
    projections, functions and powers of the weights.

    A dense term, which is outside the algebra, has size 100, more than typical declared terms.
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
