"""Recursive least squares: the inverse correlation matrix P of one lane."""

from __future__ import annotations

import numpy as np

from metaplast.base.bands import Numbers

# Updates that are kept separately before they are added to P in one product.
PENDING = 32


class InverseCorrelation:
    """P, which starts at I/10 and changes by −s c k kᵀ.

    P is so large that reading it takes most of the time. P is symmetric, so only its lower half is
    used, and the last updates u uᵀ with u = √(s c) k are kept separately: P r = P_0 r − Σ u (uᵀ r).

    Args:
        neurons: N.
    """

    def __init__(self, neurons: int) -> None:
        from scipy.linalg import blas

        self._multiply, self._update = blas.dsymv, blas.dsyrk
        self.lower = np.asfortranarray(np.eye(neurons) / 10)
        self.pending = np.zeros((neurons, PENDING), order="F")
        self.count = 0

    def product(self, r: Numbers) -> Numbers:
        """Return k = P r, [neuron]."""
        k: Numbers = self._multiply(1.0, self.lower, r, lower=1)
        if self.count:
            u = self.pending[:, : self.count]
            k -= u @ (r @ u)
        return k

    def subtract(self, k: Numbers, strength: float) -> None:
        """Change P by −strength · k kᵀ, with strength = s c ≥ 0."""
        self.pending[:, self.count] = np.sqrt(strength) * k
        self.count += 1
        if self.count == PENDING:
            self._flush()

    def dense(self) -> Numbers:
        """Return P, [neuron, neuron]."""
        self._flush()
        lower = np.tril(self.lower)
        return lower + np.tril(lower, -1).T

    def _flush(self) -> None:
        self.pending[:, self.count :] = 0
        self.lower = self._update(
            -1.0, self.pending, beta=1.0, c=self.lower, lower=1, overwrite_c=1
        )
        self.count = 0
