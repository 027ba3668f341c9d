"""The fully connected stack: layers without biases, an output, and errors from a feedback."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaplast.base.coerce import coerce
from metaplast.base.errors import UserError, require, shown
from metaplast.systems.activation import parse_activation
from metaplast.systems.diagnostics import angle
from metaplast.systems.drawn import DrawnSystem
from metaplast.systems.feedback import ErrorPass, Feedback, feedback_for, get_feedback
from metaplast.systems.initialisation import Init
from metaplast.systems.kind import SystemKind, SystemRequest, require_no_argument
from metaplast.systems.objective import ErrorAt
from metaplast.systems.state import View
from metaplast.systems.system import Examples, Group, Presented
from metaplast.terms.algebra import B, Signal, W, post, pre
from metaplast.terms.operator import Operator
from metaplast.terms.synapses import Synapses

MOST_WIDTH, MOST_LAYERS = 1_000_000, 1000


class Forward(NamedTuple):
    """Signals of a forward pass.

    `activities` are y_0 = x, …, y_L, each [episode, sample, neuron]; `output` = z_L. `nets` are
    z_1 … z_L; empty if they are not known.
    """

    activities: tuple[Tensor, ...]
    output: Tensor
    nets: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class FullyConnected(DrawnSystem):
    """A stack of fully connected layers without biases.

        z_ℓ = W_ℓ y_{ℓ-1},   y_ℓ = σ(z_ℓ) in hidden layers,   y_L given by the objective.

    Its errors e_0 … e_L come from a feedback. Terms read y, e and the feedback's other signals on
    both sides of W_ℓ and, if the feedback is plastic, of B_ℓ.

    Attributes:
        widths: n_0 (inputs), hidden widths, n_L (outputs).
        activation: the activation of the hidden layers, as `parse_activation` reads it.
        init: how weights are drawn, as `Init` reads it.
        feedback_name: the feedback that supplies the errors, written out with its arguments.
        objective_name: the objective of the output; an alias becomes the objective's own name.
    """

    widths: tuple[int, ...]
    activation: str = "softplus:10"
    init: str = "xavier"
    feedback_name: str = "fixed"
    objective_name: str = "cross-entropy"

    name = "fully-connected"
    summary = "a stack of fully connected layers"

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            UserError: if there is no layer, a width is below 1, a name is unknown, or a value has
                the wrong type.
        """
        coerce(self)
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise UserError(
                f"a network needs an input and an output width, all whole numbers of at least 1, "
                f"got {self.widths!r}; write FullyConnected((784, 100, 10))."
            )
        require(
            max(self.widths) <= MOST_WIDTH and self.layers <= MOST_LAYERS,
            f"a network takes at most {MOST_LAYERS:,} layers and widths of at most "
            f"{MOST_WIDTH:,}, got {self.layers:,} layers of widths up to "
            f"{shown(max(self.widths))}; give fewer or smaller --hidden widths.",
        )
        parse_activation(self.activation)
        Init(self.init)
        object.__setattr__(self, "feedback_name", self.feedback.written)
        object.__setattr__(self, "objective_name", self.objective.name)

    @property
    def layers(self) -> int:
        """Number L of weight matrices."""
        return len(self.widths) - 1

    @cached_property
    def feedback(self) -> Feedback:
        """The source of the errors."""
        return feedback_for(FullyConnected.name, self.feedback_name)

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """W1 … WL, each [post, pre], then the feedback's own matrices."""
        weights = zip(self.widths[1:], self.widths[:-1], strict=True)
        named = {f"W{i}": shape for i, shape in enumerate(weights, 1)}
        own = self.feedback.shapes(self.widths)
        return named | {f"B{i}": shape for i, shape in enumerate(own, 1)}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Every W_ℓ, and every B_ℓ of a plastic feedback; W_ℓ and B_ℓ read the same row of θ."""
        matrices = (W, B) if self.feedback.is_plastic else (W,)
        offered = OFFERED | {side.signal(k) for k in self.feedback.offers for side in (post, pre)}
        return tuple(
            Group(
                f"{matrix.name}{site + 1}", matrix, site, offered,
                from_inputs=matrix == W and site == 0,
            )
            for matrix in matrices
            for site in range(self.layers)
        )  # fmt: skip

    @property
    def readout(self) -> str:
        """W_L."""
        return f"W{self.layers}"

    @property
    def sites(self) -> tuple[str, ...]:
        """The layers "1" … "L"."""
        return tuple(str(i) for i in range(1, self.layers + 1))

    def forward(self, weights: Sequence[Operator], x: Tensor) -> Forward:
        """Return the signals for inputs x.

        Args:
            weights: W_1 … W_L.
            x: [episode, sample, input].
        """
        activate = self.nonlinearity.apply
        activities, nets = [x], []
        for weight in weights[:-1]:
            nets.append(weight.matmul(activities[-1]))
            activities.append(activate(nets[-1]))
        output = weights[-1].matmul(activities[-1])
        return Forward((*activities, self.objective.activity(output)), output, (*nets, output))

    def output(self, view: View, inputs: Tensor) -> Tensor:
        """Return z_L, [episode, sample, output]."""
        return self.forward(view.weights, inputs).output

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the signals on both sides of each matrix after one example."""
        forward = self.forward(view.weights, example.input.unsqueeze(1))
        return self.synapses(view, forward, self.error_of(example.target.unsqueeze(1)), reads)

    def error_of(self, target: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the function z_L → e_L for targets [episode, sample, …]."""
        return ErrorAt(self.objective, target)

    def synapses(
        self,
        view: View,
        forward: Forward,
        output_error: Tensor | Callable[[Tensor], Tensor],
        reads: frozenset[Signal],
        weight: float = 1.0,
    ) -> Presented:
        """Return the signals at the synapses after a forward pass.

        Args:
            view: the matrices before the step.
            forward: signals of the examples, each [episode, sample, neuron].
            output_error: e_L, [episode, sample, output]; or the function z_L → e_L, which some
                feedbacks need.
            reads: the signals that the terms read.
            weight: the weight of each sample: 1 for a sum of their changes, 1/n for the mean.
        """
        # Only terms need the synthetic input error; it is skipped if no term reads it.
        others = {pre.signal(kind) for kind in self.feedback.offers}
        lowest = 0 if reads & {pre.error, *others} else 1
        found = self.feedback.signals(self._pass(view, forward, output_error, lowest))
        kinds = {"activity": found.activities, "error": found.errors, **found.more}
        synapses = {}
        for group in self.groups:
            signals = {
                side.signal(kind): layers[layer]
                for side, layer in ((post, group.site + 1), (pre, group.site))
                for kind, layers in kinds.items()
            }
            synapses[group.name] = Synapses(view.matrices[group.name], signals, weight)
        return Presented(synapses)

    def _pass(
        self,
        view: View,
        forward: Forward,
        output_error: Tensor | Callable[[Tensor], Tensor],
        lowest: int,
    ) -> ErrorPass:
        """Return the inputs of the feedback."""
        if isinstance(output_error, Tensor):
            error, error_at = output_error, None
        else:
            error, error_at = output_error(forward.output), output_error
        return ErrorPass(
            view.weights, view.backward, forward.activities, error, self.nonlinearity, lowest,
            error_at, forward.nets,
        )  # fmt: skip

    def error_angles(self, view: View, query: Examples) -> Tensor:
        """Return the angles α_ℓ in degrees between the feedback's errors and backprop's.

            α_ℓ = ∠( mean over the batch of e_ℓ,  mean over the batch of e_ℓ^BP ),   ℓ = 1 … L-1,

        where e^BP uses the same activities with B replaced by Wᵀ (Shervani-Tabar & Rosenbaum 2023).

        Returns:
            [episode, layer]; 90 if an error is zero.
        """
        forward = self.forward(view.weights, query.input)
        given = self._pass(view, forward, self.error_of(query.target), 1)
        means = [
            [e.mean(1) for e in one.errors(given)[1:-1]]
            for one in (self.feedback, get_feedback("symmetric"))
        ]
        angles = [angle(a, b) for a, b in zip(*means, strict=True)]
        return torch.stack(angles, -1) if angles else query.input.new_zeros(len(query.input), 0)

    @property
    def description(self) -> str:
        """Widths, activation and how weights are drawn."""
        return f"{'-'.join(map(str, self.widths))}, {self.activation}, {self.init}"

    def spec(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {
            "system": self.name,
            "widths": list(self.widths),
            "activation": self.activation,
            "init": self.init,
            "feedback": self.feedback_name,
            "objective": self.objective_name,
        }


OFFERED = frozenset({post.activity, post.error, pre.activity, pre.error})


class FullyConnectedKind(SystemKind):
    """Makes fully connected stacks."""

    name = FullyConnected.name
    summary = FullyConnected.summary

    def build(self, request: SystemRequest) -> FullyConnected:
        """Return the stack with the data's widths around the hidden ones."""
        require_no_argument(self, request)
        return FullyConnected(
            (request.inputs, *request.hidden, request.outputs),
            request.activation,
            request.init,
            request.feedback,
            request.objective,
        )


fully_connected = FullyConnectedKind()
