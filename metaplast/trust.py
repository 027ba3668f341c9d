"""A trust region for coefficients: where tasks diverge, go back, and take smaller steps from there.

A rule learns on the brink of divergence: with larger coefficients errors grow at every online step,
and a gradient from there says little. So an outer step that meets divergence is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

# A radius to begin with where no coefficient is known yet: Adam moves all of them at full speed.
COLD = 0.25
SHRINK, GROW, LEAST = 0.5, 1.25, 1 / 16


@dataclass
class TrustRegion:
    """Where no task diverged, and how far the next step may go.

    Attributes:
        radius: factor on the step size, at most 1.
        home: the first coefficients with which all tasks stayed finite.
        safe: the last such coefficients, or between them and home after further divergence.
    """

    radius: float = 1.0
    home: Tensor | None = None
    safe: Tensor | None = None

    def passed(self, u: Tensor) -> None:
        """Remember coefficients with which all tasks of a step stayed finite."""
        self.safe = u.clone()
        if self.home is None:
            self.home = self.safe
        self.radius = min(1.0, GROW * self.radius)

    def failed(self, u: Tensor) -> Tensor | None:
        """Return where to go on after tasks diverged; None if nothing safe is known yet."""
        if self.safe is None or self.home is None:
            return None
        self.radius = max(LEAST, SHRINK * self.radius)
        back = (u + self.safe) / 2
        # If that diverges too, further back the next time.
        self.safe = (self.safe + self.home) / 2
        return back

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint needs."""
        return dict(vars(self))
