"""The one call that every engine answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metaplast.checks import require_fit
from metaplast.episode import EpisodeBatch
from metaplast.errors import require
from metaplast.learner import Learner, State
from metaplast.torch_settings import is_ordinary, ordinary


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
            UserError: if they do not fit: labels out of range, shapes, dtypes, devices.
        """
        require_fit(self.learner, self.theta, self.state, self.episodes)
        if self.episodes.query_y.dtype not in (torch.int64, self.theta.dtype):
            # Probabilities in the images' dtype.
            object.__setattr__(self, "episodes", self.episodes.to(self.theta.dtype))

    @property
    def matrices(self) -> tuple[Tensor, ...]:
        """All the matrices of the state."""
        return (*self.state.weights, *self.state.backward)

    @property
    def ordinary(self) -> Problem:
        """The same problem in plain numbers: no tensor with history or made in inference mode."""
        batch = self.episodes
        data = (batch.support_x, batch.support_y, batch.query_x, batch.query_y)
        if all(map(is_ordinary, (self.theta, *self.matrices, *data))):
            return self
        state = State(*(tuple(map(ordinary, group)) for group in self.state))
        support_x, support_y, query_x, query_y = map(ordinary, data)
        episodes = EpisodeBatch(support_x, support_y, query_x, query_y)
        return Problem(self.learner, ordinary(self.theta), state, episodes)

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

    def __post_init__(self) -> None:
        """Check that all is of the same episodes.

        Raises:
            UserError: if it is not.
        """
        shapes = [tuple(self.loss.shape), tuple(self.accuracy.shape)]
        axes = {
            shapes[0][:1],
            *(tuple(matrix.shape[:1]) for group in self.final for matrix in group),
        }
        if self.theta_gradient is not None:
            axes.add(tuple(self.theta_gradient.shape[:1]))
        require(
            len(shapes[0]) == 1 and shapes[0] == shapes[1] and len(axes) == 1,
            f"an outcome's loss and accuracy must be [episode], with the same episodes in gradient "
            f"and weights, got shapes {shapes[0]} and {shapes[1]} and first axes {sorted(axes)}.",
        )

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
