"""Feedback alignment."""

from __future__ import annotations

from typing import ClassVar

from metaplast.systems.feedback import ChainFeedback, ErrorPass, Passage


class Fixed(ChainFeedback):
    """B_ℓ random and fixed: feedback alignment (Lillicrap et al. 2016)."""

    name = "fixed"
    summary = "B random and fixed, feedback alignment"
    kernel: ClassVar[str | None] = "own"
    code: str | None = "feedback[k] @ e[k + 1]"
    equation = "eₗ₋₁ = (Bₗ eₗ) ⊙ σ′(zₗ₋₁)"
    latex = r"e_{\ell-1} = (B_{\ell}\, e_{\ell}) \odot \sigma'(z_{\ell-1})"
    note = "the feedback matrices are random and fixed"

    def passage(self, layer: int, given: ErrorPass) -> Passage:
        """Return B_ℓ."""
        return Passage(given.backward[layer])


fixed = Fixed()
