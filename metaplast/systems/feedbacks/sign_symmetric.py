"""Random magnitudes with the signs of the forward weights."""

from __future__ import annotations

from torch import Tensor

from metaplast.systems.feedback import ChainFeedback, ErrorPass


class SignSymmetric(ChainFeedback):
    """B_ℓ = |M_ℓ| ⊙ sign(W_ℓᵀ), magnitudes random and fixed (Liao, Leibo & Poggio 2016)."""

    name = "sign-symmetric"
    summary = "random fixed magnitudes with the signs of Wᵀ"
    kernel = "signed"
    code = "({xp}.abs(feedback[k]) * {xp}.sign(weights[k].T)) @ e[k + 1]"
    equation = "eₗ₋₁ = ((|Bₗ| ⊙ sign Wₗᵀ) eₗ) ⊙ σ′(zₗ₋₁)"
    latex = (
        r"e_{\ell-1} = ((\lvert B_{\ell} \rvert \odot \operatorname{sign} W_{\ell}^{\top})\, "
        r"e_{\ell}) \odot \sigma'(z_{\ell-1})"
    )
    note = "the feedback has random fixed magnitudes and the signs of the weights"

    def below(self, layer: int, error: Tensor, given: ErrorPass) -> Tensor:
        """Return (|M_ℓ| ⊙ sign(W_ℓᵀ)) e_ℓ; the sign has no gradient."""
        magnitude, weight = given.backward[layer].constant, given.weights[layer].constant
        return error @ (magnitude.mT.abs() * weight.sign())


sign_symmetric = SignSymmetric()
