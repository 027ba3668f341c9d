"""The interface of a constraint on weights: a set of allowed weights that they never leave.

    W ← P(W + ΔW),     P(V)_ij = min(max(V_ij, low_j), high_j)

The bounds of a weight depend only on its column, that is on its presynaptic neuron, and never
change. P is the projection onto the nearest allowed weights, and acts on each weight separately. So
the gradient is exact wherever no weight lies exactly on its bound: it passes through the weights
that P left unchanged, and stops at the others.

The constraint applies to the matrices that rules change as forward weights (`algebra.W`), but not
to backward weights. Those carry errors, which have both signs, and the model does not specify which
cells carry them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from metaplast.base.errors import require, shown
from metaplast.base.registry import find, lookup

CONSTRAINTS = "metaplast.constraints"
NONE = "none"

# Relative tolerance in the check of initial weights, which may have been rounded to float32.
_ROOM = 1e-6

_Key = tuple[torch.dtype, torch.device]


@dataclass(frozen=True, eq=False)
class Limits:
    """The bounds of one matrix.

    Attributes:
        low: the smallest allowed weight in each column, [column]; −∞ for no bound.
        high: the largest allowed weight in each column, [column]; ∞ for no bound.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    _tensors: dict[_Key, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    @classmethod
    def everywhere(cls, columns: int, low: float = -math.inf, high: float = math.inf) -> Limits:
        """Return the same bounds for all columns."""
        return cls((low,) * columns, (high,) * columns)

    def tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return both bounds, [column], with the dtype and on the device of `like`."""
        key = like.dtype, like.device
        if key not in self._tensors:
            with torch.inference_mode(False):
                low, high = (
                    torch.tensor(bound, dtype=like.dtype, device=like.device)
                    for bound in (self.low, self.high)
                )
            self._tensors[key] = low, high
        return self._tensors[key]

    def project(self, matrix: Tensor) -> Tensor:
        """Return P of a matrix, [episode, row, column]; differentiable."""
        return torch.clamp(matrix, *self.tensors(matrix))

    def project_(self, matrix: Tensor) -> None:
        """Apply P to a matrix in place."""
        matrix.clamp_(*self.tensors(matrix))

    def unchanged(self, matrix: Tensor) -> Tensor:
        """Return a mask of the weights that P leaves unchanged, which is the derivative of P.

        Shape: [episode, row, column].
        """
        low, high = self.tensors(matrix)
        return (matrix >= low) & (matrix <= high)

    def holds(self, matrix: Tensor) -> bool:
        """Return whether all weights are within the bounds; NaN counts as within."""
        low, high = (bound.double() for bound in self.tensors(matrix))
        room = (_ROOM * bound.abs().nan_to_num(posinf=0) for bound in (low, high))
        least, most = low - next(room), high + next(room)
        return not bool(((matrix < least) | (matrix > most)).any())


class WeightConstraint(ABC):
    """A set of allowed weights.

    Laws of every constraint:

    - it is a frozen, hashable value, and equal constraints behave the same;
    - `limits` depends on nothing but its arguments, with low ≤ high in each column;
    - `start` returns weights within the limits, and is not random.

    Attributes:
        name: the text after `--weights`.
        summary: one line for `--help`.
        constrains: whether it restricts anything.
        text: the constraint as a clause that ends a sentence, for documents.
        projection: Python statements that return P(W), for exported programs. They read W
            [post, pre] and `from_inputs`, whether its columns are inputs; {xp} is the array
            library, and {place} names a device if the library needs it. None if rules under this
            constraint cannot be exported as code.
        beginning: statements of the same kind for `start`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    constrains: ClassVar[bool] = True

    @property
    def written(self) -> str:
        """The text after `--weights`: the name, with its arguments if it takes any."""
        return self.name

    @property
    @abstractmethod
    def text(self) -> str:
        """The constraint as a clause that ends a sentence, such as "no weight is negative"."""

    @property
    def projection(self) -> tuple[str, ...] | None:
        """Statements that return P(W), line by line; None if there are none."""
        return None

    @property
    def beginning(self) -> tuple[str, ...] | None:
        """Statements that return the initial W from a drawn one, line by line; None if none."""
        return self.projection

    def configured(self, argument: str) -> WeightConstraint:
        """Return the constraint written as `name:argument`; by default, it takes no argument.

        Raises:
            UserError: if the constraint does not take this argument.
        """
        require(
            not argument,
            f"the constraint {self.name} takes nothing after a colon, got {shown(argument)}; write "
            f"--weights {self.name}.",
        )
        return self

    @abstractmethod
    def limits(self, columns: int, *, from_inputs: bool) -> Limits:
        """Return the bounds of a matrix.

        Args:
            columns: number of its columns, one for each presynaptic neuron or input.
            from_inputs: whether the columns are the inputs of the system.
        """

    def start(self, drawn: Tensor, *, from_inputs: bool) -> Tensor:
        """Return the initial weights, [episode, row, column]; by default, P of the drawn weights.

        Args:
            drawn: the weights as `--init` draws them.
            from_inputs: as in `limits`.
        """
        return self.limits(drawn.shape[-1], from_inputs=from_inputs).project(drawn)


def all_constraints() -> Mapping[str, WeightConstraint]:
    """Return every installed constraint by name."""
    return find(CONSTRAINTS, WeightConstraint)  # type: ignore[type-abstract]


def get_constraint(text: str) -> WeightConstraint:
    """Return the constraint written as `name` or `name:argument`.

    Raises:
        UserError: if there is no such constraint (the message suggests the nearest name), or it
            does not take the argument.
    """
    require(
        isinstance(text, str),
        f"a constraint on weights must be given by its name, such as 'dale', got {shown(text)}.",
    )
    name, colon, argument = text.partition(":")
    found = lookup("constraint on weights", name, all_constraints())
    require(
        bool(argument) or not colon,
        f"--weights {text} has nothing after its colon; write {name}.",
    )
    return found.configured(argument)


def plain_number(value: float) -> str:
    """Return a number as users write it, without losing digits."""
    short = f"{value:g}"
    return short if float(short) == value else repr(value)
