"""Declared formulas as Python expressions, and data as Python literals."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from metaplast.terms.algebra import (
    AnyGate,
    Eligibility,
    Formula,
    Gate,
    Mapped,
    Matrix,
    Monomial,
    Projection,
    Signal,
    Vector,
)
from metaplast.terms.functions import FUNCTIONS

# Width for code that is indented once, in 100 columns.
LINE = 96
_LETTERS = {"activity": "y", "error": "e", "one": "y"}


def variable(signal: Signal) -> str:
    """Return the variable that holds a signal; a signal of ones is made from the activity."""
    return f"{_LETTERS.get(signal.kind, signal.kind)}_{signal.population}"


def signals(formula: Formula) -> frozenset[str]:
    """Return the names of the variables that the formula's expression reads, with eligibilities."""
    return frozenset(variable(v) for v in formula.vectors if isinstance(v, Signal))


def statements(
    target: str,
    factor: str,
    formula: Formula,
    library: str,
    kept: Mapping[Eligibility, str] | None = None,
) -> list[str]:
    """Return lines of code that add factor · formula to a matrix.

    One line if it fits; else one line per monomial; else one line per factor.

    Args:
        target: name of the matrix that is changed.
        factor: code of the coefficient; empty for 1.
        formula: the formula of a term.
        library: what the program calls its array library, such as "np".
        kept: the variable of each eligibility.
    """
    monomials, lead = formula.monomials, [factor] if factor else []
    if len(monomials) > 1:
        parts = [
            f"{_sign(m)} {' * '.join(_factors(m, formula.matrix, library, kept))}"
            for m in monomials
        ]
        total = " ".join(parts).removeprefix("+ ").replace("- ", "-", parts[0].startswith("-"))
        line = f"{target} += {factor} * ({total})" if factor else f"{target} += {total}"
        if len(line) <= LINE:
            return [line]
    lines = []
    for monomial in monomials:
        factors = [*lead, *_factors(monomial, formula.matrix, library, kept)]
        start, product = f"{target} {_sign(monomial)}=", " * ".join(factors)
        if len(start) + 1 + len(product) <= LINE:
            lines.append(f"{start} {product}")
        elif len(product) + 4 <= LINE:
            lines += [f"{start} (", f"    {product}", ")"]
        else:
            rest = [f"    * {part}" for part in factors[1:]]
            lines += [f"{start} (", f"    {factors[0]}", *rest, ")"]
    return lines


def _sign(monomial: Monomial) -> str:
    return "-" if monomial.coefficient < 0 else "+"


def _factors(
    monomial: Monomial, matrix: Matrix, library: str, kept: Mapping[Eligibility, str] | None
) -> list[str]:
    """Write the factors of a monomial, without its sign."""
    factors = [] if abs(monomial.coefficient) == 1 else [repr(abs(float(monomial.coefficient)))]
    factors += [_gate(gate, library) for gate in monomial.gates]
    if monomial.row is None or monomial.column is None:
        return [*factors, matrix.name]
    if monomial.eligibility is not None:
        if not isinstance(monomial.row, Signal) or monomial.row.kind != "one":
            row = vector_code(monomial.row, library)
            factors.append(f"{row if row.isidentifier() else f'({row})'}[:, None]")
        return [*factors, (kept or {})[monomial.eligibility]]
    row, column = vector_code(monomial.row, library), vector_code(monomial.column, library)
    factors.append(f"{library}.outer({row}, {column})")
    if monomial.power:
        factors.append(matrix.name if monomial.power == 1 else f"{matrix.name}**{monomial.power}")
    return factors


def vector_code(vector: Vector, library: str) -> str:
    """Return code of a vector from the variables of the signals."""
    if isinstance(vector, Projection):
        # uᵀM, as in the equation.
        return f"{vector_code(vector.signal, library)} @ {vector.matrix.name}"
    if isinstance(vector, Mapped):
        parts = (FUNCTIONS[f].code.format(variable(s), xp=library) for s, f in vector.factors)
        return " * ".join(parts)
    if vector.kind == "one":
        return f"{library}.ones_like({variable(vector)})"
    return variable(vector)


def _gate(gate: AnyGate, library: str) -> str:
    if not isinstance(gate, Gate):
        return gate.name
    left, right = gate.left, gate.right
    if isinstance(right, Projection) and not isinstance(left, Projection):
        left, right = right, left
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Signal) and one.kind == "one" and not isinstance(other, Projection):
            written = vector_code(other, library)
            return f"({written}).sum()" if "*" in written else f"{written}.sum()"
    first, second = vector_code(left, library), vector_code(right, library)
    # A product of vectors or with a matrix is formed before the scalar product.
    first = f"({first})" if " * " in first else first
    second = f"({second})" if " * " in second or " @ " in second else second
    return f"({first} @ {second})"


def literal(value: object) -> str:
    """Return plain data as one Python literal, which can only evaluate to the data."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{literal(k)}: {literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    if isinstance(value, str):
        text = repr(value)
        # Without inner quotes, the outer quotes can be replaced by double quotes.
        return text if "'" in value or '"' in value else f'"{text[1:-1]}"'
    return repr(value)


def wrapped(value: object, width: int = 80) -> str:
    """Return plain data as a literal; a long text as several literals that Python joins."""
    if not isinstance(value, str) or len(value) <= width:
        return literal(value)
    pieces = textwrap.wrap(value, width, drop_whitespace=False, replace_whitespace=False,
                           expand_tabs=False, break_on_hyphens=False)  # fmt: skip
    if "".join(pieces) != value:
        return literal(value)
    lines = "".join(f"\n        {literal(piece)}" for piece in pieces)
    return f"({lines}\n    )"
