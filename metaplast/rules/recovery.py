"""Whether discovery found the rule that made the data: support and coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from metaplast.rules.rule import Rule

# Largest relative error of a coefficient that counts as recovered.
TOLERANCE = 0.05


@dataclass(frozen=True)
class Recovery:
    """A planted rule compared with the rule that discovery found.

    Attributes:
        planted: the rule that made the query labels.
        found: the rule that discovery returned.
    """

    planted: Rule
    found: Rule

    @cached_property
    def missing(self) -> tuple[str, ...]:
        """Planted terms that were not found."""
        found = self.found.coefficients
        return tuple(name for name in self.planted.coefficients if name not in found)

    @cached_property
    def extra(self) -> tuple[str, ...]:
        """Found terms that were not planted."""
        planted = self.planted.coefficients
        return tuple(name for name in self.found.coefficients if name not in planted)

    @property
    def is_exact(self) -> bool:
        """True if the terms found are the terms planted."""
        return not (self.missing or self.extra)

    @cached_property
    def errors(self) -> dict[str, float]:
        """max_ℓ |found − planted| / max_ℓ |planted| of each planted term; 1 for a missing one."""
        found = self.found.coefficients
        return {
            name: _relative_error(_row(value), _row(found.get(name, 0.0)))
            for name, value in self.planted.coefficients.items()
        }

    @property
    def worst(self) -> float:
        """Largest of `errors`."""
        return max(self.errors.values(), default=0.0)

    @property
    def is_recovered(self) -> bool:
        """True if the support is exact and every coefficient within `TOLERANCE`."""
        return self.is_exact and self.worst <= TOLERANCE

    def __str__(self) -> str:
        """Return the verdict in one line."""
        if self.is_exact:
            return f"support recovered exactly, coefficients within {self.worst:.1%}"
        parts = [
            f"{label} {', '.join(names)}"
            for label, names in (("missing", self.missing), ("not planted", self.extra))
            if names
        ]
        return f"support not recovered: {'; '.join(parts)}"


def _row(value: float | Sequence[float]) -> list[float]:
    return [value] if isinstance(value, float | int) else list(value)


def _relative_error(planted: list[float], found: list[float]) -> float:
    """Return the largest error relative to the largest planted value; one row serves all layers."""
    layers = max(len(planted), len(found))
    planted, found = (row * layers if len(row) == 1 else row for row in (planted, found))
    largest = max(map(abs, planted))
    worst = max(abs(f - p) for f, p in zip(found, planted, strict=True))
    return worst / largest if largest else worst
