"""Compare a discovered rule with the planted rule that made the data: support and coefficients."""

from __future__ import annotations

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
        found = self.found.named_theta.names
        return tuple(name for name in self.planted.named_theta.names if name not in found)

    @cached_property
    def extra(self) -> tuple[str, ...]:
        """Found terms that were not planted."""
        planted = self.planted.named_theta.names
        return tuple(name for name in self.found.named_theta.names if name not in planted)

    @property
    def is_exact(self) -> bool:
        """True if the terms found are the terms planted."""
        return not (self.missing or self.extra)

    @cached_property
    def errors(self) -> dict[str, float]:
        """max_ℓ |found − planted| / max_ℓ |planted| for each planted term; 1 for a missing one."""
        planted, found = self.planted.named_theta, self.found.named_theta
        sites = max(planted.sites, found.sites)
        rows = planted.for_sites(sites).mT.tolist(), found.for_sites(sites).mT.tolist()
        there = dict(zip(found.names, rows[1], strict=True))
        return {
            name: _relative_error(row, there.get(name, [0.0] * sites))
            for name, row in zip(planted.names, rows[0], strict=True)
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


def _relative_error(planted: list[float], found: list[float]) -> float:
    """Return the largest error over the sites, relative to the largest planted value if not 0."""
    largest = max(map(abs, planted))
    worst = max(abs(f - p) for f, p in zip(found, planted, strict=True))
    return worst / largest if largest else worst
