"""The interface of every engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.base.scores import warn_of_accuracy
from metaplast.base.torch_settings import is_ordinary, ordinary
from metaplast.engines.fit import require_fit
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.tasks.batch import EpisodeBatch


@dataclass(frozen=True)
class Problem:
    """Episodes to unroll: the learner, its θ, its initial state and the data.

    Attributes:
        learner: the system and the rule's terms.
        theta: [term] shared by all sites, or [site, term]. Engines with `takes_each` also accept
            [episode, site, term], one θ for each episode.
        state: initial matrices and carried vectors of each episode.
        episodes: support and query sets.
    """

    learner: Learner
    theta: Tensor
    state: State
    episodes: EpisodeBatch

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            UserError: if shapes, dtypes or devices do not match, or a label is out of range.
        """
        require_fit(self.learner, self.theta, self.state, self.episodes)
        kinds = {self.episodes.support_y.dtype, self.episodes.query_y.dtype}
        if kinds - {torch.int64, self.theta.dtype}:
            # Target vectors must have the dtype of the inputs.
            object.__setattr__(self, "episodes", self.episodes.to(self.theta.dtype))

    @property
    def ordinary(self) -> Problem:
        """The same problem in plain tensors, without autograd history or inference mode."""
        batch = self.episodes
        data = (batch.support_x, batch.support_y, batch.query_x, batch.query_y)
        noise = () if batch.noise is None else (batch.noise,)
        tensors = (*self.state.matrices.values(), *self.state.carry.values(), *data, *noise)
        if all(map(is_ordinary, (self.theta, *tensors))):
            return self
        support_x, support_y, query_x, query_y = map(ordinary, data)
        episodes = EpisodeBatch(
            support_x, support_y, query_x, query_y, noise=next(map(ordinary, noise), None)
        )
        return Problem(self.learner, ordinary(self.theta), self.state.map(ordinary), episodes)

    def on(self, device: torch.device | str) -> Problem:
        """Return the same problem on a device.

        Raises:
            UserError: if the device is unknown or absent.
        """
        state, episodes = self.state.on(device), self.episodes.on(device)
        return Problem(self.learner, self.theta.to(device), state, episodes)

    @property
    def episode_theta(self) -> Tensor:
        """θ as [episode, site, term], a new tensor without autograd history."""
        theta = self.theta.detach()
        if theta.dim() == 3:
            return theta.clone()
        shape = (self.episodes.episodes, self.learner.sites, theta.shape[-1])
        return theta.expand(shape).clone()

    def reduce(self, gradient: Tensor) -> Tensor:
        """Return a gradient [episode, site, term] in θ's shape: the sum over sites that share θ."""
        return gradient.sum(1) if self.theta.dim() == 1 else gradient

    def select(self, index: Tensor | slice) -> Problem:
        """Return the same problem for the episodes at `index`."""
        theta = self.theta[index] if self.theta.dim() == 3 else self.theta
        return Problem(self.learner, theta, self.state.select(index), self.episodes.select(index))


@dataclass(frozen=True)
class Outcome:
    """The result of an unroll, separately for each episode.

    Attributes:
        loss: the objective's loss, mean over the query set, [episode].
        score: the objective's score, mean over the query set, [episode]; larger is better.
        theta_gradient: exact ∂loss/∂θ, [episode, *theta.shape], or [episode, site, term] if each
            episode has its own θ; None if not requested.
        final: the matrices and carried vectors after the last support example.
        tau_gradient: exact ∂loss/∂log τ of the learner's `clocks`, [episode, clock]; None if the
            learner has none, or no gradient was requested.
    """

    loss: Tensor
    score: Tensor
    theta_gradient: Tensor | None
    final: State
    tau_gradient: Tensor | None = None

    def __post_init__(self) -> None:
        """Check that all tensors have the same episode axis.

        Raises:
            UserError: if they do not.
        """
        shapes = [tuple(self.loss.shape), tuple(self.score.shape)]
        axes = {
            shapes[0][:1],
            *(tuple(matrix.shape[:1]) for matrix in self.final.matrices.values()),
        }
        for gradient in (self.theta_gradient, self.tau_gradient):
            if gradient is not None:
                axes.add(tuple(gradient.shape[:1]))
        require(
            len(shapes[0]) == 1 and shapes[0] == shapes[1] and len(axes) == 1,
            f"an outcome's loss and score must be [episode], with the same episodes in gradient "
            f"and weights, got shapes {shapes[0]} and {shapes[1]} and first axes {sorted(axes)}.",
        )

    @classmethod
    def joined(cls, outcomes: Sequence[Outcome]) -> Outcome:
        """Return several outcomes as one, with their episodes in order."""
        gradients = [o.theta_gradient for o in outcomes if o.theta_gradient is not None]
        to_taus = [o.tau_gradient for o in outcomes if o.tau_gradient is not None]
        finals = [outcome.final for outcome in outcomes]
        return cls(
            torch.cat([outcome.loss for outcome in outcomes]),
            torch.cat([outcome.score for outcome in outcomes]),
            torch.cat(gradients) if gradients else None,
            State(
                {n: torch.cat([f.matrices[n] for f in finals]) for n in finals[0].matrices},
                {n: torch.cat([f.carry[n] for f in finals]) for n in finals[0].carry},
            ),
            torch.cat(to_taus) if to_taus else None,
        )

    @property
    def accuracy(self) -> Tensor:
        """Deprecated name of `score`."""
        warn_of_accuracy("Outcome")
        return self.score

    @property
    def finite(self) -> Tensor:
        """Whether the loss and the gradients of each episode are finite, [episode]."""
        finite = torch.isfinite(self.loss)
        for gradient in (self.theta_gradient, self.tau_gradient):
            if gradient is not None:
                finite &= torch.isfinite(gradient).flatten(1).all(1)
        return finite


class Engine(ABC):
    """Computes the outcome of a problem. All engines return the same result, up to rounding.

    Attributes:
        name: as written after `--engine`.
        summary: one line for `--help`.
        takes_each: whether it accepts a problem in which each episode has its own θ.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    takes_each: ClassVar[bool] = False

    @abstractmethod
    def run(self, problem: Problem, *, gradient: bool = True) -> Outcome:
        """Unroll every episode; with `gradient`, return the exact ∂loss/∂θ of its query loss.

        Raises:
            UserError: if the engine does not support the problem; the message names an alternative.
        """

    def refusal(self, learner: Learner, device: torch.device) -> str | None:
        """Return why this engine cannot run `learner` on `device`, or None if it can."""
        return None
