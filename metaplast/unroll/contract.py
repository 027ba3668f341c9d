"""The one call that every engine answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metaplast.episode import EpisodeBatch
from metaplast.errors import require
from metaplast.learner import Learner, State


@dataclass(frozen=True)
class Problem:
    """Episodes to unroll: who learns, with which θ, from which weights, on which data.

    Attributes:
        learner: network, feedback and terms.
        theta: [term] shared by all layers, or [layer, term].
        state: initial weights of each episode.
        episodes: support and query sets.
    """

    learner: Learner
    theta: Tensor
    state: State
    episodes: EpisodeBatch

    def __post_init__(self) -> None:
        """Check shapes and types against each other.

        Raises:
            UserError: if they do not fit.
        """
        network, terms = self.learner.network, len(self.learner.terms)
        allowed = ((terms,), (network.layers, terms))
        require(
            tuple(self.theta.shape) in allowed,
            f"theta must be [term] or [layer, term], that is {allowed[0]} or {allowed[1]}, "
            f"got {tuple(self.theta.shape)}.",
        )
        require(
            self.episodes.support_x.shape[-1] == network.widths[0],
            f"the network takes {network.widths[0]} inputs, the episodes have images of "
            f"{self.episodes.support_x.shape[-1]} pixels; set the network's first width to that.",
        )
        self._check_episodes()
        self._check_state()
        dtypes = {
            self.theta.dtype,
            self.episodes.support_x.dtype,
            *(w.dtype for w in self.matrices),
        }
        require(
            len(dtypes) == 1,
            f"theta, weights and images must share one dtype, got {sorted(map(str, dtypes))}; "
            f"convert them.",
        )

    def _check_episodes(self) -> None:
        episodes, classes = self.episodes, self.learner.network.widths[-1]
        require(episodes.steps >= 1, "an episode needs at least one support image, got none.")
        require(
            episodes.query_x.shape[-1] == episodes.support_x.shape[-1],
            f"support and query images must be of one size, got "
            f"{episodes.support_x.shape[-1]} and {episodes.query_x.shape[-1]} pixels.",
        )
        require(
            not episodes.support_y.is_floating_point(),
            f"support labels must be class indices, got {episodes.support_y.dtype}; only query "
            f"labels may be class probabilities.",
        )
        for labels in (episodes.support_y, episodes.query_y):
            if labels.is_floating_point():
                _check_probabilities(labels, (*episodes.query_x.shape[:2], classes))
                continue
            low, high = map(int, labels.aminmax()) if labels.numel() else (0, 0)
            require(
                low >= 0 and high < classes,
                f"labels must be from 0 to {classes - 1}, the network's last class, got "
                f"{low} to {high}; set the network's last width to the number of classes.",
            )

    def _check_state(self) -> None:
        network, feedback = self.learner.network, self.learner.feedback
        widths = network.widths
        expected = [*zip(widths[1:], widths[:-1], strict=True), *feedback.shapes(network)]
        wanted = [(self.episodes.episodes, *shape) for shape in expected]
        got = [tuple(matrix.shape) for matrix in self.matrices]
        require(
            got == wanted and len(self.state.weights) == network.layers,
            f"the weights must be of shapes {wanted}, got {got}; draw them with learner.draw().",
        )

    @property
    def matrices(self) -> tuple[Tensor, ...]:
        """All the matrices of the state."""
        return (*self.state.weights, *self.state.backward)

    @property
    def is_per_layer(self) -> bool:
        """True if each layer has coefficients of its own."""
        return self.theta.dim() == 2

    @property
    def episode_theta(self) -> Tensor:
        """θ as [episode, layer, term], a fresh tensor without history."""
        theta = self.theta.detach()
        shape = (self.episodes.episodes, self.learner.network.layers, theta.shape[-1])
        return theta.expand(shape).clone()

    def reduce(self, gradient: Tensor) -> Tensor:
        """Return the gradient to θ as θ is shaped: [episode, term] or [episode, layer, term]."""
        return gradient if self.is_per_layer else gradient.sum(1)

    def select(self, index: Tensor | slice) -> Problem:
        """Return the same problem for the episodes at `index`."""
        return Problem(
            self.learner, self.theta, self.state.select(index), self.episodes.select(index)
        )


def _check_probabilities(labels: Tensor, shape: tuple[int, ...]) -> None:
    """Raise `UserError` unless labels are probabilities [episode, query, class] of this shape."""
    require(
        tuple(labels.shape) == shape,
        f"class probabilities must be [episode, query, class], here {shape}, got "
        f"{tuple(labels.shape)}; set the network's last width to the number of classes.",
    )
    # A not-a-number passes, as in images: the guard reports the episode that it spoils.
    negative = bool((labels < 0).any())
    off = (labels.sum(-1) - 1).abs().nan_to_num().max() if labels.numel() else labels.new_zeros(())
    require(
        not negative and float(off) <= 1e-3,
        f"class probabilities must not be negative and sum to 1, got "
        f"{'a negative one' if negative else f'sums off by {float(off):.2g}'}; "
        f"normalise them, with a softmax for instance.",
    )


@dataclass(frozen=True)
class Outcome:
    """What an unroll yields, for each episode apart.

    Attributes:
        loss: query cross-entropy in nats, mean over the query set, [episode].
        accuracy: query accuracy, [episode].
        theta_gradient: exact ∂loss/∂θ, [episode, *theta.shape]; None where not asked for.
        final: the learned weights.
    """

    loss: Tensor
    accuracy: Tensor
    theta_gradient: Tensor | None
    final: State

    @property
    def finite(self) -> Tensor:
        """Whether loss and gradient of each episode are finite, [episode]."""
        finite = torch.isfinite(self.loss)
        if self.theta_gradient is not None:
            finite &= torch.isfinite(self.theta_gradient).flatten(1).all(1)
        return finite


class Engine(ABC):
    """Computes the outcome of a problem. All engines give the same answer.

    Attributes:
        name: as written after `--engine`.
        summary: one line for people.
    """

    name: ClassVar[str]
    summary: ClassVar[str]

    @abstractmethod
    def run(self, problem: Problem, *, gradient: bool = True) -> Outcome:
        """Unroll every episode; with `gradient`, differentiate its query loss to θ exactly.

        Raises:
            UserError: if the engine does not serve the problem, with what does instead.
        """

    def refusal(self, learner: Learner, device: torch.device) -> str | None:
        """Return why this engine cannot serve `learner` on `device`, None if it can."""
        return None
