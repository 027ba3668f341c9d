"""A system that counts the steps of a task, for terms whose coefficients fade."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from metaplast.systems.state import View
from metaplast.systems.system import Examples, Group, Presented, System
from metaplast.systems.wrapped import Wrapped
from metaplast.terms.algebra import Signal
from metaplast.terms.fading import fading_of

AGE = "age"


@dataclass(frozen=True)
class Aging(Wrapped):
    """A system that also offers fading(τ) = 1 / (1 + n/τ) to all groups.

    n is the number of earlier steps, a carried vector of length 1. All occurrences of a step, such
    as the time steps of a sequence, have the same n. No gradient flows through it.

    Attributes:
        system: the system that learns.
        scalars: the names of the fadings that terms read.
    """

    scalars: tuple[str, ...]

    @property
    def added(self) -> Mapping[str, int]:
        """One number, n."""
        return {AGE: 1}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The system's groups, which also offer the scalars."""
        return tuple(
            replace(group, scalars=group.scalars | set(self.scalars))
            for group in self.system.groups
        )

    @cached_property
    def taus(self) -> Mapping[str, float]:
        """τ of each fading; cached, because every step reads it."""
        found = {name: fading_of(name) for name in self.scalars}
        return {name: tau for name, tau in found.items() if tau is not None}

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the effects of one example; see `System.present`."""
        shown = self.system.present(self._inner(view), example, reads)
        age = view.carry[AGE]
        values = {name: faded_at(age, tau) for name, tau in self.taus.items()}
        synapses = {
            name: replace(
                one,
                scalars={
                    **one.scalars,
                    **{key: value.expand(-1, one.count) for key, value in values.items()},
                },
            )
            for name, one in shown.synapses.items()
        }
        return Presented(synapses, shown.own, {**shown.carry, AGE: age + 1})


def faded_at(age: Tensor, tau: float) -> Tensor:
    """Return fading(τ) after `age` steps."""
    return 1 / (1 + age / tau)


def aging(system: System, scalars: Iterable[str]) -> System:
    """Return a system that offers those of `scalars` that are fadings."""
    offered = {name for group in system.groups for name in group.scalars}
    wanted = {name for name in scalars if fading_of(name) is not None} - offered
    return Aging(system, tuple(sorted(wanted))) if wanted else system
