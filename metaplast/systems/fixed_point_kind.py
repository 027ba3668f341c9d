"""Make fixed-point networks for `--system fixed-point:gain=0.5,solver=gmres`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from metaplast.base.errors import UserError, require, shown, unknown_name
from metaplast.base.words import assignments
from metaplast.systems.feedback import feedback_for
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.kind import SystemKind, SystemRequest, require_one_population

# The type of each setting after the colon.
_READ: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        "gain": float, "drive": str, "readout": str, "rate": float, "steps": int,
        "tolerance": float, "solver": str, "batch": int,
    }
)  # fmt: skip
_WIRINGS = ("random", "direct")


class FixedPointKind(SystemKind):
    """Makes recurrent networks that learn at their fixed points."""

    name = FixedPoint.name
    summary = FixedPoint.summary
    defaults = MappingProxyType({"hidden": (100,), "activation": "tanh"})

    def build(self, request: SystemRequest) -> FixedPoint:
        """Return the network with the data's numbers of inputs and outputs.

        Raises:
            UserError: if there is not exactly one population, the argument cannot be read, or a
                value is invalid.
        """
        neurons = require_one_population(self, request)
        require(
            request.init == "xavier",
            f"--system {self.name} draws W with its own gain, got --init {request.init}; leave "
            f"--init out and write {self.name}:gain=0.5.",
        )
        feedback_for(self.name, request.feedback)
        widths = (request.inputs, neurons, request.outputs)
        return FixedPoint(
            widths, request.activation, request.objective, **_arguments(request.argument)
        )


def _arguments(text: str) -> dict[str, Any]:
    """Return the settings written as `name=value,name=value`."""
    found: dict[str, Any] = {}
    usage = "fixed-point:gain=0.5,solver=gmres"
    entries = text.split(",") if text else ()
    for name, value in assignments("fixed-point", entries, _READ, usage).items():
        try:
            found[name] = _READ[name](value)
        except ValueError:
            raise UserError(
                f"{name} of fixed-point must be a {'whole ' if _READ[name] is int else ''}number, "
                f"got {shown(value)}; write fixed-point:{name}="
                f"{getattr(FixedPoint, name)}."
            ) from None
        if name in ("drive", "readout") and value not in _WIRINGS:
            raise unknown_name(name, value, _WIRINGS)
    return found


fixed_point_kind = FixedPointKind()
