"""The interface of a feedback, the source of the hidden layers' errors.

A feedback turns the signals of a forward pass and the output error e_L into the errors
e_0 … e_L of all layers of a fully connected stack. All feedbacks except the direct one carry errors
down layer by layer,

    e_{ℓ-1} = (B_ℓ e_ℓ) ⊙ σ'(z_{ℓ-1}),     e_0 = (B_1 e_1) ⊙ σ'(x)   (the synthetic input error),

and differ only in B_ℓ. Backward weights are [episode, pre, post].
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metaplast.base.registry import find, lookup
from metaplast.terms.operator import Operator

FEEDBACKS = "metaplast.feedbacks"
Shape = tuple[int, int]


@dataclass(frozen=True, eq=False)
class ErrorPass:
    """The inputs of a feedback.

    Attributes:
        weights: W_1 … W_L.
        backward: the feedback's own matrices, with the shapes that it requested.
        activities: y_0 … y_L, each [episode, sample, neuron].
        output_error: e_L, [episode, sample, neuron].
        derivative: y → σ'(z).
        lowest: 0 if e_0 is needed, else 1.
    """

    weights: Sequence[Operator]
    backward: Sequence[Operator]
    activities: Sequence[Tensor]
    output_error: Tensor
    derivative: Callable[[Tensor], Tensor]
    lowest: int = 0

    @property
    def levels(self) -> range:
        """The layers ℓ below the output whose errors are needed, lowest first."""
        return range(self.lowest, len(self.weights))

    def slope(self, level: int) -> Tensor:
        """Return σ'(z_ℓ); σ' of the input for ℓ = 0."""
        return self.derivative(self.activities[level])

    def filled(self, errors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return e_0 … e_L, zeros below the lowest."""
        below = [torch.zeros_like(y) for y in self.activities[: self.lowest]]
        return (*below, *errors)


class Feedback(ABC):
    """Turns signals into errors.

    Laws of every feedback:

    - errors depend on the matrices only through products, and the top error is `output_error`;
    - `errors` changes nothing, and no gradient flows through what the feedback holds constant.

    Attributes:
        name: the text after `--feedback`.
        summary: one line for `--help`.
        is_plastic: whether backward terms may change its matrices.
        kernel: how the fused engine carries errors: "own" through the feedback's own matrices,
            "direct" through its own matrices straight from the output, "signed", "symmetric" or
            "detached"; None if only other engines support this feedback.
        code: NumPy code of the error carried to layer k, before it is multiplied by σ', with {xp}
            for the array library; `weights[k]` leads from layer k to k + 1. None if rules with this
            feedback cannot be exported as code.
        equation: the same as an equation in Unicode; "" to print only the name.
        latex: the same in LaTeX.
        note: a description of the matrices, for documents.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    is_plastic: ClassVar[bool] = False
    kernel: ClassVar[str | None] = None
    code: ClassVar[str | None] = None
    equation: ClassVar[str] = ""
    latex: ClassVar[str] = ""
    note: ClassVar[str] = ""

    def shapes(self, widths: Sequence[int]) -> tuple[Shape, ...]:
        """Return the shapes of its own matrices, lowest layer first; by default those of W_ℓᵀ."""
        return tuple(itertools.pairwise(widths))

    @abstractmethod
    def errors(self, given: ErrorPass) -> tuple[Tensor, ...]:
        """Return e_0 … e_L, each [episode, sample, neuron]; zeros below `given.lowest`."""


class ChainFeedback(Feedback):
    """Errors carried down layer by layer through B_ℓ."""

    @abstractmethod
    def below(self, layer: int, error: Tensor, given: ErrorPass) -> Tensor:
        """Return B_ℓ e_ℓ, [episode, sample, pre], for ℓ = layer + 1."""

    def errors(self, given: ErrorPass) -> tuple[Tensor, ...]:
        """Return e_0 … e_L; see `Feedback.errors`."""
        errors = [given.output_error]
        for level in reversed(given.levels):
            errors.insert(0, self.below(level, errors[0], given) * given.slope(level))
        return given.filled(errors)


def all_feedbacks() -> Mapping[str, Feedback]:
    """Return every installed feedback by name."""
    return find(FEEDBACKS, Feedback)  # type: ignore[type-abstract]


def get_feedback(name: str) -> Feedback:
    """Return the feedback with this name.

    Raises:
        UserError: if there is no such feedback; suggests the nearest name.
    """
    return lookup("feedback", name, all_feedbacks())
