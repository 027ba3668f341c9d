"""Declared formulas as Python expressions, and data as Python literals."""

from __future__ import annotations

import textwrap

from metaplast.terms.algebra import (
    AnyGate,
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
    """Return the name of the variable that holds a signal; ones are made from the activity."""
    return f"{_LETTERS.get(signal.kind, signal.kind)}_{signal.population}"


def signals(formula: Formula) -> frozenset[str]:
    """Return the names of the variables that the formula's expression reads."""
    return frozenset(variable(v) for v in formula.vectors if isinstance(v, Signal))


def statements(target: str, factor: str, formula: Formula, library: str) -> list[str]:
    """Return lines of code that add factor · formula to a matrix.

    One line if it fits; else one line per monomial; else one line per factor.

    Args:
        target: name of the matrix that is changed.
        factor: code of the coefficient.
        formula: of a term.
        library: what the array library is called, such as "np".
    """
    monomials = formula.monomials
    if len(monomials) > 1:
        parts = [
            f"{_sign(m)} {' * '.join(_factors(m, formula.matrix, library))}" for m in monomials
        ]
        total = " ".join(parts).removeprefix("+ ").replace("- ", "-", parts[0].startswith("-"))
        line = f"{target} += {factor} * ({total})"
        if len(line) <= LINE:
            return [line]
    lines = []
    for monomial in monomials:
        factors = [factor, *_factors(monomial, formula.matrix, library)]
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


def _factors(monomial: Monomial, matrix: Matrix, library: str) -> list[str]:
    """Write the factors of a monomial, without its sign."""
    factors = [] if abs(monomial.coefficient) == 1 else [repr(abs(float(monomial.coefficient)))]
    factors += [_gate(gate, library) for gate in monomial.gates]
    if monomial.row is None or monomial.column is None:
        return [*factors, matrix.name]
    row, column = _vector(monomial.row, library), _vector(monomial.column, library)
    factors.append(f"{library}.outer({row}, {column})")
    if monomial.power:
        factors.append(matrix.name if monomial.power == 1 else f"{matrix.name}**{monomial.power}")
    return factors


def _vector(vector: Vector, library: str) -> str:
    if isinstance(vector, Projection):
        # uᵀM, as in the equation.
        return f"{_vector(vector.signal, library)} @ {vector.matrix.name}"
    if isinstance(vector, Mapped):
        parts = (FUNCTIONS[f].code.format(variable(s), xp=library) for s, f in vector.factors)
        return " * ".join(parts)
    if vector.kind == "one":
        return f"{library}.ones_like({variable(vector)})"
    return variable(vector)


def _gate(gate: AnyGate, library: str) -> str:
    assert isinstance(gate, Gate), "a program's terms read no scalars"
    left, right = gate.left, gate.right
    if isinstance(right, Projection) and not isinstance(left, Projection):
        left, right = right, left
    for one, other in ((left, right), (right, left)):
        if isinstance(one, Signal) and one.kind == "one" and not isinstance(other, Projection):
            written = _vector(other, library)
            return f"({written}).sum()" if "*" in written else f"{written}.sum()"
    first, second = _vector(left, library), _vector(right, library)
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
        # Without inner quotes, the outer ones can be replaced by the usual ones.
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
