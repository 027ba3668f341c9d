"""The vocabulary in which plasticity terms are written: signals, outer products, gates, decay.

A term is declared once, as a formula:

    >>> error_hebbian = -outer(post.error, pre.activity)
    >>> oja = outer(post.activity, pre.activity) - outer(post.activity, W.T @ post.activity)
    >>> decay = -W

The torch evaluation, the plasticity tensor of the fast engines, the printed equation and the
locality label are derived from the formula. Every formula is a sum of monomials of one form,

    coefficient · gate · … · gate · (row ⊗ column),      or    coefficient · gate · … · matrix,

with row ∈ {y, e, 1} on the row side of the matrix, column ∈ {y, e, 1, Mᵀy, Mᵀe} on its column side,
and each gate a scalar product of two vectors of one side. `W` (forward weights, [post, pre]) has
post rows and pre columns; `B` (backward weights, [pre, post]) has them exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NoReturn

from metaplast.terms.written import FormulaError, Part, factor_of, spelled

Population = Literal["post", "pre"]
# The signals of a population. The algebra knows three kinds; a system may offer others, which terms
# read as `post.signal("drive")`.
Kind = str
MatrixName = Literal["W", "B"]

__all__ = [
    "B", "Formula", "FormulaError", "Gate", "Kind", "Matrix", "MatrixName", "Monomial",
    "Population", "Projection", "Signal", "Transposed", "Vector", "W", "dot", "outer", "post",
    "pre", "total",
]  # fmt: skip


@dataclass(frozen=True)
class Signal(Part):
    """A vector of a neuron population: its activity y, its error e, all ones, or another kind that
    the system offers."""

    population: Population
    kind: Kind

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        return f"{self.population}.{self.kind}"

    @property
    def hint(self) -> str:
        """What to write instead of an unsupported operation."""
        return _VECTORS


@dataclass(frozen=True)
class Projection(Part):
    """Mᵀ·signal: a row-side signal carried through the matrix to its column side."""

    matrix: Matrix
    signal: Signal

    @property
    def population(self) -> Population:
        """Where the projected vector arrives."""
        return self.matrix.columns

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        return f"({self.matrix.name}.T @ {self.signal.written})"

    @property
    def hint(self) -> str:
        """What to write instead of an unsupported operation."""
        return _VECTORS


Vector = Signal | Projection

_VECTORS = (
    "vectors are put together by outer(post.error, pre.activity), their outer product, or "
    "dot(post.error, post.error), a sum over one population, and numbers multiply what comes "
    "out, as in 0.5 * outer(post.error, pre.activity)"
)


class Summand(Part):
    """Anything that can be added to formulas: a formula, or a matrix, which converts to one."""

    def as_formula(self) -> Formula:
        """Return the formula."""
        raise NotImplementedError

    def __neg__(self) -> Formula:
        return self * -1.0

    def __pos__(self) -> Formula:
        return self.as_formula()

    def __add__(self, other: Formula | Matrix) -> Formula:
        if not isinstance(other, Summand):
            self.refuse(f"{self.written} + {spelled(other)}")
        mine, others = self.as_formula(), other.as_formula()
        if mine.matrix != others.matrix:
            raise FormulaError(
                f"a formula changes one matrix; this one adds {mine.matrix.name} and "
                f"{others.matrix.name}; write two terms."
            )
        return Formula(mine.matrix, mine.monomials + others.monomials)

    def __radd__(self, other: object) -> Formula:
        # The start value of sum().
        if isinstance(other, int) and not isinstance(other, bool) and other == 0:
            return self.as_formula()
        self.refuse(f"{spelled(other)} + {self.written}")

    def __sub__(self, other: Formula | Matrix) -> Formula:
        if not isinstance(other, Summand):
            self.refuse(f"{self.written} - {spelled(other)}")
        return self + (-other)

    def __mul__(self, factor: float | Gate) -> Formula:
        formula = self.as_formula()
        if isinstance(factor, Gate):
            monomials = [replace(m, gates=(factor, *m.gates)) for m in formula.monomials]
        elif isinstance(factor, Part):
            self.refuse(f"{self.written} * {factor.written}")
        else:
            number = factor_of(factor)
            monomials = [replace(m, coefficient=number * m.coefficient) for m in formula.monomials]
        return Formula(formula.matrix, tuple(monomials))

    def __rmul__(self, factor: float | Gate) -> Formula:
        return self * factor

    def __truediv__(self, divisor: float) -> Formula:
        if isinstance(divisor, Part) or not factor_of(divisor):
            self.refuse(f"{self.written} / {spelled(divisor)}")
        formula = self.as_formula()
        number = factor_of(divisor)
        monomials = [replace(m, coefficient=m.coefficient / number) for m in formula.monomials]
        return Formula(formula.matrix, tuple(monomials))


@dataclass(frozen=True)
class Matrix(Summand):
    """The weights a term changes: `W` [post, pre] or `B` [pre, post]."""

    name: MatrixName
    rows: Population
    columns: Population

    @property
    def T(self) -> Transposed:  # noqa: N802 - the mathematical name
        """The transpose, to be applied to a row-side signal with `@`."""
        return Transposed(self)

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        return self.name

    def as_formula(self) -> Formula:
        """Return the formula that is the matrix itself."""
        return Formula(self, (Monomial(1.0),))

    def __matmul__(self, other: object) -> NoReturn:
        self.refuse(
            f"{self.name} @ {spelled(other)}, whose transpose {self.name}.T acts on a "
            f"{self.rows} signal,"
        )


@dataclass(frozen=True)
class Transposed(Part):
    """The transpose of a matrix, to be multiplied by a vector."""

    matrix: Matrix

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        return f"{self.matrix.name}.T"

    @property
    def hint(self) -> str:
        """What to write instead of an unsupported operation."""
        return f"{self.written} acts on a signal, {self.written} @ {self.matrix.rows}.activity"

    def __matmul__(self, signal: Signal) -> Projection:
        if not isinstance(signal, Signal) or signal.population != self.matrix.rows:
            raise FormulaError(
                f"{self.matrix.name}.T acts on a {self.matrix.rows} signal, got "
                f"{spelled(signal)}; write {self.written} @ {self.matrix.rows}.activity or "
                f".error."
            )
        return Projection(self.matrix, signal)


@dataclass(frozen=True)
class Gate(Part):
    """A scalar ⟨left, right⟩ that multiplies a monomial; both vectors are of one population."""

    left: Vector
    right: Vector

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        return f"dot({self.left.written}, {self.right.written})"

    @property
    def hint(self) -> str:
        """What to write instead of an unsupported operation."""
        return (
            "a gate multiplies a formula, gate * outer(post.error, pre.activity), numbers and "
            "further gates stand before it, 0.5 * (gate * (gate * formula))"
        )

    def __mul__(self, other: Formula | Matrix) -> Formula:
        if not isinstance(other, Summand):
            self.refuse(f"{self.written} * {spelled(other)}")
        return other * self


@dataclass(frozen=True)
class Monomial:
    """coefficient · Π gates · (row ⊗ column), or · the matrix itself if row is None."""

    coefficient: float
    gates: tuple[Gate, ...] = ()
    row: Signal | None = None
    column: Vector | None = None

    @property
    def is_ungated_decay(self) -> bool:
        """True if the monomial is a multiple of the matrix: it acts once per example."""
        return self.row is None and not self.gates


@dataclass(frozen=True)
class Formula(Summand):
    """A sum of monomials that all change the same matrix."""

    matrix: Matrix
    monomials: tuple[Monomial, ...]

    def __post_init__(self) -> None:
        """Check that every vector is at the synapses of the matrix.

        Raises:
            FormulaError: if a vector is carried through another matrix, or a number is not finite.
        """
        for monomial in self.monomials:
            factor_of(monomial.coefficient)
        foreign = [v for v in self.vectors if isinstance(v, Projection) and v.matrix != self.matrix]
        if foreign:
            raise FormulaError(
                f"a term that changes {self.matrix.name} reads vectors carried through "
                f"{self.matrix.name}, got {foreign[0].written}; use {self.matrix.name}.T."
            )

    def as_formula(self) -> Formula:
        """Return the formula itself."""
        return self

    @property
    def written(self) -> str:
        """The name in error messages."""
        return "a formula"

    @property
    def vectors(self) -> frozenset[Vector]:
        """Every vector that the formula reads, including gates and projected signals."""
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

        A projection Mᵀy sums over a neuron's other synapses, and a gate sums over a layer: neither
        is local.
        """
        return not any(
            monomial.gates or isinstance(monomial.column, Projection) for monomial in self.monomials
        )


@dataclass(frozen=True)
class _Population(Part):
    """The signals of one side of a synapse."""

    name: Population

    @property
    def activity(self) -> Signal:
        """The activity y."""
        return Signal(self.name, "activity")

    @property
    def error(self) -> Signal:
        """The error e from the feedback."""
        return Signal(self.name, "error")

    @property
    def one(self) -> Signal:
        """A one for each neuron."""
        return Signal(self.name, "one")

    def signal(self, kind: Kind) -> Signal:
        """Return a signal of any kind, such as `post.signal("drive")`; the system must offer it.

        Raises:
            FormulaError: if the kind is not a lower-case identifier.
        """
        if not (isinstance(kind, str) and kind.isidentifier() and kind.islower()):
            raise FormulaError(f"a kind of signal is a lower-case identifier, got {kind!r}.")
        return Signal(self.name, kind)

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        return self.activity.population

    @property
    def hint(self) -> str:
        """What to write instead of an unsupported operation."""
        return f"name a signal, {self.written}.activity, {self.written}.error or {self.written}.one"

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a population has the signals activity, error and one, not {name!r}.")


post = _Population("post")
pre = _Population("pre")
W = Matrix("W", rows="post", columns="pre")
B = Matrix("B", rows="pre", columns="post")


def outer(row: Signal, column: Vector) -> Formula:
    """Return the formula row ⊗ column; a post row changes `W`, a pre row changes `B`.

    Raises:
        FormulaError: if both vectors are of the same population, or the row is a projection.
    """
    fits = isinstance(row, Signal) and isinstance(column, Signal | Projection)
    if not fits or column.population == row.population:
        raise FormulaError(
            f"outer() takes a signal of one population and a vector of the other, got "
            f"{spelled(row)} and {spelled(column)}; write outer(post.error, pre.activity), or "
            f"outer(post.activity, W.T @ post.activity)."
        )
    matrix = W if row.population == "post" else B
    return Formula(matrix, (Monomial(1.0, (), row, column),))


def dot(left: Vector, right: Vector) -> Gate:
    """Return the gate ⟨left, right⟩ = Σ_i left_i right_i, a sum over one population.

    Raises:
        FormulaError: if the vectors are of different populations.
    """
    fits = all(isinstance(vector, Signal | Projection) for vector in (left, right))
    if not fits or left.population != right.population:
        raise FormulaError(
            f"dot() takes two vectors of one population, got {spelled(left)} and "
            f"{spelled(right)}; write dot(post.error, post.activity)."
        )
    return Gate(left, right)


def total(signal: Signal) -> Gate:
    """Return the gate 1ᵀsignal, the sum of a signal over its population.

    Raises:
        FormulaError: if it is not a signal.
    """
    if not isinstance(signal, Signal | Projection):
        raise FormulaError(
            f"total() takes one signal, got {spelled(signal)}; write total(post.error)."
        )
    return Gate(Signal(signal.population, "one"), signal)
