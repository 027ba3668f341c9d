"""The defaults of options that depend on `--system`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from metaplast.base.settings import Settings
from metaplast.commands._options import parse_early
from metaplast.systems.kind import DEFAULT, get_system


@dataclass(frozen=True)
class _System(Settings):
    """The option --system, which is read first because it changes the defaults of others."""

    GROUP: ClassVar[str] = "network"

    system: str = DEFAULT


def system_defaults(arguments: Sequence[str], prog: str, default: str = DEFAULT) -> dict[str, Any]:
    """Return the defaults of a discovery's options for the system on the command line.

    Args:
        arguments: words of the command line.
        prog: name of the command.
        default: the system if the command line names none.

    Raises:
        UserError: if there is no such system.
    """
    system = parse_early(_System, arguments, prog, _System(default)).system
    kind, _ = get_system(system)
    return {**kind.defaults, "system": system} if kind.defaults else {}
