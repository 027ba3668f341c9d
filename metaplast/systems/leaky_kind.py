"""Make networks of leaky neurons for `--system leaky:tau=10,leak=potential`."""

from __future__ import annotations

from types import MappingProxyType

from metaplast.base.errors import UserError, shown
from metaplast.base.words import assignments
from metaplast.systems.kind import SystemKind, SystemRequest, require_one_population
from metaplast.systems.leaky import Leaky
from metaplast.systems.timing import UNKNOWN


class LeakyKind(SystemKind):
    """Makes networks of leaky neurons."""

    name = Leaky.name
    summary = f"{Leaky.summary}; leaky:tau=STEPS,leak=rate or potential"
    reads_sequences = True
    defaults = MappingProxyType({"hidden": (100,), "activation": "tanh"})

    def build(self, request: SystemRequest) -> Leaky:
        """Return the network for the data's sequences.

        Raises:
            UserError: if there is not exactly one hidden width, or a setting is invalid.
        """
        neurons = require_one_population(self, request)
        entries = request.argument.split(",") if request.argument else ()
        usage = "leaky:tau=10,leak=rate"
        given = assignments(self.name, entries, ("tau", "leak"), usage)
        try:
            tau = float(given.get("tau", Leaky.tau))
        except ValueError:
            raise UserError(
                f"tau of leaky must be a number, got {shown(given['tau'])}; write {usage}."
            ) from None
        return Leaky(
            (request.inputs, neurons, request.outputs), request.timing or UNKNOWN, tau,
            given.get("leak", Leaky.leak), request.activation, request.init, request.feedback,
            request.objective,
        )  # fmt: skip


leaky_kind = LeakyKind()
