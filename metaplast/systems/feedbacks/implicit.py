"""The exact errors of a network at its fixed point."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from metaplast.base.errors import UserError
from metaplast.systems.feedback import ErrorPass, Feedback, Shape


class Implicit(Feedback):
    """e = (I − G Wᵀ)⁻¹ G ∇ at a fixed point; `FixedPoint` computes it and has no other feedback."""

    name = "implicit"
    summary = "the gradient at a fixed point, by a linear solve (fixed-point only)"
    systems = ("fixed-point",)
    equation = "e = (I − G Wᵀ)⁻¹ G ∇"
    latex = r"e = (I - G W^{\top})^{-1} G \nabla"
    note = "the errors are the exact gradient at the fixed point"

    def shapes(self, widths: Sequence[int]) -> tuple[Shape, ...]:
        """Return nothing: this feedback has no matrices of its own."""
        return ()

    def errors(self, given: ErrorPass) -> tuple[Tensor, ...]:
        """Refuse: a stack of layers has no fixed point.

        Raises:
            UserError: always.
        """
        raise UserError("the feedback implicit serves only the system fixed-point.")


implicit = Implicit()
