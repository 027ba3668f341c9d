"""A trust region for coefficients: if tasks diverge, go back and take smaller steps from there.

Rules learn near the edge of divergence: with larger coefficients errors grow at every online step,
and a gradient there is of little use. So an outer step that causes divergence is undone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

# The initial radius if θ is still a guess: Adam takes full-size steps before it has statistics.
COLD = 0.25
SHRINK, GROW, LEAST = 0.5, 1.25, 1 / 16


@dataclass
class Backtracking:
    """The last coefficients without divergence, and the size of the next step.

    Attributes:
        radius: factor on the step size, at most 1.
        home: the first coefficients with which all tasks stayed finite.
        safe: the last such coefficients; after further divergence, a point between them and home.
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
        """Return the point from which to continue after tasks diverged; None if none is safe."""
        if self.safe is None or self.home is None:
            return None
        self.radius = max(LEAST, SHRINK * self.radius)
        back = (u + self.safe) / 2
        # If tasks diverge there too, go back further next time.
        self.safe = (self.safe + self.home) / 2
        return back

    def state(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return dict(vars(self))
