"""Backpropagation as the published code differentiates it."""

from __future__ import annotations

from metaplast.systems.feedback import ErrorPass, Passage
from metaplast.systems.feedbacks.symmetric import Symmetric


class SymmetricDetached(Symmetric):
    """B_ℓ = W_ℓᵀ, held constant in the meta-gradient, as in the published code."""

    name = "symmetric-detached"
    summary = "B = Wᵀ, no meta-gradient through it (as the published code)"
    kernel = "detached"

    def passage(self, layer: int, given: ErrorPass) -> Passage:
        """Return W_ℓᵀ, held constant."""
        return Passage(given.weights[layer].held(), transposed=True)


symmetric_detached = SymmetricDetached()
