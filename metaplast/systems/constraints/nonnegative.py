"""Non-negative weights."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from metaplast.systems.constraint import Limits, WeightConstraint


@dataclass(frozen=True)
class NonNegative(WeightConstraint):
    """All synapses excite: P(V) = max(V, 0). Drawn weights begin as |W|."""

    name = "nonnegative"
    summary = "no weight is negative; drawn weights begin as |W|"
    text = "no weight is negative"
    projection = ("return {xp}.clip(W, 0, None)",)
    beginning = ("return abs(W)",)

    def limits(self, columns: int, *, from_inputs: bool) -> Limits:
        """Return 0 and ∞."""
        return Limits.everywhere(columns, low=0.0)

    def start(self, drawn: Tensor, *, from_inputs: bool) -> Tensor:
        """Return |W|."""
        return drawn.abs()


nonnegative = NonNegative()
