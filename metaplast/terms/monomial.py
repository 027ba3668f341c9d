"""The monomials that make up a formula."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metaplast.terms.factors import AnyGate
from metaplast.terms.vectors import Mapped, Signal, Vector

if TYPE_CHECKING:
    from metaplast.terms.formula import Formula

# The highest power of the weights in a formula; higher powers explode.
MOST_POWER = 3


@dataclass(frozen=True)
class Eligibility:
    """E ← (1 − 1/τ) E + F, one number at each synapse, zero when an episode begins.

    It is updated before it is used, at every occurrence: an example, or a time step.

    Attributes:
        formula: F.
        tau: τ ≥ 1, in occurrences.
    """

    formula: Formula
    tau: float


@dataclass(frozen=True)
class Monomial:
    """coefficient · Π gates · (row ⊗ column) ⊙ M^power; coefficient · Π gates · M if row is None.

    The power is elementwise: each synapse's own weight to that power. With an eligibility E, the
    monomial is coefficient · Π gates · row_i E_ij, and the column is ones.
    """

    coefficient: float
    gates: tuple[AnyGate, ...] = ()
    row: Signal | Mapped | None = None
    column: Vector | None = None
    power: int = 0
    eligibility: Eligibility | None = None

    @property
    def is_ungated_decay(self) -> bool:
        """True if the monomial is a multiple of the matrix: it acts once per example."""
        return self.row is None and not self.gates

    @property
    def shape(self) -> tuple[object, ...]:
        """Everything but the coefficient; the order of gates and their vectors does not matter."""
        sides = sorted(tuple(sorted(map(repr, gate.vectors or (gate,)))) for gate in self.gates)
        kept = self.eligibility
        whole = None if kept is None else (kept.tau, kept.formula.matrix, summed(kept.formula))
        return self.row, self.column, self.power, tuple(sides), whole


def summed(formula: Formula) -> frozenset[tuple[tuple[object, ...], float]]:
    """Return the total coefficient of each shape of monomial in a formula, without zeros."""
    found: dict[tuple[object, ...], float] = defaultdict(float)
    for monomial in formula.monomials:
        found[monomial.shape] += float(monomial.coefficient)
    return frozenset((shape, value) for shape, value in found.items() if value)
