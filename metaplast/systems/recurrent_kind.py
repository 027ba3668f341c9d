"""Makes recurrent networks for `--system recurrent`."""

from __future__ import annotations

from types import MappingProxyType

from metaplast.base.errors import require, shown
from metaplast.systems.kind import SystemKind, SystemRequest, require_no_argument
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.timing import Timing

# Used as the timing until the data are known. Data without a timing are refused.
UNKNOWN = Timing(frames=1, show=1, time=2)


class RecurrentKind(SystemKind):
    """Makes recurrent networks."""

    name = Recurrent.name
    summary = Recurrent.summary
    reads_sequences = True
    defaults = MappingProxyType({"hidden": (100,), "activation": "tanh"})

    def build(self, request: SystemRequest) -> Recurrent:
        """Return the network for the data's sequences.

        Raises:
            UserError: if there is not exactly one hidden width, or a setting is invalid.
        """
        require_no_argument(self, request)
        require(
            len(request.hidden) == 1,
            f"the system {self.name} has one population of neurons, but --hidden has "
            f"{len(request.hidden)} widths, {shown(','.join(map(str, request.hidden)))}; give one, "
            f"such as --hidden 100.",
        )
        return Recurrent(
            (request.inputs, request.hidden[0], request.outputs),
            request.timing or UNKNOWN,
            request.activation,
            request.init,
            request.feedback,
            request.objective,
        )


recurrent = RecurrentKind()
