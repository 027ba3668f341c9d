"""Random magnitudes with the signs of the forward weights."""

from __future__ import annotations

from metaplast.systems.feedback import ChainFeedback, ErrorPass, Passage


class SignSymmetric(ChainFeedback):
    """B_ℓ = |M_ℓ| ⊙ sign(W_ℓᵀ), with M_ℓ random and fixed (Liao, Leibo & Poggio 2016)."""

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

    def passage(self, layer: int, given: ErrorPass) -> Passage:
        """Return |M_ℓ| ⊙ sign(W_ℓᵀ); the sign has no gradient."""
        weights, magnitude = given.weights[layer], given.backward[layer].constant
        signed = magnitude.mT.abs() * weights.constant.sign()
        return Passage(weights.held(signed), transposed=True)


sign_symmetric = SignSymmetric()
