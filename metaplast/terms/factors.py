"""Numbers that multiply a whole update: scalar products of signals, and scalars of the system."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metaplast.terms.vectors import Vector
from metaplast.terms.written import Part, factor_of, spelled

if TYPE_CHECKING:
    from metaplast.terms.formula import Formula, Matrix


def _times(factor: Any, other: Formula | Matrix) -> Formula:
    from metaplast.terms.formula import Summand

    if not isinstance(other, Summand):
        factor.refuse(f"{factor.written} * {spelled(other)}")
    found: Formula = other * factor
    return found


class _Factor(Part, ABC):
    """A number at each occurrence that multiplies a monomial."""

    @property
    def hint(self) -> str:
        """What to write instead of an unsupported operation."""
        return (
            "a gate multiplies a formula, such as gate * outer(post.error, pre.activity); put "
            "numbers and further gates before it, as in 0.5 * (gate * (gate * formula))"
        )

    @property
    @abstractmethod
    def vectors(self) -> tuple[Vector, ...]:
        """The vectors from which it is computed."""

    def __mul__(self, other: Formula | Matrix) -> Formula:
        return _times(self, other)


@dataclass(frozen=True)
class Gate(_Factor):
    """A scalar product ⟨left, right⟩ that multiplies a monomial; both are of one population."""

    left: Vector
    right: Vector

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        return f"dot({self.left.written}, {self.right.written})"

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """Both vectors."""
        return (self.left, self.right)


@dataclass(frozen=True)
class Scalar(_Factor):
    """A number that the system sends to all synapses; it multiplies a monomial."""

    name: str

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        return f'scalar("{self.name}")'

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """An empty tuple: a scalar does not depend on the signals at the synapses."""
        return ()

    @property
    def parts(self) -> tuple[tuple[float, Scalar], ...]:
        """The scalar as a sum."""
        return ((1.0, self),)

    def __add__(self, other: Scalar | Modulation) -> Modulation:
        return _added(self, other, "+")

    def __sub__(self, other: Scalar | Modulation) -> Modulation:
        return _added(self, other, "-")

    def __neg__(self) -> Modulation:
        return Modulation(((-1.0, self),))


@dataclass(frozen=True)
class Modulation(Part):
    """A sum of scalars with factors, such as reward − ⟨reward⟩, that multiplies a formula."""

    parts: tuple[tuple[float, Scalar], ...]

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        texts = [f"{number:g} * {scalar.written}" for number, scalar in self.parts]
        return (
            f"({' + '.join(texts)})".replace("+ -", "- ")
            .replace("(1 * ", "(")
            .replace(" 1 * ", " ")
        )

    @property
    def hint(self) -> str:
        """What to write instead of an unsupported operation."""
        return "a sum of scalars multiplies a formula: (reward - trace(reward, tau=20)) * formula"

    def __add__(self, other: Scalar | Modulation) -> Modulation:
        return _added(self, other, "+")

    def __sub__(self, other: Scalar | Modulation) -> Modulation:
        return _added(self, other, "-")

    def __neg__(self) -> Modulation:
        return self._scaled(-1.0)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Part):
            return _times(self, other)  # type: ignore[arg-type]
        return self._scaled(factor_of(other))

    def __rmul__(self, factor: float) -> Modulation:
        return self._scaled(factor_of(factor))

    def _scaled(self, factor: float) -> Modulation:
        return Modulation(tuple((factor * number, scalar) for number, scalar in self.parts))


def _added(one: Scalar | Modulation, other: Scalar | Modulation, sign: str) -> Modulation:
    if not isinstance(other, Scalar | Modulation):
        one.refuse(f"{one.written} {sign} {spelled(other)}")
    factor = 1.0 if sign == "+" else -1.0
    return Modulation((*one.parts, *((factor * number, s) for number, s in other.parts)))


AnyGate = Gate | Scalar
