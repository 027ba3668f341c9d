"""A learner: a network, a feedback and the terms of a rule, as one differentiable online step.

Engines and the outer loop know only this: `draw` gives a state, `step` learns one example,
`query` judges the state. What the state holds is the learner's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from metaplast.algebra import B, W, pre
from metaplast.checks import require_count
from metaplast.episode import EpisodeBatch
from metaplast.errors import require
from metaplast.feedback import Feedback, get_feedback
from metaplast.labels import class_targets
from metaplast.network import Forward, FullyConnected, Weights
from metaplast.operator import Operator
from metaplast.plasticity import Change, Plasticity, change, compile_terms
from metaplast.term import Synapses, Term, checked_terms, full_update


class State(NamedTuple):
    """What changes while a task is learned.

    `weights`: W_1 … W_L, each [episode, post, pre]. `backward`: the feedback's own weights, each
    [episode, pre, post] (direct feedback: [episode, neuron, class]); empty if it has none.
    """

    weights: Weights
    backward: Weights

    @classmethod
    def cat(cls, states: Sequence[State]) -> State:
        """Return the episodes of some states, one after another."""
        groups = zip(*states, strict=True)
        return cls(*(tuple(map(torch.cat, zip(*group, strict=True))) for group in groups))

    def select(self, index: Tensor | slice) -> State:
        """Return the state of the episodes at `index`."""
        return State(*(tuple(matrix[index] for matrix in group) for group in self))

    def to(self, dtype: torch.dtype) -> State:
        """Return the same state in `dtype`."""
        return State(*(tuple(matrix.to(dtype) for matrix in group) for group in self))


class Operators(NamedTuple):
    """A state's matrices as the signals meet them."""

    weights: tuple[Operator, ...]
    backward: tuple[Operator, ...]

    @classmethod
    def of(cls, state: State) -> Operators:
        """Wrap a state's matrices."""
        return cls(*(tuple(map(Operator, group)) for group in state))


@dataclass(frozen=True)
class Learner:
    """A network that learns online by a rule made of `terms`, with errors from `feedback`.

    Attributes:
        network: gives signals.
        feedback_name: gives errors.
        terms: the candidate terms; θ is given at each call.
    """

    network: FullyConnected
    feedback_name: str
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        """Check that the parts fit.

        Raises:
            UserError: if a term occurs twice, or backward terms meet weights they cannot change.
        """
        require(
            isinstance(self.network, FullyConnected) and isinstance(self.feedback_name, str),
            f"a learner is made of a FullyConnected network, the name of a feedback and terms, got "
            f"{type(self.network).__name__} and {self.feedback_name!r}.",
        )
        object.__setattr__(self, "terms", checked_terms(self.terms))
        get_feedback(self.feedback_name)
        names = [term.name for term in self.terms]
        require(
            len(set(names)) == len(names),
            f"each term may occur once in a rule, got {', '.join(names)}; remove the repeats.",
        )
        backward = [term.name for term in self.terms if term.is_backward]
        require(
            self.feedback.is_plastic or not backward,
            f"backward terms ({', '.join(backward)}) change plastic backward weights, got "
            f"--feedback {self.feedback_name}; use --feedback plastic or leave the terms out.",
        )

    @cached_property
    def feedback(self) -> Feedback:
        """Where errors come from."""
        return get_feedback(self.feedback_name)

    @cached_property
    def forward_plasticity(self) -> Plasticity:
        """What the terms do to the forward weights."""
        return compile_terms(self.terms, W)

    @cached_property
    def backward_plasticity(self) -> Plasticity:
        """What the terms do to the backward weights."""
        return compile_terms(self.terms, B)

    @cached_property
    def lowest_error(self) -> int:
        """0 if a term reads the synthetic input error e_0, else 1: nothing else needs it."""
        return 0 if any(term.reads(pre.error) for term in self.terms) else 1

    def draw(
        self, episodes: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> State:
        """Return a fresh state for each of `episodes` episodes.

        Raises:
            UserError: if the number is not at least 1.
        """
        episodes = require_count(episodes, "episodes")
        return State(
            self.network.draw(episodes, generator, dtype),
            self.feedback.draw(self.network, episodes, generator, dtype),
        )

    def begin(self, batch: EpisodeBatch, generator: torch.Generator) -> State:
        """Return the weights from which the episodes are learned: prescribed, or drawn fresh.

        A feedback without weights of its own leaves prescribed backward weights alone; one with
        weights of its own draws them where none are prescribed.
        """
        if batch.initial is None:
            return self.draw(batch.episodes, generator, batch.support_x.dtype)
        weights, backward = batch.initial
        if not self.feedback.shapes(self.network):
            return State(weights, ())
        return State(
            weights,
            backward
            or self.feedback.draw(self.network, batch.episodes, generator, batch.support_x.dtype),
        )

    def synapses(self, state: Operators, x: Tensor, label: Tensor) -> list[Synapses]:
        """Return the signals at the synapses of W_1 … W_L for one example per episode.

        Args:
            state: the matrices before the step.
            x: [episode, pixel].
            label: [episode].
        """
        forward = self.network.forward(state.weights, x.unsqueeze(1))
        output_error = self.network.output_error(forward, label.unsqueeze(1))
        return self.ends(state, forward, output_error)

    def ends(self, state: Operators, forward: Forward, output_error: Tensor) -> list[Synapses]:
        """Return the signals at the synapses of W_1 … W_L after a forward pass.

        Args:
            state: the matrices before the step.
            forward: signals of one example per episode, each [episode, 1, neuron].
            output_error: e_L, [episode, 1, class].
        """
        errors = self.feedback.errors(
            self.network, state.weights, state.backward, forward, output_error, self.lowest_error
        )
        y = [activity.squeeze(1) for activity in forward.activities]
        e = [error.squeeze(1) for error in errors]
        return [
            Synapses(weight, y[i + 1], e[i + 1], y[i], e[i])
            for i, weight in enumerate(state.weights)
        ]

    def updates(self, state: State, x: Tensor, label: Tensor) -> list[Iterator[Tensor]]:
        """Return for each layer the terms' updates F, one after another as they are asked for.

        Each is a full matrix, [episode, row, column], at the term's own matrix, W_ℓ or B_ℓ; for
        diagnosis: nothing is shared with the compiled plasticity tensor.

        Args:
            state: the matrices before the step.
            x: [episode, pixel].
            label: [episode].

        Raises:
            UserError: if the labels are no classes of the network's.
        """
        operators, label = Operators.of(state), self._labels(label, x)
        synapses = self.synapses(operators, x, label)
        return [self._updates(operators, layer, ends) for layer, ends in enumerate(synapses)]

    def _updates(self, state: Operators, layer: int, ends: Synapses) -> Iterator[Tensor]:
        for term in self.terms:
            yield full_update(term, ends.at(state.backward[layer]) if term.is_backward else ends)

    def changes(
        self, state: Operators, theta: Tensor, x: Tensor, label: Tensor
    ) -> tuple[list[Change], list[Change]]:
        """Return what one example changes in each W_ℓ and, with backward terms, in each B_ℓ.

        Every signal is taken before any weight changes.

        Args:
            state: the matrices before the step.
            theta: [episode, layer, term].
            x: [episode, pixel].
            label: [episode].
        """
        return self._changes(state, theta, self.synapses(state, x, label))

    def _changes(
        self, state: Operators, theta: Tensor, synapses: list[Synapses]
    ) -> tuple[list[Change], list[Change]]:
        forward = [change(self.forward_plasticity, theta[:, i], s) for i, s in enumerate(synapses)]
        if self.backward_plasticity.is_empty:
            return forward, []
        exchanged = [s.at(matrix) for s, matrix in zip(synapses, state.backward, strict=True)]
        return forward, [
            change(self.backward_plasticity, theta[:, i], s) for i, s in enumerate(exchanged)
        ]

    def step(self, state: State, theta: Tensor, x: Tensor, label: Tensor) -> State:
        """Return the state after learning one example per episode; arguments as in `changes`.

        Raises:
            UserError: if the labels are no classes of the network's.
        """
        label = self._labels(label, x)
        return self._move(state, *self.changes(Operators.of(state), theta, x, label))

    def learn(self, state: State, theta: Tensor, forward: Forward, output_error: Tensor) -> State:
        """Return the state after learning one example whose forward pass is already made.

        Args:
            state: the matrices before the step.
            theta: [episode, layer, term].
            forward: signals, each [episode, 1, neuron].
            output_error: e_L, [episode, 1, class].
        """
        operators = Operators.of(state)
        synapses = self.ends(operators, forward, output_error)
        return self._move(state, *self._changes(operators, theta, synapses))

    def learn_mean(
        self, state: State, theta: Tensor, forward: Forward, output_error: Tensor
    ) -> State:
        """Return one network's state after the mean of what each of n examples would change.

        All signals are those before the step.

        Args:
            state: the matrices before the step, those of a single episode.
            theta: [layer, term].
            forward: signals, each [n, 1, neuron].
            output_error: e_L, [n, 1, class].
        """
        examples = len(output_error)
        shared = State(*(tuple(m.expand(examples, -1, -1) for m in group) for group in state))
        operators = Operators.of(shared)
        synapses = self.ends(operators, forward, output_error)
        sides = self._changes(operators, theta.expand(examples, -1, -1), synapses)
        forward_side, backward_side = ([c.mean() for c in side] for side in sides)
        return self._move(state, forward_side, backward_side)

    def _move(self, state: State, forward: list[Change], backward: list[Change]) -> State:
        weights = tuple(c.apply(m) for c, m in zip(forward, state.weights, strict=True))
        if not backward:
            return State(weights, state.backward)
        moved = zip(backward, state.backward, strict=True)
        return State(weights, tuple(c.apply(m) for c, m in moved))

    def _labels(self, labels: Tensor, x: Tensor) -> Tensor:
        """Return the labels of images [..., pixel], checked."""
        classes = self.network.widths[-1]
        return class_targets(
            labels, classes, x.shape[:-1], "labels", device=x.device, dtype=x.dtype, nan=True
        )

    def query(self, state: State, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return loss (nats) and accuracy, means over the query set, [episode] each.

        Args:
            state: the learned weights.
            x: [episode, query, pixel].
            labels: [episode, query] class indices, or [episode, query, class] probabilities.

        Raises:
            UserError: if the labels are no classes of the network's.
        """
        labels = self._labels(labels, x)
        forward = self.network.forward(Operators.of(state).weights, x)
        return self.network.loss(forward, labels), self.network.accuracy(forward, labels)
