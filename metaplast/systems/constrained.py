"""A system whose weights are constrained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from metaplast.systems.constraint import NONE, Limits, WeightConstraint, get_constraint
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples, Group, Presented, System
from metaplast.systems.wrapped import Wrapped
from metaplast.terms.algebra import Signal, W


@dataclass(frozen=True)
class Constrained(Wrapped):
    """A system whose learned forward weights stay in the set of a constraint.

    Attributes:
        system: the system that learns.
        constraint: the constraint on its weights.
    """

    constraint: WeightConstraint

    @property
    def added(self) -> Mapping[str, int]:
        """Nothing is carried."""
        return {}

    @cached_property
    def _places(self) -> Mapping[str, Group]:
        return {group.name: group for group in self.system.groups if group.matrix == W}

    @cached_property
    def limits(self) -> Mapping[str, Limits]:
        """The bounds of the forward weights that rules change, by the matrix's name."""
        return {
            name: self.constraint.limits(self.shapes[name][1], from_inputs=group.from_inputs)
            for name, group in self._places.items()
        }

    @property
    def weights(self) -> str:
        """The constraint, as written after `--weights`."""
        return self.constraint.written

    def draw(self, episodes: int, generator: torch.Generator, dtype: torch.dtype) -> State:
        """Return a fresh state; weights that the system draws are moved within the limits."""
        return self._started(super().draw(episodes, generator, dtype), frozenset())

    def complete(
        self, initial: State, episodes: int, generator: torch.Generator, dtype: torch.dtype
    ) -> State:
        """Return a prescribed state, whose missing matrices are drawn; see `System.complete`."""
        found = super().complete(initial, episodes, generator, dtype)
        return self._started(found, frozenset(initial.matrices))

    def _started(self, state: State, given: frozenset[str]) -> State:
        matrices = {
            name: self.constraint.start(matrix, from_inputs=self._places[name].from_inputs)
            if name in self._places and name not in given
            else matrix
            for name, matrix in state.matrices.items()
        }
        return State(matrices, state.carry)

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the effects of one example, as the system itself does."""
        return self.system.present(view, example, reads)

    @property
    def description(self) -> str:
        """The system and the constraint."""
        return f"{self.system.description}, weights {self.weights}"

    def spec(self) -> dict[str, Any]:
        """Return the system and the constraint as plain data."""
        return {**self.system.spec(), "weights": self.weights}


def constrained(system: System, weights: str) -> System:
    """Return a system whose weights are constrained, as written after `--weights`.

    Args:
        system: the system that learns.
        weights: name or name:argument of the constraint; with "none", the system is returned as
            it is.

    Raises:
        UserError: if there is no such constraint, or it does not take the argument.
    """
    if weights == NONE:
        return system
    constraint = get_constraint(weights)
    return Constrained(system, constraint) if constraint.constrains else system


def unconstrained(system: System) -> System:
    """Return a system without the constraint on its weights; unchanged if there is none."""
    return system.system if isinstance(system, Constrained) else system
