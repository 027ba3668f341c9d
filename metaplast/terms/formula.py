"""Formulas, which are sums of monomials on a matrix, and the operations between formulas.

`metaplast.terms.algebra` holds the names with which users write formulas.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, NoReturn

from metaplast.terms.factors import AnyGate, Gate, Modulation, Scalar
from metaplast.terms.monomial import MOST_POWER, Eligibility, Monomial
from metaplast.terms.vectors import Mapped, Population, Projection, Signal, Vector
from metaplast.terms.written import FormulaError, Part, factor_of, spelled

MatrixName = Literal["W", "B"]


class Summand(Part, ABC):
    """Anything that can be added to formulas: a formula, or a matrix, which converts to one."""

    @abstractmethod
    def as_formula(self) -> Formula:
        """Return the formula."""

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

    def __mul__(self, factor: float | AnyGate | Modulation | Signal | Mapped | Summand) -> Formula:
        if isinstance(factor, Gate | Scalar):
            return self._each(lambda m: replace(m, gates=(factor, *m.gates)))
        if isinstance(factor, Modulation):
            first, *rest = (number * (gate * self) for number, gate in factor.parts)
            return sum(rest, start=first)
        if isinstance(factor, Signal | Mapped):
            found = self.per_neuron(factor)
            if found is not None:
                return found
        if isinstance(factor, Summand) and (isinstance(factor, Matrix) or isinstance(self, Matrix)):
            return _weighted(self, factor)
        if isinstance(factor, Part):
            self.refuse(f"{self.written} * {factor.written}")
        number = factor_of(factor)
        return self._each(lambda m: replace(m, coefficient=number * m.coefficient))

    def __rmul__(self, factor: float | AnyGate | Modulation) -> Formula:
        return self * factor

    def __truediv__(self, divisor: float) -> Formula:
        if isinstance(divisor, Part) or not (number := factor_of(divisor)):
            self.refuse(f"{self.written} / {spelled(divisor)}")
        return self._each(lambda m: replace(m, coefficient=m.coefficient / number))

    def per_neuron(self, factor: Signal | Mapped) -> Formula | None:
        """Return factor_i F_ij; None if the factor is not a row-side vector.

        Raises:
            FormulaError: if a row would be a product of more than two signals.
        """
        matrix = self.as_formula().matrix
        if factor.population != matrix.rows:
            return None
        one, column = Signal(matrix.rows, "one"), Signal(matrix.columns, "one")

        def times(monomial: Monomial) -> Monomial:
            if monomial.row is None:
                return replace(monomial, row=factor, column=column, power=1)
            if one in (factor, monomial.row):
                return replace(monomial, row=monomial.row if factor == one else factor)
            return replace(monomial, row=factor * monomial.row)

        return self._each(times)

    def _each(self, changed: Callable[[Monomial], Monomial]) -> Formula:
        """Return the formula with `changed` applied to every monomial."""
        formula = self.as_formula()
        return Formula(formula.matrix, tuple(map(changed, formula.monomials)))


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
        raise FormulaError(
            f"{self.name} @ {spelled(other)} is not a formula; only the transpose acts on a "
            f"signal, as in {self.name}.T @ {self.rows}.activity."
        )


def _weighted(one: Summand, other: Summand) -> Formula:
    """Return the elementwise product of a matrix and a formula that changes it.

    Raises:
        FormulaError: if the formula changes another matrix or reads an eligibility, or the power
            of the weights is too high.
    """
    matrix, formula = (one, other) if isinstance(one, Matrix) else (other, one)
    assert isinstance(matrix, Matrix)
    found = formula.as_formula()
    if found.matrix != matrix:
        raise FormulaError(
            f"a formula is multiplied by the matrix that it changes, {found.matrix.name}, got "
            f"{matrix.name}."
        )
    ones = Signal(matrix.rows, "one"), Signal(matrix.columns, "one")

    def times(monomial: Monomial) -> Monomial:
        if monomial.eligibility is not None:
            raise FormulaError(
                f"{matrix.name} * eligible(…) is not a formula: the weights belong inside, as in "
                f"eligible({matrix.name} * outer(post.activity, pre.activity), tau=10)."
            )
        if monomial.row is None:
            # M ⊙ M is written as the outer product of ones, times M².
            return replace(monomial, row=ones[0], column=ones[1], power=2)
        return replace(monomial, power=monomial.power + 1)

    return found._each(times)


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
        return f"{self.written} acts on a signal: {self.written} @ {self.matrix.rows}.activity"

    def __matmul__(self, signal: Signal) -> Projection:
        if not isinstance(signal, Signal) or signal.population != self.matrix.rows:
            raise FormulaError(
                f"{self.matrix.name}.T acts on a {self.matrix.rows} signal, got "
                f"{spelled(signal)}; write {self.written} @ {self.matrix.rows}.activity or "
                f".error."
            )
        return Projection(self.matrix, signal)


@dataclass(frozen=True)
class Formula(Summand):
    """A sum of monomials that all change the same matrix."""

    matrix: Matrix
    monomials: tuple[Monomial, ...]

    def __post_init__(self) -> None:
        """Check that every vector is available at the synapses of the matrix.

        Raises:
            FormulaError: if a projection uses another matrix, a number is not finite, or a power
                of the weights is too high.
        """
        for monomial in self.monomials:
            factor_of(monomial.coefficient)
            if monomial.power > MOST_POWER:
                raise FormulaError(
                    f"a formula takes the weights to a power of at most {MOST_POWER}, got "
                    f"{monomial.power}."
                )
        foreign = [v for v in self.vectors if isinstance(v, Projection) and v.matrix != self.matrix]
        if foreign:
            raise FormulaError(
                f"a term that changes {self.matrix.name} can only read projections through "
                f"{self.matrix.name}, got {foreign[0].written}; use {self.matrix.name}.T."
            )

    def as_formula(self) -> Formula:
        """Return the formula itself."""
        return self

    @property
    def written(self) -> str:
        """The name in error messages."""
        return "a formula"

    @cached_property
    def vectors(self) -> frozenset[Vector]:
        """Every vector that the formula reads, and the signals in projections and functions."""
        found: set[Vector] = set()
        for monomial in self.monomials:
            parts = [monomial.row, monomial.column]
            parts += [side for gate in monomial.gates for side in gate.vectors]
            found |= {part for part in parts if part is not None}
            if monomial.eligibility is not None:
                found |= monomial.eligibility.formula.vectors
        found |= {v.signal for v in found if isinstance(v, Projection)}
        found |= {signal for v in found if isinstance(v, Mapped) for signal in v.signals}
        return frozenset(found)

    @cached_property
    def scalars(self) -> frozenset[str]:
        """Names of the scalars that the formula reads."""
        gates = (gate for monomial in self.monomials for gate in monomial.gates)
        found = {gate.name for gate in gates if isinstance(gate, Scalar)}
        return frozenset(found.union(*(e.formula.scalars for e in self.eligibilities)))

    @cached_property
    def eligibilities(self) -> tuple[Eligibility, ...]:
        """Each eligibility that the formula reads, once."""
        found = (monomial.eligibility for monomial in self.monomials)
        return tuple(dict.fromkeys(e for e in found if e is not None))

    @property
    def is_local(self) -> bool:
        """True if each synapse needs only the signals of its two neurons and its own weight.

        A projection Mᵀy sums over a neuron's other synapses, and a gate ⟨u, v⟩ sums over a layer:
        neither is local. Scalars do not count; `Term.locality` names them.
        """
        return not any(
            isinstance(monomial.column, Projection) or any(gate.vectors for gate in monomial.gates)
            for monomial in self.monomials
        ) and all(e.formula.is_local for e in self.eligibilities)
