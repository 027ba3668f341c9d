"""The vectors of a formula: signals of the two populations, and their projections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from metaplast.terms.written import Part

if TYPE_CHECKING:
    from metaplast.terms.formula import Matrix

Population = Literal["post", "pre"]
# The signals of a population. The algebra knows three kinds; a system may offer others, which terms
# read as `post.signal("drive")`.
Kind = str

_VECTORS = (
    "combine vectors with outer(post.error, pre.activity), their outer product, or "
    "dot(post.error, post.error), a sum over one population; numbers multiply the result, as in "
    "0.5 * outer(post.error, pre.activity)"
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


@dataclass(frozen=True)
class Projection(_Vector):
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


Vector = Signal | Projection
