"""Kinds of systems: their names for `--system`, and how each kind makes a system for a data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from metaplast.base.errors import require, shown
from metaplast.base.registry import find, lookup
from metaplast.systems.system import System
from metaplast.systems.timing import Timing

SYSTEMS = "metaplast.systems"
DEFAULT = "fully-connected"


@dataclass(frozen=True)
class SystemRequest:
    """The settings from which a kind makes a system; each kind reads the fields that it needs.

    Attributes:
        inputs: length of an input's last axis.
        outputs: number of output neurons.
        hidden: widths of hidden layers or populations.
        activation: the activation of hidden neurons, as `parse_activation` reads it.
        init: how weights are drawn, as `Init` reads it.
        feedback: name of the feedback.
        objective: name of the objective.
        argument: the text after the colon in `--system name:argument`.
        timing: the timing of sequences; None if inputs are vectors, or if it is not known yet.
    """

    inputs: int
    outputs: int
    hidden: tuple[int, ...] = ()
    activation: str = "softplus:10"
    init: str = "xavier"
    feedback: str = "fixed"
    objective: str = "cross-entropy"
    argument: str = ""
    timing: Timing | None = None


class SystemKind(ABC):
    """Makes systems of one kind. Each kind is one file with one instance, found by an entry point.

    Attributes:
        name: the text after `--system`.
        summary: one line for `--help`.
        aliases: other names accepted on input.
        reads_sequences: whether its systems read sequences instead of vectors.
        defaults: settings whose defaults differ from those of the default system, by name.
    """

    name: str
    summary: str
    aliases: tuple[str, ...] = ()
    reads_sequences: ClassVar[bool] = False
    defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    @abstractmethod
    def build(self, request: SystemRequest) -> System:
        """Return the system for a data set.

        Raises:
            UserError: if the kind does not support the request.
        """


def all_systems() -> Mapping[str, SystemKind]:
    """Return every installed kind of system by name."""
    return find(SYSTEMS, SystemKind)  # type: ignore[type-abstract]


def get_system(text: str) -> tuple[SystemKind, str]:
    """Return the kind written as `name` or `name:argument`, and the argument.

    Raises:
        UserError: if there is no kind with that name; the message suggests the nearest.
    """
    require(
        isinstance(text, str),
        f"a system must be given by its name, such as 'recurrent', got {shown(text)}; Learner(…) "
        f"takes a system that you have made.",
    )
    name, _, argument = text.partition(":")
    return lookup("system", name or DEFAULT, all_systems()), argument


def require_one_population(kind: SystemKind, request: SystemRequest) -> int:
    """Return the one hidden width.

    Raises:
        UserError: if there is not exactly one.
    """
    hidden = request.hidden
    require(
        len(hidden) == 1,
        f"the system {kind.name} has one population of neurons, but --hidden has {len(hidden)} "
        f"widths, {shown(','.join(map(str, hidden)))}; give one, such as --hidden 100.",
    )
    return hidden[0]


def require_no_argument(kind: SystemKind, request: SystemRequest) -> None:
    """Raise `UserError` if the request has an argument; for kinds that take none."""
    require(
        not request.argument,
        f"--system {kind.name} takes no argument, got {request.argument!r}; write {kind.name}.",
    )
