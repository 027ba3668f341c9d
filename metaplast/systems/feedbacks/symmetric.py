"""Backpropagation, with the true meta-gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from metaplast.systems.feedback import ChainFeedback, ErrorPass, Passage, Shape


class Symmetric(ChainFeedback):
    """B_ℓ = W_ℓᵀ: backpropagation; the meta-gradient flows through the transpose."""

    name = "symmetric"
    summary = "B = Wᵀ, backpropagation, with the true meta-gradient"
    kernel: ClassVar[str | None] = "symmetric"
    code: str | None = "weights[k].T @ e[k + 1]"
    equation = "eₗ₋₁ = (Wₗᵀ eₗ) ⊙ σ′(zₗ₋₁)"
    latex = r"e_{\ell-1} = (W_{\ell}^{\top}\, e_{\ell}) \odot \sigma'(z_{\ell-1})"
    note = "the feedback is the transpose of the weights, as in backpropagation"

    def shapes(self, widths: Sequence[int]) -> tuple[Shape, ...]:
        """Return nothing: this feedback has no matrices of its own."""
        return ()

    def passage(self, layer: int, given: ErrorPass) -> Passage:
        """Return W_ℓᵀ."""
        return Passage(given.weights[layer], transposed=True)


symmetric = Symmetric()
