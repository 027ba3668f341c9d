"""Backpropagation as the published code differentiates it."""

from __future__ import annotations

from torch import Tensor

from metaplast.systems.feedback import ErrorPass
from metaplast.systems.feedbacks.symmetric import Symmetric


class SymmetricDetached(Symmetric):
    """B_ℓ = W_ℓᵀ, held constant in the meta-gradient, as in the published code."""

    name = "symmetric-detached"
    summary = "B = Wᵀ, no meta-gradient through it (as the published code)"
    kernel = "detached"

    def below(self, layer: int, error: Tensor, given: ErrorPass) -> Tensor:
        """Return W_ℓᵀ e_ℓ, W_ℓ held constant."""
        return error @ given.weights[layer].constant


symmetric_detached = SymmetricDetached()
