"""The tasks of an outer loop: drawn by name and step, unrolled, and used to measure terms first."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from metaplast.base.background import begun
from metaplast.base.seeds import generator
from metaplast.base.torch_settings import own_settings
from metaplast.engines import Engine, Outcome, Problem
from metaplast.meta.evolution import EvolutionStrategy
from metaplast.meta.scale import start_units, term_sizes, units
from metaplast.meta.settings import OuterSettings
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.systems.timed import with_log_taus
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.checks import require_batch
from metaplast.tasks.derived import may_draw_ahead
from metaplast.tasks.input_range import check_episodes
from metaplast.tasks.source import EpisodeSampler
from metaplast.terms.coefficients import Coefficients

# The step number of the tasks on which the sizes of terms are measured; no real step has it.
CALIBRATION = 2**31 - 1
# What determines the tasks of a step: their name, the number of the step, and the task count.
Drawn = tuple[str, int, int]


class LoopTasks:
    """Draws the problems of an outer loop and computes their outcomes.

    Args:
        learner: network, feedback and terms.
        sampler: meta-training episodes.
        engine: computes the gradients.
        settings: how θ is learned.
        name: names the random numbers; loops with the same name see the same tasks.
        seed: the seed of all random numbers.
        dtype: of the episodes and networks.
        device: where tensors live.

    Attributes:
        engine: computes the outcomes.
    """

    def __init__(
        self,
        learner: Learner,
        sampler: EpisodeSampler,
        engine: Engine,
        settings: OuterSettings,
        *,
        name: str,
        seed: int,
        dtype: torch.dtype,
        device: torch.device | str,
    ) -> None:
        self.learner = learner
        self.settings = settings
        self._sampler = sampler
        self.engine = engine
        self._name = name
        self._seed = seed
        self._device, self._dtype = torch.device(device), dtype
        # Tasks that another thread has drawn, by their key.
        self._coming: dict[Drawn, tuple[EpisodeBatch, State]] = {}

    @contextmanager
    def drawing(self, step: int | None, tasks: str) -> Iterator[None]:
        """Draw a step's tasks in another thread during the block, so that `problem` finds them.

        The block waits for them at its end, so that the other thread does not change torch's
        global settings later, and a copied or forked loop has no call in flight. Tasks that cannot
        be drawn are left out: `problem` draws them again and raises the error.

        This does nothing if the sampler is not thread-safe, or torch may use one thread only.

        Args:
            step: the number of the step; None to draw nothing.
            tasks: names the random numbers.
        """
        if step is None or not may_draw_ahead(self._sampler, self._device):
            yield
            return
        key = (tasks, step, self.settings.meta_batch)
        coming = begun(partial(self._draw, *key))
        try:
            yield
        finally:
            wait([coming])
        self._coming = {} if coming.exception() else {key: coming.result()}

    def forget(self) -> None:
        """Discard tasks that were drawn and will not be needed."""
        self._coming = {}

    @own_settings()
    def _draw(self, tasks: str, step: int, size: int) -> tuple[EpisodeBatch, State]:
        """Return the episodes and fresh networks of a step."""
        draw = generator(self._seed, tasks, "episodes", step, device=self._device)
        batch = require_batch(self._sampler.sample(size, draw), size, self._sampler)
        batch = batch.to(self._dtype)
        draw = generator(self._seed, tasks, "weights", step, device=self._device)
        return batch, self.learner.begin(size, batch.initial, draw, self._dtype)

    def problem(
        self,
        step: int,
        size: int,
        theta: Tensor,
        *,
        learner: Learner | None = None,
        tasks: str | None = None,
        log_taus: Tensor | None = None,
    ) -> Problem:
        """Return the episodes and fresh networks of an outer step.

        Args:
            step: the number of the step.
            size: number of episodes.
            theta: coefficients of the learner's terms.
            learner: the loop's own system with other terms; None for the loop's own.
            tasks: names the random numbers; None for the loop's own.
            log_taus: log τ of the learner's time constants, [clock]; None if none is learned.
        """
        learner = learner or self.learner
        key = (tasks or self._name, step, size)
        coming = self._coming.pop(key, None)
        batch, state = self._draw(*key) if coming is None else coming
        check_episodes(self._sampler, batch)
        if log_taus is not None:
            state = with_log_taus(state, learner.clocks, log_taus)
        return Problem(learner, theta, state, batch)

    def measure_scale(self, start: Coefficients, *, tied: bool) -> Tensor:
        """Return the units of θ; they are 1 without scaling, or if all terms start at zero.

        The reference terms of `units` are those whose own initial coefficient is not zero, whatever
        θ starts at: a rule that is learned again keeps the units in which it was found. With the
        scaling "start", or if there are none of these, the units are those of `start_units`.

        Args:
            start: initial θ.
            tied: whether all layers of a per-layer θ have the same units.
        """
        theta, guessed = start.tensor, [term.initial != 0 for term in self.learner.terms]
        reference = torch.tensor(guessed, dtype=torch.bool, device=theta.device)
        from_start = self.settings.scaling == "start" or not reference.any()
        if self.settings.scaling == "none" or (from_start and not theta.any()):
            return torch.ones_like(theta)
        problem = self.problem(CALIBRATION, max(4, self.settings.meta_batch), theta)
        sizes = term_sizes(self.learner, theta, problem.state, problem.episodes)
        if tied or not start.is_per_layer:
            sizes = sizes.square().mean(0).sqrt()
        if from_start:
            return start_units(sizes, theta)
        return units(sizes, reference).expand_as(theta).clone()

    def outcome(self, problem: Problem, scale: Tensor, step: int, tasks: str) -> Outcome:
        """Return the outcome of a problem with its gradient; `scale` has the units of its terms."""
        if self.settings.estimator == "gradient":
            return self.engine.run(problem)
        draw = generator(self._seed, tasks, "perturbations", step, device=self._device)
        settings = self.settings
        spread = settings.spread or settings.meta_lr
        # In each step, log τ moves farther than u by the factor tau_lr / meta_lr.
        farther = settings.tau_lr / settings.meta_lr
        strategy = EvolutionStrategy(settings.pairs, spread, spread * farther)
        return strategy.run(self.engine, problem, scale, draw)
