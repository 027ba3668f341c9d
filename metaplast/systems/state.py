"""The state of a system: matrices by name, and vectors carried from step to step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

from metaplast.base.device import find_device
from metaplast.terms.operator import Operator

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class State:
    """A system's matrices, and the vectors that it carries from step to step.

    Attributes:
        matrices: each [episode, row, column], with the system's names, in its order.
        carry: vectors that the system carries from one step to the next, [episode, neuron]; most
            systems have none.
    """

    matrices: Mapping[str, Tensor]
    carry: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def stack(cls, weights: Sequence[Tensor], backward: Sequence[Tensor] = ()) -> State:
        """Return the state of a fully connected stack: W1 … WL, then the feedback's B1 … BL."""
        named = {f"W{i}": matrix for i, matrix in enumerate(weights, 1)}
        return cls(named | {f"B{i}": matrix for i, matrix in enumerate(backward, 1)})

    @property
    def weights(self) -> tuple[Tensor, ...]:
        """W_1 … W_L of a fully connected stack, each [episode, post, pre]."""
        return numbered("W", self.matrices)

    @property
    def backward(self) -> tuple[Tensor, ...]:
        """The feedback's own matrices of a fully connected stack, each [episode, pre, post].

        With direct feedback they are [episode, neuron, class]. Empty if the feedback has none.
        """
        return numbered("B", self.matrices)

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(next(iter({**self.matrices, **self.carry}.values())))

    def map(self, function: Callable[[Tensor], Tensor]) -> State:
        """Return the state with `function` applied to every tensor."""
        return State(
            {name: function(matrix) for name, matrix in self.matrices.items()},
            {name: function(vector) for name, vector in self.carry.items()},
        )

    @classmethod
    def cat(cls, states: Sequence[State]) -> State:
        """Return the episodes of all states, concatenated in order."""
        first = states[0]
        return cls(
            {name: torch.cat([s.matrices[name] for s in states]) for name in first.matrices},
            {name: torch.cat([s.carry[name] for s in states]) for name in first.carry},
        )

    def select(self, index: Tensor | slice) -> State:
        """Return the state of the episodes at `index`."""
        return self.map(lambda tensor: tensor[index])

    def on(self, device: torch.device | str) -> State:
        """Return the same state on a device.

        Raises:
            UserError: if the device is unknown or absent.
        """
        device = find_device(str(device))
        return self.map(lambda tensor: tensor.to(device))

    def to(self, dtype: torch.dtype) -> State:
        """Return the same state in `dtype`."""
        return self.map(lambda tensor: tensor.to(dtype))


@dataclass(frozen=True, eq=False)
class View:
    """A state whose matrices are operators: signals may only multiply them with vectors."""

    matrices: Mapping[str, Operator]
    carry: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, state: State) -> View:
        """Wrap a state's matrices."""
        return cls({name: Operator(m) for name, m in state.matrices.items()}, state.carry)

    @property
    def weights(self) -> tuple[Operator, ...]:
        """W_1 … W_L of a fully connected stack."""
        return numbered("W", self.matrices)

    @property
    def backward(self) -> tuple[Operator, ...]:
        """The feedback's own matrices of a fully connected stack."""
        return numbered("B", self.matrices)


def numbered(letter: str, items: Mapping[str, Item]) -> tuple[Item, ...]:
    """Return the items named `letter`1, `letter`2, … in order."""
    return tuple(item for name, item in items.items() if name[:1] == letter and name[1:].isdigit())
