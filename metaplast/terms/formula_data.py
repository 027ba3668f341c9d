"""Terms as plain data, so that a file contains the definition of its terms.

A formula is written as its matrix and monomials:

    {"matrix": "W", "monomials": [{"coefficient": -1.0, "gates": [], "row": e, "column": y}]}

A signal is {"population": "post", "kind": "error"}. A function of signals is a list of factors:
each is a signal with one more entry, "function": "square". A monomial that is multiplied by a power
of the weights has the entry "power"; one with an eligibility has the entry "eligibility", its time
constant and monomials. A projection Mᵀu is the signal u with one more entry,
"through": "transposed W". A gate ⟨left, right⟩ is a pair of vectors. If the monomial multiplies the
matrix itself, row and column are null. Nothing in a file is evaluated as code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from metaplast.base.plain_data import DataError, check, entry, number
from metaplast.terms.algebra import (
    AnyGate,
    B,
    Eligibility,
    Formula,
    Gate,
    Mapped,
    Matrix,
    Monomial,
    Projection,
    Scalar,
    Signal,
    Vector,
    W,
    post,
    pre,
)
from metaplast.terms.dense_formula import DenseFormula
from metaplast.terms.functions import FUNCTIONS
from metaplast.terms.monomial import MOST_POWER, summed
from metaplast.terms.operator import Operator
from metaplast.terms.synapses import Synapses
from metaplast.terms.time_constants import MOST_TAU
from metaplast.terms.vectors import is_kind

# Far above any sensible formula, far below one that would take long to run.
MOST_MONOMIALS, MOST_GATES = 1000, 16
# Limit on the length of a name, which becomes part of tables and generated code.
MOST_LETTERS = 100

MATRICES: Mapping[str, Matrix] = {"W": W, "B": B}
_POPULATIONS = ("post", "pre")


def formula_data(formula: Formula) -> dict[str, Any]:
    """Return a formula as data; the module's docstring describes the format.

    A gate that is a scalar is `{"scalar": name}`.
    """
    return {
        "matrix": formula.matrix.name,
        "monomials": [_monomial_data(monomial) for monomial in formula.monomials],
    }


def _monomial_data(monomial: Monomial) -> dict[str, Any]:
    data: dict[str, Any] = {
        "coefficient": float(monomial.coefficient),
        "gates": [_gate_data(gate) for gate in monomial.gates],
        "row": _optional(monomial.row),
        "column": _optional(monomial.column),
    }
    # Without a power or an eligibility, the entry is absent, as in files of earlier versions.
    if monomial.power:
        data["power"] = monomial.power
    kept = monomial.eligibility
    if kept is not None:
        inside = [_monomial_data(part) for part in kept.formula.monomials]
        data["eligibility"] = {"tau": kept.tau, "monomials": inside}
    return data


VectorData = dict[str, str] | list[dict[str, str]]


def _gate_data(gate: AnyGate) -> list[VectorData] | dict[str, str]:
    if isinstance(gate, Scalar):
        return {"scalar": gate.name}
    return [_vector(gate.left), _vector(gate.right)]


def _optional(vector: Vector | None) -> VectorData | None:
    return None if vector is None else _vector(vector)


def _vector(vector: Vector) -> VectorData:
    """Return a vector as data: a signal, a projection, or the list of a function's factors."""
    if isinstance(vector, Projection):
        return _signal(vector.signal) | {"through": f"transposed {vector.matrix.name}"}
    if isinstance(vector, Mapped):
        return [_signal(signal) | {"function": name} for signal, name in vector.factors]
    return _signal(vector)


def _signal(signal: Signal) -> dict[str, str]:
    return {"population": signal.population, "kind": signal.kind}


def read_formula(data: Any, where: str) -> Formula:
    """Return the formula that `formula_data` wrote.

    Args:
        data: the data.
        where: name of the term in messages.

    Raises:
        DataError: if the data have another format.
    """
    matrix = read_matrix(data, where)
    monomials = entry(data, "monomials", list, where)
    check(bool(monomials), f"{where} has no monomials")
    check(len(monomials) <= MOST_MONOMIALS, f"{where} has more than {MOST_MONOMIALS} monomials")
    return Formula(matrix, tuple(_monomial(part, matrix, where) for part in monomials))


def read_matrix(data: Any, where: str) -> Matrix:
    """Return the matrix that a term changes.

    Raises:
        DataError: if the matrix is neither W nor B.
    """
    name = entry(data, "matrix", str, where)
    check(name in MATRICES, f"the matrix of {where} must be W or B, got {name[:40]!r}")
    return MATRICES[name]


def _monomial(data: Any, matrix: Matrix, where: str) -> Monomial:
    coefficient = number(entry(data, "coefficient", (int, float), where), f"a factor of {where}")
    gates = entry(data, "gates", list, where)
    check(len(gates) <= MOST_GATES, f"{where} has more than {MOST_GATES} gates in a monomial")
    read = tuple(_gate(gate, matrix, where) for gate in gates)
    check("row" in data and "column" in data, f"{where} has a monomial without row or column")
    if data["row"] is None and data["column"] is None:
        return Monomial(coefficient, read)
    row = _read_vector(data["row"], matrix, where)
    column = _read_vector(data["column"], matrix, where)
    fits = row.population == matrix.rows and column.population == matrix.columns
    if isinstance(row, Projection) or not fits:
        raise DataError(
            f"{where} has an outer product that is not of a {matrix.rows} signal and a "
            f"{matrix.columns} vector, the sides of {matrix.name}"
        )
    kept = _eligibility(data["eligibility"], matrix, where) if "eligibility" in data else None
    power = _power(data, where)
    check(
        kept is None or (power == 0 and column == Signal(matrix.columns, "one")),
        f"an eligibility of {where} must be multiplied by a {matrix.rows} signal only",
    )
    return Monomial(coefficient, read, row, column, power, kept)


def _eligibility(data: Any, matrix: Matrix, where: str) -> Eligibility:
    place = f"an eligibility of {where}"
    tau = number(entry(data, "tau", (int, float), place), f"τ of {place}")
    check(1 <= tau <= MOST_TAU, f"τ of {place} must be between 1 and {MOST_TAU:g}, got {tau:g}")
    parts = entry(data, "monomials", list, place)
    check(0 < len(parts) <= MOST_MONOMIALS, f"{place} must have 1 to {MOST_MONOMIALS} monomials")
    nested = any(isinstance(part, Mapping) and "eligibility" in part for part in parts)
    check(not nested, f"{place} has an eligibility in it")
    monomials = tuple(_monomial(part, matrix, place) for part in parts)
    check(
        all(m.row is not None for m in monomials), f"{place} has a monomial without row or column"
    )
    return Eligibility(Formula(matrix, monomials), tau)


def _power(data: Any, where: str) -> int:
    power = entry(data, "power", int, where) if "power" in data else 0
    check(0 <= power <= MOST_POWER, f"a power of the weights of {where} must be 0 to {MOST_POWER}")
    return power


def _gate(data: Any, matrix: Matrix, where: str) -> AnyGate:
    if isinstance(data, Mapping):
        return Scalar(read_scalar(entry(data, "scalar", str, f"a gate of {where}"), where))
    pair = isinstance(data, list) and len(data) == 2
    check(pair, f"a gate of {where} must be a pair of vectors or a scalar")
    left, right = (_read_vector(side, matrix, where) for side in data)
    check(left.population == right.population, f"a gate of {where} joins two populations")
    return Gate(left, right)


def read_scalar(name: Any, where: str) -> str:
    """Return the name of a scalar.

    Raises:
        DataError: if the name is not valid for a scalar.
    """
    check(
        is_kind(name) and len(name) <= MOST_LETTERS,
        f"a scalar of {where} must be a lower-case identifier, got {str(name)[:40]!r}",
    )
    return str(name)


def _read_vector(data: Any, matrix: Matrix, where: str) -> Vector:
    place = f"a vector of {where}"
    if isinstance(data, list):
        return _read_mapped(data, place)
    signal = _read_signal(data, place)
    if "through" not in data:
        return signal
    carried = data["through"] == f"transposed {matrix.name}" and signal.population == matrix.rows
    check(carried, f"{place} can only be a {matrix.rows} signal through transposed {matrix.name}")
    return Projection(matrix, signal)


def _read_mapped(data: list[Any], place: str) -> Mapped:
    check(len(data) in (1, 2), f"{place} must be a function of one or two signals")
    factors = []
    for part in data:
        name = entry(part, "function", str, place)
        check(
            name in FUNCTIONS,
            f"a function in {place} must be one of {', '.join(FUNCTIONS)}, got {name[:40]!r}",
        )
        factors.append((_read_signal(part, place), name))
    signals = {signal for signal, _ in factors}
    check(
        len(signals) == len(data)
        and len({signal.population for signal in signals}) == 1
        and not any(signal.kind == "one" for signal in signals),
        f"{place} must be a function of different signals of one population, not of ones",
    )
    return Mapped(tuple(factors))


def _read_signal(data: Any, place: str) -> Signal:
    population, kind = entry(data, "population", str, place), entry(data, "kind", str, place)
    check(
        population in _POPULATIONS and is_kind(kind) and len(kind) <= MOST_LETTERS,
        f"{place} must be a signal of post or pre, such as activity or error, got {kind[:40]!r} of "
        f"{population[:40]!r}",
    )
    return Signal(population, kind)  # type: ignore[arg-type]


def is_same_formula(one: Formula, other: Formula) -> bool:
    """Return whether two formulas are the same sum, in any order of monomials and gates."""
    return one.matrix == other.matrix and summed(one) == summed(other)


def probe(formula: DenseFormula) -> list[float] | None:
    """Return a torch function's result for fixed signals, to identify it; None if it fails.

    Three post and two pre neurons: the six numbers of ΔM, row by row.
    """

    def wave(start: float, *shape: int) -> torch.Tensor:
        count = math.prod(shape)
        values = start + torch.arange(count, dtype=torch.float64, device="cpu")
        return (0.5 + 0.4 * torch.sin(1.7 * values)).reshape(shape)

    sizes = {"post": 3, "pre": 2}
    shape = sizes[formula.matrix.rows], sizes[formula.matrix.columns]
    signals = {
        post.activity: wave(1, 1, 3),
        post.error: wave(5, 1, 3) - 0.5,
        pre.activity: wave(9, 1, 2),
        pre.error: wave(12, 1, 2) - 0.5,
    }
    scalars = {name: wave(30 + i, 1) - 0.5 for i, name in enumerate(sorted(formula.scalars))}
    try:
        with torch.no_grad():
            operator = Operator(wave(20, 1, *shape) - 0.5)
            found = formula.update(Synapses(operator, signals, scalars=scalars))
        values = [float(value) for value in found.expand(1, *shape).flatten()]
    except Exception:
        # A user's own function may fail in any way; if this matters, the run reports the error.
        return None
    return values if all(map(math.isfinite, values)) else None
