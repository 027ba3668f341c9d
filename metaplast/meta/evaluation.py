"""The score of a rule with its band; all rules see the same episodes and initial weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from metaplast.base.bands import Band
from metaplast.base.scores import ScoreScale, warn_of_accuracy
from metaplast.base.seeds import generator
from metaplast.base.tensors import require_count, require_tensor
from metaplast.base.torch_settings import own_settings
from metaplast.engines import Engine, Problem
from metaplast.systems.learner import Learner
from metaplast.systems.system import Examples
from metaplast.tasks.checks import require_batch
from metaplast.tasks.source import EpisodeSampler


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of one rule on held-out episodes.

    Attributes:
        score: query score of each episode, at least the objective's `least_score`, with which
            an episode that diverged counts, [episode].
        loss: query loss of each episode, [episode].
        non_finite: number of episodes that diverged.
        scale: how the score is named, bounded and shown.
    """

    score: Tensor
    loss: Tensor
    non_finite: int
    scale: ScoreScale

    @cached_property
    def band(self) -> Band:
        """Mean score with its band."""
        return self.scale.band(self.score)

    def change(self, other: Evaluation) -> Band:
        """Return how far another rule's score is above this one's, on the same episodes."""
        return self.scale.change_band(other.score - self.score)

    @property
    def accuracy(self) -> Tensor:
        """Deprecated name of `score`."""
        warn_of_accuracy("Evaluation")
        return self.score


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
    scores, losses = [], []
    for problem in _problems(learner, theta, sampler, episodes, seed, purpose, chunk):
        outcome = engine.run(problem, gradient=False)
        scores.append(counted(learner, outcome.loss, outcome.score, problem.episodes.query))
        losses.append(outcome.loss)
        if observe is not None:
            observe(problem.episodes.episodes)
    loss = torch.cat(losses)
    diverged = int((~torch.isfinite(loss)).sum())
    return Evaluation(torch.cat(scores), loss, diverged, learner.system.objective.score_scale)


def counted(learner: Learner, loss: Tensor, score: Tensor, query: Examples) -> Tensor:
    """Return scores as they count, [episode].

    An episode with a non-finite loss, or with a lower score than the objective's `least_score`,
    counts with that least score.

    Args:
        learner: whose objective it is.
        loss: mean over the query set, [episode].
        score: mean over the query set, [episode].
        query: the query set.
    """
    least = learner.system.objective.least_score(query.target).mean(-1).to(score)
    return torch.where(torch.isfinite(loss) & (score >= least), score, least)


@own_settings()
def least_scores(
    learner: Learner,
    theta: Tensor,
    sampler: EpisodeSampler,
    *,
    episodes: int,
    seed: int,
    purpose: str,
    chunk: int = 32,
) -> Tensor:
    """Return the scores of a rule that diverges in every episode, [episode].

    Arguments as for `evaluate`, and so the same episodes.
    """
    found = [
        learner.system.objective.least_score(problem.episodes.query_y).mean(-1).to(theta)
        for problem in _problems(learner, theta, sampler, episodes, seed, purpose, chunk)
    ]
    return torch.cat(found)


def _problems(
    learner: Learner,
    theta: Tensor,
    sampler: EpisodeSampler,
    episodes: int,
    seed: int,
    purpose: str,
    chunk: int,
) -> Iterator[Problem]:
    """Yield the episodes with their initial weights, at most `chunk` at once."""
    for index, start in enumerate(range(0, episodes, chunk)):
        size = min(chunk, episodes - start)
        draw = generator(seed, purpose, "episodes", index, device=theta.device)
        batch = require_batch(sampler.sample(size, draw), size, sampler).to(theta.dtype)
        draw = generator(seed, purpose, "weights", index, device=theta.device)
        state = learner.begin(size, batch.initial, draw, theta.dtype)
        yield Problem(learner, theta, state, batch)
