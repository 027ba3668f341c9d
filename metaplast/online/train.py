"""Train fresh networks online with a given rule, image by image, and record the results.

No gradient is computed. The steps between two records are one unroll, and its learned weights are
the initial weights of the next one. So the fast engines can be used, and networks learn side by
side.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from metaplast.base.bands import Band, mean_bands
from metaplast.base.coerce import coerce
from metaplast.base.errors import require, require_seed, require_within
from metaplast.base.scores import ScoreScale, warn_of_accuracy
from metaplast.base.seeds import generator
from metaplast.base.torch_settings import own_settings
from metaplast.engines import Problem, choose_engine
from metaplast.meta.evaluation import counted
from metaplast.online.probes import PROBES, Probe, Snapshot
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.checks import require_batch
from metaplast.tasks.input_range import check_episodes
from metaplast.tasks.stream import StreamSampler

# Probes use this many of the held-out images.
PROBED = 100


@dataclass(frozen=True)
class OnlineSettings:
    """How networks are trained; the same for every rule of a comparison.

    Attributes:
        records: increasing numbers of images after which everything is measured; the last is the
            length of the training, and 0 measures the untrained network.
        seeds: how many networks to train, each with its own weights, images and order.
        queries: number of held-out images on which score and loss are measured.
        seed: the seed of all random numbers.
        purpose: a name that goes into the seeds; another purpose gives other networks and images.
        engine: the engine that unrolls; "auto" chooses the fastest.
        together: how many networks to train at once; this affects the memory, but not the results
            beyond rounding.
    """

    records: tuple[int, ...]
    seeds: int = 5
    queries: int = 1000
    seed: int = 0
    purpose: str = "online"
    engine: str = "auto"
    together: int = 8

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: if a number has the wrong type or is out of range, or the records do not
                increase.
        """
        coerce(self)
        rising = all(a < b for a, b in itertools.pairwise(self.records))
        require(
            bool(self.records) and rising and self.records[0] >= 0 and self.records[-1] >= 1,
            f"records must be rising numbers of images, the last at least 1, got {self.records}.",
        )
        require_within("--seeds", self.seeds, 1)
        require_within("--test-images", self.queries, 1)
        require_within("together", self.together, 1)
        require_seed("--seed", self.seed)


@dataclass(frozen=True)
class OnlineRun:
    """Results of networks that learned by one rule.

    Attributes:
        samples: numbers of images at which everything was measured, [record].
        score: mean score on the held-out images, [network, record]. A network that has diverged,
            or scores below the objective's `least_score`, counts as that least score.
        loss: mean loss on them; not finite once diverged, [network, record].
        measures: results of the probes, by name, [network, record, …].
        final: the learned weights.
        scale: name, limits and display of the score.
    """

    samples: tuple[int, ...]
    score: Tensor
    loss: Tensor
    measures: Mapping[str, Tensor]
    final: State
    scale: ScoreScale

    @property
    def accuracy(self) -> Tensor:
        """Deprecated name of `score`."""
        warn_of_accuracy("OnlineRun")
        return self.score

    @property
    def diverged(self) -> Tensor:
        """Which networks had a loss that was not finite at some record, [network]."""
        return ~torch.isfinite(self.loss).all(1)

    def band(self, record: int = -1) -> Band:
        """Return the mean score at a record, with its confidence band."""
        return self._bands[record]

    @cached_property
    def _bands(self) -> list[Band]:
        ends = mean_bands(self.score.double().cpu().numpy(), self.scale.limits)
        percent = self.scale.percent
        return [
            Band(float(mean), float(low), float(high), percent)
            for mean, low, high in zip(*ends, strict=True)
        ]


def spaced_records(samples: int, number: int = 20) -> tuple[int, ...]:
    """Return 0 and up to `number` increasing counts up to `samples`, denser at the start."""
    counts = {round(samples * (i / number) ** 2) for i in range(number + 1)}
    return tuple(sorted(counts))


@own_settings()
@torch.no_grad()
def train_online(
    learner: Learner,
    theta: Tensor,
    stream: StreamSampler,
    settings: OnlineSettings,
    *,
    probes: Mapping[str, Probe] = PROBES,
    observe: Callable[[int], None] | None = None,
) -> OnlineRun:
    """Train fresh networks by a rule, and return their results.

    Networks, images and order depend only on the settings and the network's number: every rule sees
    the same ones, and more seeds add networks without changing the others.

    Args:
        learner: the system and the rule's terms.
        theta: [term] or [site, term]; training uses its dtype and device.
        stream: source of the images.
        settings: how many networks, images and records.
        probes: the measurements at each record, besides score and loss.
        observe: called after each record, with the number of images learned since the last one,
            summed over networks.

    Raises:
        UserError: if shapes do not fit, the engine does not support the learner, or the stream
            does not return the requested number of images.
    """
    parts = []
    for first in range(0, settings.seeds, settings.together):
        runs = range(first, min(first + settings.together, settings.seeds))
        parts.append(_train(learner, theta, stream, settings, runs, probes, observe))
    return OnlineRun(
        settings.records,
        torch.cat([part.score for part in parts]),
        torch.cat([part.loss for part in parts]),
        {name: torch.cat([part.measures[name] for part in parts]) for name in probes},
        State.cat([part.final for part in parts]),
        parts[0].scale,
    )


def _train(
    learner: Learner,
    theta: Tensor,
    stream: StreamSampler,
    settings: OnlineSettings,
    runs: Sequence[int],
    probes: Mapping[str, Probe],
    observe: Callable[[int], None] | None,
) -> OnlineRun:
    """Train some of the networks side by side."""
    engine = choose_engine(settings.engine, learner, theta.device)
    batch, state = _training_data(learner, theta, stream, settings, runs)
    # `Problem` checks that everything fits; do so before the untrained network is measured.
    Problem(learner, theta, state, batch)
    scores, losses, found = [], [], {name: list[Tensor]() for name in probes}
    done = 0
    for until in settings.records:
        if until == 0:
            loss, score = learner.query(state, batch.query)
        else:
            stretch = _stretch(batch, done, until)
            outcome = engine.run(Problem(learner, theta, state, stretch), gradient=False)
            state, loss, score = outcome.final, outcome.loss, outcome.score
        scores.append(counted(learner, loss, score, batch.query))
        losses.append(loss)
        snapshot = Snapshot(
            learner, theta, state, batch.query_x[:, :PROBED], batch.query_y[:, :PROBED]
        )
        for name, probe in probes.items():
            found[name].append(probe(snapshot))
        if observe is not None:
            observe((until - done) * len(runs))
        done = until
    measures = {name: torch.stack(values, 1) for name, values in found.items()}
    return OnlineRun(
        settings.records, torch.stack(scores, 1), torch.stack(losses, 1), measures, state,
        learner.system.objective.score_scale,
    )  # fmt: skip


def _stretch(batch: EpisodeBatch, start: int, end: int) -> EpisodeBatch:
    """Return a batch with only the steps from `start` to `end` of its support sets."""
    return replace(
        batch, support_x=batch.support_x[:, start:end], support_y=batch.support_y[:, start:end]
    )


def _training_data(
    learner: Learner,
    theta: Tensor,
    stream: StreamSampler,
    settings: OnlineSettings,
    runs: Sequence[int],
) -> tuple[EpisodeBatch, State]:
    """Return the images and the initial weights of some networks."""
    steps = settings.records[-1]
    batches, states = [], []
    for run in runs:
        draw = generator(settings.seed, settings.purpose, "images", run)
        batch = require_batch(stream.sample(steps, settings.queries, draw), 1, stream)
        require(
            batch.steps == steps,
            f"{type(stream).__name__}.sample() must return the {steps} images requested, got "
            f"{batch.steps}; return the requested number.",
        )
        batches.append(batch.to(theta.dtype))
        check_episodes(stream, batches[-1])
        draw = generator(settings.seed, settings.purpose, "weights", run, device=theta.device)
        states.append(learner.draw(1, draw, theta.dtype))
    return EpisodeBatch.cat(batches), State.cat(states)
