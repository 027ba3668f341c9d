"""No constraint."""

from __future__ import annotations

from dataclasses import dataclass

from metaplast.systems.constraint import NONE, Limits, WeightConstraint


@dataclass(frozen=True)
class Unconstrained(WeightConstraint):
    """Weights may have any value."""

    name = NONE
    summary = "weights may have any value"
    constrains = False
    text = "weights may have any value"

    def limits(self, columns: int, *, from_inputs: bool) -> Limits:
        """Return −∞ and ∞."""
        return Limits.everywhere(columns)


none = Unconstrained()
