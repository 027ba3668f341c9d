"""Terms generated from the algebra: every outer product of a matrix, and each times each gate.

A matrix M with row signals a ∈ {y, e, 1} and column vectors r ∈ {y, e, 1, Mᵀy, Mᵀe} has the terms

    ΔM = a ⊗ r,        ΔM = ⟨u, v⟩ · a ⊗ r,        ΔM = −⟨u, v⟩ · M,

with u, v of one side of M: two row signals, or two column vectors. ⟨1, 1⟩ is left out: it is the
number of neurons. Names spell out the terms: `e_wty` is e ⊗ Wᵀy, `b_y_e` is y ⊗ e on B,
and `e_wty_by_post_one_y` is e ⊗ Wᵀy times the sum of all postsynaptic activities.

The monomials of degree D are the products of powers of what is available at a synapse,

    ΔW = yᵃ ⊙ eᵇ ⊗ yᶜ ⊙ eᵈ ⊙ Wᶠ,        a + b + c + d + f ≤ D,

such as `y2_y` for y² ⊗ y, and `ye_one_w` for (y ⊙ e) ⊗ 1 ⊙ W.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations_with_replacement, product
from typing import Any

from metaplast.terms.algebra import (
    Formula,
    Gate,
    Mapped,
    Matrix,
    Population,
    Projection,
    Signal,
    Vector,
    dot,
    outer,
)
from metaplast.terms.dense_formula import DenseFormula
from metaplast.terms.functions import FUNCTIONS
from metaplast.terms.term import Term

SOURCE = "generated from the algebra"
_LETTERS = {"activity": "y", "error": "e", "one": "one"}
_SIDES = {"post": "postsynaptic", "pre": "presynaptic"}


def products(matrix: Matrix, library: Iterable[Term] = ()) -> tuple[Term, ...]:
    """Return a ⊗ r for every row signal a and column vector r of a matrix.

    Args:
        matrix: the weights that the terms change, W or B.
        library: terms; each replaces the generated term of which its formula is a multiple.
    """
    return _preferred(_products(matrix), library)


def gated(matrix: Matrix, library: Iterable[Term] = ()) -> tuple[Term, ...]:
    """Return every outer product, and the decay −M, times every gate of a matrix.

    The decay may not change sign if its gate is a squared norm.

    Args:
        matrix: the weights that the terms change, W or B.
        library: terms; each replaces the generated term of which its formula is a multiple.
    """
    return _preferred(_gated(matrix), library)


def monomials(matrix: Matrix, degree: int, library: Iterable[Term] = ()) -> tuple[Term, ...]:
    """Return every product of powers of y and e of both neurons, and of the weight.

    Args:
        matrix: the weights that the terms change, W or B.
        degree: the largest sum of the exponents, 1 to 3.
        library: terms; each replaces the generated term of which its formula is a multiple.
    """
    return _preferred(_monomials(matrix, degree), library)


def rows(matrix: Matrix) -> tuple[Signal, ...]:
    """Return the row signals of a matrix: y, e and 1."""
    return tuple(Signal(matrix.rows, kind) for kind in _LETTERS)


def columns(matrix: Matrix) -> tuple[Vector, ...]:
    """Return the column vectors of a matrix: y, e, 1, Mᵀy and Mᵀe."""
    signals = tuple(Signal(matrix.columns, kind) for kind in _LETTERS)
    carried = tuple(Projection(matrix, row) for row in rows(matrix) if row.kind != "one")
    return (*signals, *carried)


def gates(matrix: Matrix) -> tuple[Gate, ...]:
    """Return every ⟨u, v⟩ of two row signals or two column vectors, each once, without ⟨1, 1⟩."""
    pairs = [
        pair
        for side in (rows(matrix), columns(matrix))
        for pair in combinations_with_replacement(side, 2)
    ]
    return tuple(dot(u, v) for u, v in pairs if not (_is_one(u) and _is_one(v)))


def shape(formula: Formula | DenseFormula) -> tuple[Any, ...] | None:
    """Return a key that all multiples of a one-monomial formula share; None for other formulas."""
    if not isinstance(formula, Formula) or len(formula.monomials) != 1:
        return None
    return formula.matrix.name, *formula.monomials[0].shape


def _products(matrix: Matrix) -> Iterator[Term]:
    for name, formula, summary in _outers(matrix):
        yield Term(name, formula, SOURCE, summary)


def _gated(matrix: Matrix) -> Iterator[Term]:
    for gate in gates(matrix):
        for name, formula, summary in _outers(matrix):
            yield _times(gate, formula, f"{name}_by", summary)
        decay = _times(gate, -matrix, f"{_prefix(matrix)}decay_by", f"decay of {matrix.name}")
        # A squared norm cannot turn the decay into growth.
        yield replace(decay, nonnegative=gate.left == gate.right)


def _monomials(matrix: Matrix, degree: int) -> Iterator[Term]:
    rows, columns = _powers(matrix.rows, degree), _powers(matrix.columns, degree)
    for (row, first), (column, second) in product(rows, columns):
        for power in range(degree - first - second + 1):
            yield _monomial(matrix, row, column, power)


def _monomial(matrix: Matrix, row: Signal | Mapped, column: Signal | Mapped, power: int) -> Term:
    """Return row ⊗ column ⊙ M^power; ones ⊗ ones ⊙ M is the matrix itself."""
    name = f"{_prefix(matrix)}{_letters(row)}_{_letters(column)}"
    summary = f"{_words(row)} times {_words(column)}"
    formula, times = outer(row, column), power
    if power:
        name += "_w" + ("" if power == 1 else str(power))
        summary += f" times the {('', 'squared ', 'cubed ')[power - 1]}weight"
        if _is_one(row) and _is_one(column):
            formula, times = matrix.as_formula(), power - 1
    for _ in range(times):
        formula = matrix * formula
    return Term(name, formula, SOURCE, summary)


def _powers(population: Population, degree: int) -> list[tuple[Signal | Mapped, int]]:
    """Return 1 and every yᵃ ⊙ eᵇ of a population with its degree a + b, up to `degree`."""
    y, e, one = (Signal(population, kind) for kind in _LETTERS)
    found: list[tuple[Signal | Mapped, int]] = [(one, 0)]
    for a, b in product(range(degree + 1), repeat=2):
        if 0 < a + b <= degree:
            powers = [s if p == 1 else s**p for s, p in ((y, a), (e, b)) if p]
            found.append((powers[0] if len(powers) == 1 else powers[0] * powers[1], a + b))
    return found


def _outers(matrix: Matrix) -> Iterator[tuple[str, Formula, str]]:
    """Yield name, formula and summary of each outer product."""
    for row, column in product(rows(matrix), columns(matrix)):
        name = f"{_prefix(matrix)}{_letters(row)}_{_letters(column)}"
        yield name, outer(row, column), f"{_words(row)} times {_words(column)}"


def _times(gate: Gate, formula: Formula, stem: str, summary: str) -> Term:
    left, right = gate.left, gate.right
    if _is_one(left) or _is_one(right):
        factor = f"the sum of {_words(left if _is_one(right) else right)}"
    elif left == right:
        factor = f"the squared norm of {_words(left)}"
    else:
        factor = f"the scalar product of {_words(left)} and {_words(right)}"
    name = f"{stem}_{left.population}_{_letters(left)}_{_letters(right)}"
    return Term(name, gate * formula, SOURCE, f"{summary}, scaled by {factor}")


def _preferred(terms: Iterable[Term], library: Iterable[Term]) -> tuple[Term, ...]:
    """Return terms, each replaced by the first of `library` that is a multiple of it."""
    known: dict[Any, Term] = {}
    for term in library:
        known.setdefault(shape(term.formula), term)
    known.pop(None, None)
    return tuple(known.get(shape(term.formula), term) for term in terms)


def _prefix(matrix: Matrix) -> str:
    return "" if matrix.name == "W" else f"{matrix.name.lower()}_"


def _is_one(vector: Vector) -> bool:
    return isinstance(vector, Signal) and vector.kind == "one"


def _letters(vector: Vector) -> str:
    """Return a vector as part of a name: y, e, one, wty for Wᵀy, bte for Bᵀe."""
    if isinstance(vector, Projection):
        return f"{vector.matrix.name.lower()}t{_LETTERS[vector.signal.kind]}"
    if isinstance(vector, Mapped):
        return "".join(_LETTERS[s.kind] + FUNCTIONS[name].letters for s, name in vector.factors)
    return _LETTERS[vector.kind]


def _words(vector: Vector) -> str:
    if isinstance(vector, Projection):
        return f"{_words(vector.signal)} carried back through {vector.matrix.name}"
    if isinstance(vector, Mapped):
        side = _SIDES[vector.population]
        parts = (f"{side} {FUNCTIONS[name].words.format(s.kind)}" for s, name in vector.factors)
        return " times ".join(parts)
    if vector.kind == "one":
        return f"one for each {_SIDES[vector.population]} neuron"
    return f"{_SIDES[vector.population]} {vector.kind}"
