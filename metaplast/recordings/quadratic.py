"""The deviance near a fit as a quadratic function of all parameters, cluster by cluster.

With information H_c and score u_c at the point p₀, and φ the dispersion,

    deviance_c(p) ≈ deviance_c(p₀) − 2 u_cᵀ (p − p₀) + (p − p₀)ᵀ H_c (p − p₀).

With H = Σ_c H_c, u = Σ_c u_c and g = H p₀ + u, the fit of any set S of parameters is
p_S = H_SS⁻¹ g_S. It lowers the deviance by g_Sᵀ p_S. Neither needs a new pass through the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.recordings.fit import solved


@dataclass(frozen=True, eq=False)
class Quadratic:
    """A quadratic deviance.

    Attributes:
        information: H, [parameter, parameter].
        gradient: g, [parameter].
        dispersion: φ.
        always: indices of the parameters that are in every model, such as a gain.
    """

    information: Numbers
    gradient: Numbers
    dispersion: float
    always: tuple[int, ...] = ()

    def _all(self, kept: Sequence[int]) -> list[int]:
        return [*kept, *self.always]

    def fitted(self, kept: Sequence[int]) -> Numbers:
        """Return the fitted values of the parameters `kept` and `always`."""
        index = self._all(kept)
        found = solved(self.information[np.ix_(index, index)], self.gradient[index])
        return found[: len(kept)]

    def saved(self, kept: Sequence[int]) -> float:
        """Return how much a model lowers the deviance, in units of φ."""
        index = self._all(kept)
        if not index:
            return 0.0
        own = self.gradient[index]
        return float(own @ solved(self.information[np.ix_(index, index)], own)) / self.dispersion

    def eliminated(self, fixed: Sequence[int], rest: Sequence[int]) -> tuple[Numbers, Numbers]:
        """Return H and g of the parameters `rest` after eliminating `fixed`."""
        index = self._all(fixed)
        information = self.information[np.ix_(rest, rest)]
        gradient = self.gradient[list(rest)]
        if not index:
            return information, gradient
        cross = self.information[np.ix_(index, rest)]
        right = np.concatenate([cross, self.gradient[index][:, None]], 1)
        found = solved(self.information[np.ix_(index, index)], right)
        return information - cross.T @ found[:, :-1], gradient - cross.T @ found[:, -1]

    def gains(self, kept: Sequence[int], others: Sequence[int]) -> Numbers:
        """Return how much adding each other parameter would lower the deviance, in units of φ."""
        information, gradient = self.eliminated(kept, others)
        own = np.diag(information)
        # A parameter that is a combination of `kept`, up to rounding, gains nothing.
        spanned = own <= 1e-10 * np.diag(self.information)[list(others)]
        return np.where(spanned, 0.0, gradient**2 / np.where(spanned, 1.0, own)) / self.dispersion

    def squared_t(self, kept: Sequence[int]) -> Numbers:
        """Return t² of each of the parameters `kept` in their joint fit."""
        index = self._all(kept)
        inverse = solved(self.information[np.ix_(index, index)], np.eye(len(index)))
        values = self.fitted(kept)
        spread = np.maximum(np.diag(inverse)[: len(kept)], 1e-300) * self.dispersion
        return np.asarray(values**2 / spread)
