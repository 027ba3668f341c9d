"""The vocabulary in which plasticity terms are written: signals, outer products, gates, decay.

A term is declared once, as a formula:

    >>> error_hebbian = -outer(post.error, pre.activity)
    >>> oja = outer(post.activity, pre.activity) - outer(post.activity, W.T @ post.activity)
    >>> decay = -W

From the formula come the torch evaluation, the plasticity tensor of the fast engines, the printed
equation and the locality label. Every formula is a sum of monomials of one shape,

    coefficient · gate · … · gate · (row ⊗ column),      or    coefficient · gate · … · matrix,

with row ∈ {y, e, 1} on the row side of the matrix, column ∈ {y, e, 1, Mᵀy, Mᵀe} on its column side,
and each gate a scalar product of two vectors of one side. `W` (forward weights, [post, pre]) has
post rows and pre columns; `B` (backward weights, [pre, post]) has them exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Population = Literal["post", "pre"]
Kind = Literal["activity", "error", "one"]
MatrixName = Literal["W", "B"]


class FormulaError(TypeError):
    """A formula that is not of the declared shape; raised where the term is written."""


@dataclass(frozen=True)
class Signal:
    """One vector that a neuron population holds: its activity y, its error e, or all ones."""

    population: Population
    kind: Kind


@dataclass(frozen=True)
class Projection:
    """Mᵀ·signal: a row-side signal carried through the matrix to its column side."""

    matrix: Matrix
    signal: Signal

    @property
    def population(self) -> Population:
        """Where the projected vector arrives."""
        return self.matrix.columns


Vector = Signal | Projection


@dataclass(frozen=True)
class Matrix:
    """The weights a term changes: `W` [post, pre] or `B` [pre, post]."""

    name: MatrixName
    rows: Population
    columns: Population

    @property
    def T(self) -> Transposed:  # noqa: N802 - the mathematical name
        """The transpose, to be applied to a row-side signal with `@`."""
        return Transposed(self)

    def _as_formula(self) -> Formula:
        return Formula(self, (Monomial(1.0),))

    def __neg__(self) -> Formula:
        return -self._as_formula()

    def __rmul__(self, factor: float | Gate) -> Formula:
        return factor * self._as_formula()


@dataclass(frozen=True)
class Transposed:
    """The transpose of a matrix, waiting for the vector it acts on."""

    matrix: Matrix

    def __matmul__(self, signal: Signal) -> Projection:
        if not isinstance(signal, Signal) or signal.population != self.matrix.rows:
            raise FormulaError(
                f"{self.matrix.name}.T acts on a {self.matrix.rows} signal, got {signal!r}."
            )
        return Projection(self.matrix, signal)


@dataclass(frozen=True)
class Gate:
    """A scalar ⟨left, right⟩ that multiplies a monomial; both vectors are of one population."""

    left: Vector
    right: Vector

    def __mul__(self, other: Formula | Matrix) -> Formula:
        if isinstance(other, Matrix):
            other = other._as_formula()
        return Formula(
            other.matrix,
            tuple(replace(m, gates=(self, *m.gates)) for m in other.monomials),
        )


@dataclass(frozen=True)
class Monomial:
    """coefficient · Π gates · (row ⊗ column), or · the matrix itself where row is None."""

    coefficient: float
    gates: tuple[Gate, ...] = ()
    row: Signal | None = None
    column: Vector | None = None

    @property
    def is_decay(self) -> bool:
        """True if the monomial multiplies the matrix instead of an outer product."""
        return self.row is None


@dataclass(frozen=True)
class Formula:
    """A sum of monomials that all change the same matrix."""

    matrix: Matrix
    monomials: tuple[Monomial, ...]

    def __neg__(self) -> Formula:
        return -1.0 * self

    def __add__(self, other: Formula | Matrix) -> Formula:
        if isinstance(other, Matrix):
            other = other._as_formula()
        if other.matrix != self.matrix:
            raise FormulaError(
                f"a formula changes one matrix; this one adds {self.matrix.name} and "
                f"{other.matrix.name}. Write two terms."
            )
        return Formula(self.matrix, self.monomials + other.monomials)

    def __sub__(self, other: Formula | Matrix) -> Formula:
        return self + (-other)

    def __rmul__(self, factor: float | Gate) -> Formula:
        if isinstance(factor, Gate):
            return factor * self
        return Formula(
            self.matrix,
            tuple(replace(m, coefficient=factor * m.coefficient) for m in self.monomials),
        )

    @property
    def vectors(self) -> frozenset[Vector]:
        """Every vector the formula reads, gates and projected signals included."""
        found: set[Vector] = set()
        for monomial in self.monomials:
            parts = [monomial.row, monomial.column]
            parts += [side for gate in monomial.gates for side in (gate.left, gate.right)]
            found |= {part for part in parts if part is not None}
        found |= {v.signal for v in found if isinstance(v, Projection)}
        return frozenset(found)

    @property
    def is_local(self) -> bool:
        """True if each synapse needs only y and e of its two neurons and its own weight.

        A projection Mᵀy sums over a neuron's other synapses and a gate over a layer: both are
        not local.
        """
        return not any(
            monomial.gates or isinstance(monomial.column, Projection) for monomial in self.monomials
        )


@dataclass(frozen=True)
class _Population:
    """The signals of one side of a synapse."""

    activity: Signal
    error: Signal
    one: Signal


post = _Population(*(Signal("post", kind) for kind in ("activity", "error", "one")))
pre = _Population(*(Signal("pre", kind) for kind in ("activity", "error", "one")))
W = Matrix("W", rows="post", columns="pre")
B = Matrix("B", rows="pre", columns="post")


def outer(row: Signal, column: Vector) -> Formula:
    """Return the formula row ⊗ column; a post row changes `W`, a pre row changes `B`.

    Raises:
        FormulaError: if both vectors are of the same population, or the row is a projection.
    """
    if not isinstance(row, Signal) or column.population == row.population:
        raise FormulaError(
            f"outer() takes a signal of one population and a vector of the other, "
            f"got {row!r} and {column!r}."
        )
    matrix = W if row.population == "post" else B
    return Formula(matrix, (Monomial(1.0, (), row, column),))


def dot(left: Vector, right: Vector) -> Gate:
    """Return the gate ⟨left, right⟩ = Σ_i left_i right_i, a sum over one population.

    Raises:
        FormulaError: if the vectors are of different populations.
    """
    if left.population != right.population:
        raise FormulaError(f"dot() takes two vectors of one population, got {left!r}, {right!r}.")
    return Gate(left, right)


def total(signal: Signal) -> Gate:
    """Return the gate 1ᵀsignal, the sum of a signal over its population."""
    return Gate(Signal(signal.population, "one"), signal)
