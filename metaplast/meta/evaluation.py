"""Held-out accuracy with its band; all rules see the same episodes and initial weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from metaplast.base.bands import CHANGE, SHARE, Band, mean_band
from metaplast.base.seeds import generator
from metaplast.base.tensors import require_count, require_tensor
from metaplast.base.torch_settings import own_settings
from metaplast.engines import Engine, Problem
from metaplast.systems.learner import Learner
from metaplast.tasks.checks import require_batch
from metaplast.tasks.source import EpisodeSampler


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of one rule on held-out episodes.

    Attributes:
        accuracy: query accuracy of each episode; 0 for one that diverged, [episode].
        loss: query cross-entropy in nats of each episode, [episode].
        non_finite: number of episodes that diverged.
    """

    accuracy: Tensor
    loss: Tensor
    non_finite: int

    @cached_property
    def band(self) -> Band:
        """Mean accuracy with its band."""
        return mean_band(self.accuracy, SHARE)

    def change(self, other: Evaluation) -> Band:
        """Return how far another rule's accuracy is above this one's, on the same episodes."""
        return mean_band(other.accuracy - self.accuracy, CHANGE)


@own_settings()
def evaluate(
    learner: Learner,
    theta: Tensor,
    sampler: EpisodeSampler,
    engine: Engine,
    *,
    episodes: int,
    seed: int,
    purpose: str = "heldout",
    chunk: int = 32,
    observe: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate a rule on fresh episodes, which are the same for every rule with this seed.

    Args:
        learner: network, feedback and terms.
        theta: [term] or [layer, term].
        sampler: where episodes come from.
        engine: unrolls the episodes, without gradient.
        episodes: how many.
        seed: determines episodes and initial weights.
        purpose: names the random numbers, so that selection and the final test draw other ones.
        chunk: episodes at once.
        observe: called with the number done after each chunk.

    Raises:
        UserError: if a number is below 1, or the sampler's episodes do not fit.
    """
    episodes, chunk = require_count(episodes, "episodes"), require_count(chunk, "chunk")
    require_tensor(theta, "theta")
    accuracies, losses = [], []
    for index, start in enumerate(range(0, episodes, chunk)):
        size = min(chunk, episodes - start)
        draw = generator(seed, purpose, "episodes", index, device=theta.device)
        batch = require_batch(sampler.sample(size, draw), size, sampler).to(theta.dtype)
        draw = generator(seed, purpose, "weights", index, device=theta.device)
        problem = Problem(
            learner, theta, learner.begin(size, batch.initial, draw, theta.dtype), batch
        )
        outcome = engine.run(problem, gradient=False)
        accuracies.append(torch.where(outcome.finite, outcome.score, 0))
        losses.append(outcome.loss)
        if observe is not None:
            observe(size)
    loss = torch.cat(losses)
    return Evaluation(torch.cat(accuracies), loss, int((~torch.isfinite(loss)).sum()))
