"""The vectors of a formula: signals of the two populations, functions and projections of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from metaplast.terms.functions import FUNCTIONS, POWERS
from metaplast.terms.written import FormulaError, Part, spelled

if TYPE_CHECKING:
    from metaplast.terms.formula import Formula, Matrix

Population = Literal["post", "pre"]
# The signals of a population. The algebra knows three kinds; a system may offer others, which terms
# read as `post.signal("drive")`.
Kind = str

_VECTORS = (
    "combine vectors with outer(post.error, pre.activity), their outer product, or "
    "dot(post.error, post.error), a sum over one population; numbers multiply the result, as in "
    "0.5 * outer(post.error, pre.activity); functions of a signal are post.activity**2, **3, "
    "post.activity * post.error, sign(…), rectified(…) and magnitude(…)"
)


def is_kind(name: object) -> bool:
    """Return whether a name is valid for a signal or a scalar: a lower-case identifier."""
    return isinstance(name, str) and name.isidentifier() and name.islower()


class _Vector(Part):
    @property
    def hint(self) -> str:
        """What to write instead of an unsupported operation."""
        return _VECTORS


@dataclass(frozen=True)
class Signal(_Vector):
    """A vector of a neuron population: activity y, error e, ones, or a kind of the system's own."""

    population: Population
    kind: Kind

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        return f"{self.population}.{self.kind}"

    def __pow__(self, power: float) -> Mapped:
        return mapped(self) ** power

    def __mul__(self, other: Any) -> Any:
        if not isinstance(other, Signal | Mapped):
            return _per_neuron(self, other)
        return mapped(self) * other


@dataclass(frozen=True)
class Mapped(_Vector):
    """An elementwise function of the signals of one population: f(s), or f(s) ⊙ g(t).

    Attributes:
        factors: signals with the name of the function that is applied to each; see `functions`.
    """

    factors: tuple[tuple[Signal, str], ...]

    @property
    def population(self) -> Population:
        """The population of its signals."""
        return self.factors[0][0].population

    @property
    def signals(self) -> tuple[Signal, ...]:
        """The signals that it reads."""
        return tuple(signal for signal, _ in self.factors)

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        parts = (FUNCTIONS[name].written.format(s.written) for s, name in self.factors)
        return " * ".join(parts)

    def value(self, read: Callable[[Signal], Tensor]) -> Tensor:
        """Return its value, given a function that returns the value of a signal."""
        parts = [FUNCTIONS[name].apply(read(signal)) for signal, name in self.factors]
        return parts[0] if len(parts) == 1 else parts[0] * parts[1]

    def __pow__(self, power: float) -> Mapped:
        is_plain = len(self.factors) == 1 and FUNCTIONS[self.factors[0][1]].power == 1
        whole = isinstance(power, Real) and not isinstance(power, bool) and power in (2, 3)
        if not is_plain or not whole:
            self.refuse(f"{self.written}**{spelled(power)}")
        return Mapped(((self.factors[0][0], POWERS[int(power)]),))

    def __mul__(self, other: Any) -> Any:
        """Return the elementwise product of powers and functions of at most two signals.

        If the other factor is a formula, multiply each of its rows.
        """
        if not isinstance(other, Signal | Mapped):
            return _per_neuron(self, other)
        factors = dict(self.factors)
        for signal, name in mapped(other).factors:
            if signal in factors:
                power = _product_of_powers(factors[signal], name)
                if power is None:
                    self.refuse(f"{self.written} * {other.written}")
                factors[signal] = power
            else:
                factors[signal] = name
        ones = [signal for signal in factors if signal.kind == "one"]
        populations = {signal.population for signal in factors}
        if ones or len(factors) > 2 or len(populations) > 1:
            self.refuse(f"{self.written} * {other.written}")
        return Mapped(tuple(sorted(factors.items(), key=lambda f: _order(f[0]))))


def _per_neuron(vector: Signal | Mapped, other: object) -> Formula:
    """Return vector_i F_ij for a formula F.

    Raises:
        FormulaError: if `other` is not a formula, or the vector is not on its row side.
    """
    from metaplast.terms.formula import Formula

    found = other.per_neuron(vector) if isinstance(other, Formula) else None
    if found is None:
        vector.refuse(f"{vector.written} * {spelled(other)}")
    return found


def mapped(vector: Signal | Mapped, function: str = "same") -> Mapped:
    """Return a function of a signal, or the vector itself as `Mapped`.

    Raises:
        FormulaError: if the vector is not a signal, or is a vector of ones.
    """
    if isinstance(vector, Mapped) and function == "same":
        return vector
    if not isinstance(vector, Signal) or vector.kind == "one":
        shape = FUNCTIONS[function].written.format(spelled(vector))
        raise FormulaError(
            f"{shape} is not a formula: a function takes one signal, as in "
            f"{FUNCTIONS[function].written.format('post.activity')}."
        )
    return Mapped(((vector, function),))


def _product_of_powers(one: str, other: str) -> str | None:
    powers = FUNCTIONS[one].power, FUNCTIONS[other].power
    return POWERS.get(sum(powers)) if all(powers) else None


def _order(signal: Signal) -> tuple[int, str]:
    """Return the sort key of a signal in a product: y before e, then other kinds by name."""
    kinds = ("activity", "error")
    return (kinds.index(signal.kind) if signal.kind in kinds else len(kinds), signal.kind)


@dataclass(frozen=True)
class Projection(_Vector):
    """Mᵀ·signal: a row-side signal carried through the matrix to its column side."""

    matrix: Matrix
    signal: Signal

    @property
    def population(self) -> Population:
        """The population that the projected vector reaches."""
        return self.matrix.columns

    @property
    def written(self) -> str:
        """The text as a user writes it."""
        return f"({self.matrix.name}.T @ {self.signal.written})"


Vector = Signal | Mapped | Projection
