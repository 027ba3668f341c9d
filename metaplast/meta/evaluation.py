"""The score of a rule with its band; all rules see the same episodes and initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from metaplast.base.background import ahead
from metaplast.base.bands import Band
from metaplast.base.scores import ScoreScale, warn_of_accuracy
from metaplast.base.seeds import generator
from metaplast.base.tensors import require_count, require_tensor
from metaplast.base.torch_settings import own_settings
from metaplast.engines import Engine, Problem
from metaplast.systems.learner import Learner
from metaplast.systems.system import Examples
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.checks import require_batch
from metaplast.tasks.derived import may_draw_ahead
from metaplast.tasks.lengths import each_length
from metaplast.tasks.source import EpisodeSampler


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of one rule on held-out episodes.

    Attributes:
        score: query score of each episode, [episode]. An episode that diverged, or scored below
            the objective's `least_score`, counts with that least score.
        loss: query loss of each episode, [episode].
        non_finite: number of episodes that diverged.
        scale: how the score is named, bounded and shown.
        steps: number of online steps of each episode, [episode].
    """

    score: Tensor
    loss: Tensor
    non_finite: int
    scale: ScoreScale
    steps: Tensor | None = None

    @cached_property
    def band(self) -> Band:
        """Mean score with its band."""
        return self.scale.band(self.score)

    @cached_property
    def by_steps(self) -> dict[int, Band]:
        """Mean score with its band for each number of steps; empty if there is only one."""
        lengths = [] if self.steps is None else sorted(set(self.steps.tolist()))
        if self.steps is None or len(lengths) < 2:
            return {}
        return {length: self.scale.band(self.score[self.steps == length]) for length in lengths}

    def change(self, other: Evaluation) -> Band:
        """Return by how much another rule's score exceeds this one's, on the same episodes."""
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
    enough: Callable[[Tensor], bool] | None = None,
) -> Evaluation:
    """Evaluate a rule on fresh episodes, which are the same for every rule with this seed.

    Args:
        learner: network, feedback and terms.
        theta: [term] or [layer, term].
        sampler: where episodes come from.
        engine: unrolls the episodes, without gradient.
        episodes: how many.
        seed: determines episodes and initial weights.
        purpose: names the random numbers, so that selection and the final test draw different ones.
        chunk: episodes at once.
        observe: called after each chunk with the number of episodes done.
        enough: called after each chunk with the scores so far; True ends the evaluation.

    Raises:
        UserError: if a number is below 1, or the sampler's episodes do not fit.
    """
    episodes, chunk = require_count(episodes, "episodes"), require_count(chunk, "chunk")
    require_tensor(theta, "theta")
    scores, losses, steps = [], [], []
    problems = _problems(learner, theta, sampler, episodes, seed, purpose, chunk)
    for problem in ahead(problems) if may_draw_ahead(sampler, theta.device) else problems:
        batch, outcome = problem.episodes, engine.run(problem, gradient=False)
        scores.append(counted(learner, outcome.loss, outcome.score, batch.query))
        losses.append(outcome.loss)
        steps.append(torch.full_like(outcome.loss, batch.steps, dtype=torch.int64))
        if observe is not None:
            observe(batch.episodes)
        if enough is not None and enough(torch.cat(scores)):
            break
    loss = torch.cat(losses)
    diverged = int((~torch.isfinite(loss)).sum())
    scale = learner.system.objective.score_scale
    return Evaluation(torch.cat(scores), loss, diverged, scale, torch.cat(steps))


def counted(learner: Learner, loss: Tensor, score: Tensor, query: Examples) -> Tensor:
    """Return scores, none below the least, [episode].

    An episode with a non-finite loss, or with a lower score than the objective's `least_score`,
    counts with that least score.

    Args:
        learner: whose objective it is.
        loss: mean over the query set, [episode].
        score: mean over the query set, [episode].
        query: the query set.
    """
    least = _least(learner, query, score)
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

    The arguments are those of `evaluate`; equal arguments give the same episodes.
    """
    batches = _batches(theta, sampler, episodes, seed, purpose, chunk)
    return torch.cat([_least(learner, batch.query, theta) for batch in batches])


def _least(learner: Learner, query: Examples, like: Tensor) -> Tensor:
    """Return the score with which a divergent episode counts, [episode]."""
    return learner.system.objective.least_score(query.target).flatten(1).mean(-1).to(like)


def _problems(
    learner: Learner, theta: Tensor, sampler: EpisodeSampler, episodes: int, seed: int,
    purpose: str, chunk: int,
) -> Iterator[Problem]:  # fmt: skip
    """Yield the episodes, at most `chunk` at once, with fresh networks."""
    batches = _batches(theta, sampler, episodes, seed, purpose, chunk)
    for index, batch in enumerate(batches):
        draw = generator(seed, purpose, "weights", index, device=theta.device)
        state = learner.begin(batch.episodes, batch.initial, draw, theta.dtype)
        yield Problem(learner, theta, state, batch)


def _batches(
    like: Tensor, sampler: EpisodeSampler, episodes: int, seed: int, purpose: str, chunk: int
) -> Iterator[EpisodeBatch]:
    """Yield the episodes, at most `chunk` at once, with a tensor's dtype and device.

    Episodes of several lengths take turns.
    """
    turns = each_length(sampler)
    chunk = min(chunk, math.ceil(episodes / len(turns)))
    for index, start in enumerate(range(0, episodes, chunk)):
        size, turn = min(chunk, episodes - start), turns[index % len(turns)]
        draw = generator(seed, purpose, "episodes", index, device=like.device)
        yield require_batch(turn.sample(size, draw), size, turn).to(like.dtype)
