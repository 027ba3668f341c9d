"""A system that broadcasts the size of its error and its confidence to all synapses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from metaplast.systems.state import View
from metaplast.systems.system import Examples, Group, Presented, System
from metaplast.systems.wrapped import Wrapped
from metaplast.terms.algebra import Signal, post

ERROR_SIZE, CONFIDENCE = "error_size", "confidence"
_SOURCES = {ERROR_SIZE: post.error, CONFIDENCE: post.activity}


@dataclass(frozen=True)
class Broadcasting(Wrapped):
    """A system that also offers scalars of its output to all groups:

        error_size = ‖e_out‖₂,    confidence = max_j y_out,j, the largest probability.

    In a network that reads sequences, they are zero at the time steps without an output. The
    gradient flows through them.

    Attributes:
        system: the system that learns; it has a readout.
        scalars: the names of the scalars that terms read.
    """

    scalars: tuple[str, ...]

    @property
    def added(self) -> Mapping[str, int]:
        """Nothing is carried."""
        return {}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The system's groups, which also offer the scalars."""
        return tuple(
            replace(group, scalars=group.scalars | set(self.scalars))
            for group in self.system.groups
        )

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the effects of one example; see `System.present`."""
        sources = {_SOURCES[name] for name in self.scalars}
        shown = self.system.present(self._inner(view), example, reads | sources)
        ends = shown.synapses[self.system.readout or ""].signals
        values: dict[str, Tensor] = {}
        if ERROR_SIZE in self.scalars:
            # The gradient of a norm at zero is taken as zero.
            values[ERROR_SIZE] = torch.linalg.vector_norm(ends[post.error], dim=-1)
        if CONFIDENCE in self.scalars:
            values[CONFIDENCE] = ends[post.activity].amax(-1)
        synapses = {
            name: replace(
                one,
                scalars={**one.scalars, **{n: _ending(v, one.count) for n, v in values.items()}},
            )
            for name, one in shown.synapses.items()
        }
        return Presented(synapses, shown.own, shown.carry)


def _ending(value: Tensor, count: int) -> Tensor:
    """Return the last `count` occurrences of a scalar, preceded by zeros if it has fewer."""
    missing = count - value.shape[1]
    if missing <= 0:
        return value[:, -missing:]
    return torch.cat([value.new_zeros(len(value), missing), value], 1)


def broadcasting(system: System, scalars: Iterable[str]) -> System:
    """Return a system that offers those of `scalars` that belong to its output."""
    if system.readout is None:
        return system
    known = {ERROR_SIZE}
    if system.objective.activity_text == "softmax":
        known.add(CONFIDENCE)
    offered = {name for group in system.groups for name in group.scalars}
    wanted = (set(scalars) & known) - offered
    return Broadcasting(system, tuple(sorted(wanted))) if wanted else system
