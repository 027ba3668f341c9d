"""No errors: for systems that learn only from a reward."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from metaplast.base.errors import UserError
from metaplast.systems.feedback import ErrorPass, Feedback, Shape


class NoFeedback(Feedback):
    """There are no errors; the system learns from a reward."""

    name = "none"
    summary = "no errors at all, for systems that learn from a reward (choice only)"
    systems = ("choice",)
    equation = "no errors"
    latex = r"\text{no errors}"
    note = "no error reaches any synapse"

    def shapes(self, widths: Sequence[int]) -> tuple[Shape, ...]:
        """Return nothing: there are no matrices."""
        return ()

    def errors(self, given: ErrorPass) -> tuple[Tensor, ...]:
        """Refuse: there are no errors.

        Raises:
            UserError: always.
        """
        raise UserError("the feedback none serves only systems that learn from a reward.")


none = NoFeedback()
