"""Weights between two numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from metaplast.base.errors import UserError, require, shown
from metaplast.systems.constraint import Limits, WeightConstraint, plain_number

_USAGE = "--weights bounds:-1,1"


@dataclass(frozen=True)
class Bounds(WeightConstraint):
    """Each weight stays between two numbers: P(V) = min(max(V, low), high).

    Drawn weights outside them begin at the nearer one.

    Attributes:
        low: the least weight.
        high: the largest weight.
    """

    low: float = -math.inf
    high: float = math.inf

    name = "bounds"
    summary = "bounds:LOW,HIGH: every weight stays between two numbers"

    @property
    def written(self) -> str:
        """Name and bounds."""
        return f"{self.name}:{plain_number(self.low)},{plain_number(self.high)}"

    @property
    def text(self) -> str:
        """The two bounds."""
        return f"every weight stays between {self.low:g} and {self.high:g}"

    @property
    def projection(self) -> tuple[str, ...]:
        """Clip."""
        low, high = (f'float("{b}")' if math.isinf(b) else repr(b) for b in (self.low, self.high))
        return (f"return {{xp}}.clip(W, {low}, {high})",)

    def configured(self, argument: str) -> Bounds:
        """Return the constraint written as `bounds:LOW,HIGH`.

        Raises:
            UserError: if these are not two numbers, or the first is above the second.
        """
        parts = argument.split(",")
        try:
            found = tuple(map(float, parts))
        except ValueError:
            found = ()
        if len(found) != 2 or any(map(math.isnan, found)):
            raise UserError(
                f"the constraint bounds takes two numbers after a colon, got "
                f"{shown(argument) if argument else 'nothing'}; write {_USAGE}."
            )
        low, high = found
        require(
            low <= high and low < math.inf and high > -math.inf,
            f"the lower bound of weights must not be above the upper one, got "
            f"{low:g} and {high:g}; write {_USAGE}.",
        )
        return Bounds(low, high)

    def limits(self, columns: int, *, from_inputs: bool) -> Limits:
        """Return the two numbers."""
        return Limits.everywhere(columns, self.low, self.high)


bounds = Bounds()
