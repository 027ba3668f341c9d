"""Backpropagation through a limited number of time steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from metaplast.base.errors import UserError, shown
from metaplast.systems.feedback import Feedback
from metaplast.systems.feedbacks.symmetric import Symmetric


@dataclass(frozen=True)
class Truncated(Symmetric):
    """Truncated backpropagation through time (Williams & Peng 1990), written `truncated:K`.

    An error is carried back through at most K products with W_hᵀ; `truncated:0` keeps only the
    errors that come directly from the readout. The meta-gradient is the true one.

    Attributes:
        reach: K; None only in the registered instance, which needs an argument.
    """

    reach: int | None = None

    name = "truncated"
    summary = "truncated:K: backpropagation through at most K time steps"
    systems: ClassVar[tuple[str, ...]] = ("recurrent",)
    code: str | None = None

    @property
    def written(self) -> str:
        """Name and number of time steps."""
        return self.name if self.reach is None else f"{self.name}:{self.reach}"

    def configured(self, argument: str) -> Feedback:
        """Return the feedback that reaches K steps back.

        Raises:
            UserError: if the argument is not a whole number from 0 up.
        """
        got = shown(argument) if argument else "nothing"
        if not (argument.isdecimal() and argument.isascii() and len(argument) < 7):
            raise UserError(
                f"the feedback truncated takes a whole number of time steps after a colon, got "
                f"{got}; write --feedback truncated:10."
            )
        return Truncated(int(argument))


truncated = Truncated()
