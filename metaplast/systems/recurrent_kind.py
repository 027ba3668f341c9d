"""Make recurrent networks for `--system recurrent`."""

from __future__ import annotations

from types import MappingProxyType

from metaplast.systems.kind import (
    SystemKind,
    SystemRequest,
    require_no_argument,
    require_one_population,
)
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.timing import UNKNOWN


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
        neurons = require_one_population(self, request)
        return Recurrent(
            (request.inputs, neurons, request.outputs),
            request.timing or UNKNOWN,
            request.activation,
            request.init,
            request.feedback,
            request.objective,
        )


recurrent = RecurrentKind()
