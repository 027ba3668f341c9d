"""Make systems that choose actions, for `--system choice:delay=3`."""

from __future__ import annotations

from types import MappingProxyType

from metaplast.base.errors import UserError, require, shown
from metaplast.base.words import assignments
from metaplast.systems.choice import Choice
from metaplast.systems.feedback import feedback_for
from metaplast.systems.kind import SystemKind, SystemRequest


class ChoiceKind(SystemKind):
    """Makes softmax neurons that learn from rewards."""

    name = Choice.name
    summary = f"{Choice.summary}; choice:delay=STEPS"
    defaults = MappingProxyType({"hidden": (), "init": "normal:0.01", "objective": "reward"})

    def build(self, request: SystemRequest) -> Choice:
        """Return the system for the data's numbers of inputs and actions.

        Raises:
            UserError: if there are hidden neurons, or a setting is invalid.
        """
        require(
            not request.hidden,
            f"the system {self.name} has no hidden neurons, but --hidden has "
            f"{shown(','.join(map(str, request.hidden)))}; leave --hidden out.",
        )
        feedback_for(self.name, request.feedback)
        return Choice(
            (request.inputs, request.outputs), _delay(request.argument), request.init,
            request.objective,
        )  # fmt: skip


def _delay(text: str) -> int:
    """Return the delay in `delay=3`; 0 for an empty text."""
    entries = text.split(",") if text else ()
    found = assignments("choice", entries, ("delay",), "choice:delay=3").get("delay", "0")
    try:
        return int(found)
    except ValueError:
        raise UserError(
            f"the delay of choice must be a whole number, got {shown(found)}; write choice:delay=3."
        ) from None


choice_kind = ChoiceKind()
