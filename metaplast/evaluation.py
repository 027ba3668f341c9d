"""Held-out accuracy with bootstrap bands, all rules on the same episodes and initial weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from metaplast.checks import require_batch, require_count, require_tensor
from metaplast.episode import EpisodeSampler
from metaplast.learner import Learner
from metaplast.seeds import generator
from metaplast.torch_settings import own_settings
from metaplast.unroll import Engine, Problem

COVERAGE = 0.98
RESAMPLES = 10_000


@dataclass(frozen=True)
class Band:
    """A mean over episodes with its percentile bootstrap band.

    Attributes:
        mean: over episodes.
        low: lower end of the band.
        high: upper end.
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Return a share as percent, with its band."""
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    @property
    def points(self) -> str:
        """A difference of shares in points, with its band."""
        return f"{100 * self.mean:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


@dataclass(frozen=True)
class Evaluation:
    """How one rule does on held-out episodes.

    Attributes:
        accuracy: query accuracy of each episode; 0 for one that diverged, [episode].
        loss: query cross-entropy in nats of each episode, [episode].
        non_finite: number of episodes that diverged.
    """

    accuracy: Tensor
    loss: Tensor
    non_finite: int

    @property
    def band(self) -> Band:
        """Mean accuracy with its band."""
        return bootstrap(self.accuracy)


def bootstrap(values: Tensor, coverage: float = COVERAGE, seed: int = 0) -> Band:
    """Return the mean of `values` with its percentile bootstrap band.

    Published curves use 98 % bands of 500 resamples (Shervani-Tabar & Rosenbaum 2023); more
    resamples make the ends of the band steady.

    Args:
        values: one for each episode, [episode].
        coverage: of the band.
        seed: of the resampling.
    """
    numbers = values.double().cpu().numpy()
    draw = np.random.default_rng(seed)
    # In blocks, so that many episodes need little memory.
    blocks = [
        draw.choice(numbers, size=(100, len(numbers))).mean(axis=1) for _ in range(RESAMPLES // 100)
    ]
    tail = (1 - coverage) / 2
    low, high = np.quantile(np.concatenate(blocks), [tail, 1 - tail])
    return Band(float(numbers.mean()), float(low), float(high))


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
    """Return how a rule does on fresh episodes, the same for every rule with this seed.

    Args:
        learner: network, feedback and terms.
        theta: [term] or [layer, term].
        sampler: where episodes come from.
        engine: unrolls them, without gradient.
        episodes: how many.
        seed: decides episodes and initial weights.
        purpose: names the random numbers, so that selection and the final test differ.
        chunk: episodes at once.
        observe: called with the number done after each chunk.

    Raises:
        UserError: if a number is not at least 1, or what the sampler draws does not fit.
    """
    episodes, chunk = require_count(episodes, "episodes"), require_count(chunk, "chunk")
    require_tensor(theta, "theta")
    accuracies, losses = [], []
    for index, start in enumerate(range(0, episodes, chunk)):
        size = min(chunk, episodes - start)
        draw = generator(seed, purpose, "episodes", index, device=theta.device)
        batch = require_batch(sampler.sample(size, draw), size, sampler).to(theta.dtype)
        draw = generator(seed, purpose, "weights", index, device=theta.device)
        problem = Problem(learner, theta, learner.begin(batch, draw), batch)
        outcome = engine.run(problem, gradient=False)
        accuracies.append(torch.where(outcome.finite, outcome.accuracy, 0))
        losses.append(outcome.loss)
        if observe is not None:
            observe(size)
    loss = torch.cat(losses)
    return Evaluation(torch.cat(accuracies), loss, int((~torch.isfinite(loss)).sum()))
