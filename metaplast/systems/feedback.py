"""The interface of a feedback, the source of the hidden layers' errors.

All feedbacks of all systems are in one registry. Each feedback names the systems that it serves;
for other systems, `feedback_for` raises a `UserError`.

In a fully connected stack, a feedback turns the signals of a forward pass and the output error e_L
into the errors e_0 … e_L of all layers. All feedbacks except the direct one carry errors down layer
by layer,

    e_{ℓ-1} = (B_ℓ e_ℓ) ⊙ σ'(z_{ℓ-1}),     e_0 = (B_1 e_1) ⊙ σ'(x)   (the synthetic input error),

and differ only in B_ℓ. Backward weights are [episode, pre, post]. A recurrent network takes B_ℓ e_ℓ
from the same feedbacks, for each time step.

A feedback may also change the activities that terms read, and offer other signals; see `signals`.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from metaplast.base.errors import UserError, require, shown
from metaplast.base.registry import find, lookup
from metaplast.systems.activation import Activation
from metaplast.systems.relaxation import Relaxation
from metaplast.terms.operator import Operator

FEEDBACKS = "metaplast.feedbacks"
STACK = "fully-connected"
Shape = tuple[int, int]


@dataclass(frozen=True, eq=False)
class ErrorPass:
    """The inputs of a feedback.

    Attributes:
        weights: W_1 … W_L.
        backward: the feedback's own matrices, with the shapes from `Feedback.shapes`.
        activities: y_0 … y_L, each [episode, sample, neuron].
        output_error: e_L, [episode, sample, neuron].
        activation: σ and σ' of the hidden layers.
        lowest: 0 if e_0 is needed, else 1.
        objective_error: z_L → e_L, for feedbacks that also need e_L at other outputs; None if the
            loss is known only for this output.
        nets: z_1 … z_L, each [episode, sample, neuron]; empty if not known.
    """

    weights: Sequence[Operator]
    backward: Sequence[Operator]
    activities: Sequence[Tensor]
    output_error: Tensor
    activation: Activation
    lowest: int = 0
    objective_error: Callable[[Tensor], Tensor] | None = None
    nets: Sequence[Tensor] = ()

    @property
    def levels(self) -> range:
        """The layers ℓ below the output whose errors are needed, lowest first."""
        return range(self.lowest, len(self.weights))

    @property
    def derivative(self) -> Callable[[Tensor], Tensor]:
        """y → σ'(z)."""
        return self.activation.derivative

    def slope(self, level: int) -> Tensor:
        """Return σ'(z_ℓ); σ' of the input for ℓ = 0."""
        return self.derivative(self.activities[level])

    def error_at(self, output: Tensor) -> Tensor:
        """Return e_L at another output z_L, [episode, sample, neuron].

        Raises:
            UserError: if the loss is known at only one output.
        """
        if self.objective_error is None:
            raise UserError(
                "this feedback needs the error at outputs that the model did not return, but a "
                "loss was given for one output only; use a RuleOptimizer without higher, or "
                "another feedback."
            )
        return self.objective_error(output)

    def filled(self, errors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Return e_0 … e_L from the errors of layers `lowest` and above, with zeros below."""
        below = [torch.zeros_like(y) for y in self.activities[: self.lowest]]
        return (*below, *errors)


class LayerSignals(NamedTuple):
    """The signals of every layer after one example, each [episode, sample, neuron].

    `activities` are y_0 … y_L and `errors` e_0 … e_L as terms read them; `more` holds the layers
    0 … L of every kind in `Feedback.offers`.
    """

    activities: Sequence[Tensor]
    errors: Sequence[Tensor]
    more: Mapping[str, Sequence[Tensor]] = {}


class Feedback(ABC):
    """Turns signals into errors.

    Laws of every feedback:

    - errors depend on the matrices only through products, and the error of the output is
      `output_error`, or the error at the output that relaxed activities predict;
    - `errors` changes nothing, and no gradient flows through what the feedback holds constant.

    Attributes:
        name: the text after `--feedback`.
        summary: one line for `--help`.
        systems: names of the systems that it serves.
        is_plastic: whether backward terms may change its matrices.
        offers: other kinds of signals that terms may read, on both sides of a matrix.
        kernel: how the fused engine carries errors: "own" through the feedback's own matrices,
            "direct" through its own matrices straight from the output, "signed", "symmetric" or
            "detached"; None if only other engines support this feedback.
        code: NumPy code of the error carried to layer k, before it is multiplied by σ', with {xp}
            for the array library; `weights[k]` leads from layer k to k + 1. None if rules with this
            feedback cannot be exported as code.
        equation: the same computation as an equation in Unicode; "" to print only the name.
        latex: the equation in LaTeX.
        note: a description of the matrices, for documents.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    systems: ClassVar[tuple[str, ...]] = (STACK,)
    is_plastic: ClassVar[bool] = False
    offers: ClassVar[tuple[str, ...]] = ()
    kernel: ClassVar[str | None] = None
    code: str | None = None
    equation: str = ""
    latex: str = ""
    note: str = ""

    @property
    def written(self) -> str:
        """The text after `--feedback`: the name, with its arguments if it takes any."""
        return self.name

    @property
    def relaxation(self) -> Relaxation | None:
        """How activities relax before errors are read, for exported programs; None if never."""
        return None

    def configured(self, argument: str) -> Feedback:
        """Return the feedback written as `name:argument`; by default, it takes no argument.

        Raises:
            UserError: if the feedback does not take this argument.
        """
        require(
            not argument,
            f"the feedback {self.name} takes nothing after a colon, got {shown(argument)}; write "
            f"--feedback {self.name}.",
        )
        return self

    def shapes(self, widths: Sequence[int]) -> tuple[Shape, ...]:
        """Return the shapes of its own matrices, lowest layer first; by default, those of W_ℓᵀ."""
        return tuple(itertools.pairwise(widths))

    @abstractmethod
    def errors(self, given: ErrorPass) -> tuple[Tensor, ...]:
        """Return e_0 … e_L, each [episode, sample, neuron]; zeros below `given.lowest`."""

    def signals(self, given: ErrorPass) -> LayerSignals:
        """Return the signals that terms read; by default the forward activities and `errors`."""
        return LayerSignals(given.activities, self.errors(given))


class Passage(NamedTuple):
    """The matrix B_ℓ that carries errors down one layer: an operator, or its transpose."""

    operator: Operator
    transposed: bool = False

    def carry(self, error: Tensor) -> Tensor:
        """Return B_ℓ e_ℓ, [episode, sample, pre]."""
        return (self.operator.transposed if self.transposed else self.operator.matmul)(error)


class ChainFeedback(Feedback):
    """Errors carried down layer by layer through B_ℓ, and back in time in a recurrent network.

    A subclass returns B_ℓ (`passage`), or computes B_ℓ e_ℓ itself (`below`). Only with `passage`
    can a recurrent network carry errors through all time steps in one operation.

    Attributes:
        reach: through how many time steps a recurrent network carries an error back; None for all.
    """

    systems: ClassVar[tuple[str, ...]] = (STACK, "recurrent")
    reach: int | None = None

    def __init_subclass__(cls) -> None:
        """Check that a subclass defines how errors are carried down.

        Raises:
            TypeError: if the subclass defines neither `passage` nor `below`.
        """
        super().__init_subclass__()
        if cls.below is ChainFeedback.below and cls.passage is ChainFeedback.passage:
            raise TypeError(f"the feedback {cls.__name__} defines neither passage nor below")

    def passage(self, layer: int, given: ErrorPass) -> Passage | None:
        """Return B_ℓ for ℓ = layer + 1; None if B_ℓ is not a matrix, or `below` does more."""
        return None

    def below(self, layer: int, error: Tensor, given: ErrorPass) -> Tensor:
        """Return B_ℓ e_ℓ, [episode, sample, pre], for ℓ = layer + 1."""
        passage = self.passage(layer, given)
        assert passage is not None, "a feedback without a matrix defines below"
        return passage.carry(error)

    @property
    def is_linear(self) -> bool:
        """Whether errors are only multiplied by `passage`, because `below` is not overridden."""
        return type(self).below is ChainFeedback.below

    def errors(self, given: ErrorPass) -> tuple[Tensor, ...]:
        """Return e_0 … e_L; see `Feedback.errors`."""
        errors = [given.output_error]
        for level in reversed(given.levels):
            errors.insert(0, self.below(level, errors[0], given) * given.slope(level))
        return given.filled(errors)


def all_feedbacks() -> Mapping[str, Feedback]:
    """Return every installed feedback by name."""
    return find(FEEDBACKS, Feedback)  # type: ignore[type-abstract]


def get_feedback(text: str) -> Feedback:
    """Return the feedback written as `name` or `name:argument`.

    Raises:
        UserError: if there is no such feedback (the message suggests the nearest name), or it does
            not take the argument.
    """
    name, colon, argument = text.partition(":")
    found = lookup("feedback", name, all_feedbacks())
    require(
        bool(argument) or not colon,
        f"--feedback {text} has nothing after its colon; write {name}.",
    )
    return found.configured(argument)


def serving(system: str) -> tuple[str, ...]:
    """Return the names of the feedbacks that serve the system with this name.

    If no feedback names the system, these are the feedbacks of the stack.
    """
    found = tuple(name for name, each in all_feedbacks().items() if system in each.systems)
    return found or serving(STACK)


def feedback_for(system: str, text: str) -> Feedback:
    """Return the feedback written as `name` or `name:argument`, if it serves a system.

    Args:
        system: name of the system.
        text: the feedback.

    Raises:
        UserError: as in `get_feedback`, or if the feedback does not serve the system.
    """
    found = get_feedback(text)
    names = serving(system)
    require(
        found.name in names,
        f"the system {system} has no feedback {found.name}; choose from {', '.join(names)}.",
    )
    return found
