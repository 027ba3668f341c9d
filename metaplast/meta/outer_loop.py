"""The outer loop: sample episodes, unroll them, take a penalised step on θ, keep a record.

θ is learned in scaled units u, θ = scale ⊙ u, so that one step size and one penalty suit terms
whose updates differ in size by orders of magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from metaplast.base.background import meanwhile
from metaplast.base.errors import require
from metaplast.base.plain_data import check
from metaplast.base.torch_settings import own_settings
from metaplast.engines import Engine, Outcome, Problem
from metaplast.meta.adam import make_optimizer
from metaplast.meta.backtracking import COLD, Backtracking
from metaplast.meta.divergence import first_divergence
from metaplast.meta.gradient import mean_clipped, scaled_gradients
from metaplast.meta.learned_taus import LearnedTaus
from metaplast.meta.learned_theta import LearnedTheta
from metaplast.meta.learning_loop import LearningLoop
from metaplast.meta.loop_tasks import LoopTasks
from metaplast.meta.record import Record, record_of
from metaplast.meta.rounds import window
from metaplast.meta.saved_loop import Progress
from metaplast.meta.settings import OuterSettings
from metaplast.meta.signs import signs_of
from metaplast.meta.standstill import refuse_standstill
from metaplast.systems.learner import Learner
from metaplast.systems.timed import timed_in
from metaplast.tasks.source import EpisodeSampler
from metaplast.terms.clocks import Taus
from metaplast.terms.coefficients import Coefficients

# Explaining a divergence repeats the episode in torch; beyond this many, divergences are only
# counted.
EXPLAINED = 5


class OuterLoop(LearningLoop):
    """Learns the coefficients of a learner's terms on the episodes of a sampler.

    Args:
        stage: name of this part of the run.
        learner: network, feedback and terms.
        sampler: meta-training episodes.
        engine: computes the gradients.
        settings: how θ is learned.
        start: initial θ of the learner's terms.
        scale: units of θ, shaped like `start`; None to measure them.
        tasks: names the random numbers; loops with the same name see the same tasks.
        tied: whether all layers of a per-layer θ move together, like a shared θ.
        cold: whether the first steps are short, because θ is still a guess.
        shrinks: whether θ shrinks where learning is chaotic, see `metaplast.meta.chaos`.
        began: the loss that the search began with; NaN for this loop's loss at its first step.
        rounds: the largest number of rounds, see `metaplast.meta.rounds`; another one begins only
            with a cosine schedule, and if a coefficient fell short in the last one.
        seed: the seed of all random numbers.
        device: where tensors live.

    Attributes:
        given_up: whether `run` ended the loop before its last step.
    """

    @own_settings(grad=True)
    def __init__(
        self,
        stage: str,
        learner: Learner,
        sampler: EpisodeSampler,
        engine: Engine,
        settings: OuterSettings,
        start: Coefficients,
        *,
        scale: Tensor | None = None,
        tasks: str = "search",
        tied: bool = False,
        cold: bool = True,
        shrinks: bool = False,
        began: float = math.nan,
        rounds: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.stage = stage
        self.learner = learner
        self.settings = settings
        self._tasks = tasks
        self._tied = tied and start.is_per_layer
        self.cold, self.shrinks, self._began = cold, shrinks, began
        self._rounds = rounds if settings.schedule == "cosine" else 1
        self._drawn = LoopTasks(
            learner, sampler, engine, settings, name=tasks, seed=seed,
            dtype=start.tensor.dtype, device=device,
        )  # fmt: skip
        if scale is None:
            scale = self._drawn.measure_scale(start, tied=self._tied)
        check(scale.shape == start.tensor.shape, f"a scale for θ has shape {tuple(scale.shape)}")
        radius = COLD if cold and settings.backtrack else 1.0
        self.progress = Progress(trust=Backtracking(radius))
        self.given_up = False
        self._theta = LearnedTheta(start, scale, self._window)
        self._optimizer = make_optimizer(settings.optimizer, self._theta.u, settings.meta_lr)
        found = timed_in(learner.system)
        if found is not None:
            self.taus = LearnedTaus(found, settings, self._window, start.tensor)
        self.signs = signs_of(learner.terms, settings, start.tensor.device)

    @property
    def is_done(self) -> bool:
        """True after the last step, or once the loop has been given up."""
        return self.given_up or self.progress.step >= self.steps

    @property
    def _window(self) -> int:
        """How many of the latest θ are averaged."""
        return window(self.settings)

    def problem(
        self,
        step: int,
        size: int,
        theta: Tensor,
        *,
        learner: Learner | None = None,
        tasks: str | None = None,
        taus: Taus | None = None,
    ) -> Problem:
        """Return the episodes and fresh networks of an outer step, see `LoopTasks.problem`.

        Learned time constants have their current values, unless `taus` gives others.
        """
        logs = None if self.taus is None else self.taus.logs(taus or {})
        return self._drawn.problem(step, size, theta, learner=learner, tasks=tasks, log_taus=logs)

    @own_settings(grad=True)
    def evidence(
        self,
        theta: Tensor,
        steps: int,
        tasks: str,
        taus: Taus | None = None,
        observe: Callable[[int], None] = lambda _: None,
    ) -> Tensor:
        """Return the gradient of each finite task with respect to u at a given θ, [task, *θ.shape].

        Args:
            theta: coefficients of all terms, zero for those that the rule does not have.
            steps: for how many outer steps tasks are drawn.
            tasks: names their random numbers.
            taus: time constants that differ from the current ones.
            observe: called after each step with the number of its tasks.
        """
        found = []
        for step in range(steps):
            problem = self.problem(step, self.settings.meta_batch, theta, tasks=tasks, taus=taus)
            with self._drawn.drawing(step + 1 if step + 1 < steps else None, tasks):
                outcome = self._run(problem, step, tasks)
            found.append(scaled_gradients(outcome, outcome.finite, self._theta.scale, tied=False))
            observe(self.settings.meta_batch)
        return torch.cat(found)

    def run_step(self) -> Record:
        """Take one outer step and return its record.

        Raises:
            StandstillError: if every episode diverged for many consecutive steps.
        """
        self._step()
        self._finish()
        return self.progress.history[-1]

    @own_settings(grad=True)
    def _step(self, observe: Observe | None = None) -> None:
        """Take one outer step; meanwhile, complete the record of the previous one."""
        progress, theta = self.progress, self.theta
        problem = self._next_problem(theta)
        step = progress.step
        with self._drawn.drawing(*self._next_tasks), meanwhile(partial(self._finish, observe)):
            outcome = self._run(problem, step, self._tasks)
        require(
            progress.step == step,
            "an observer may not take steps of the loop that it observes, or restore it; raise an "
            "error to end `run`, and do it then.",
        )
        finite = outcome.finite
        found = [] if len(progress.divergences) >= EXPLAINED else first_divergence(problem, finite)
        each = scaled_gradients(outcome, finite, self._theta.scale, tied=self._tied)
        gradient = mean_clipped(each, self.settings.clip)
        taus = {} if self.taus is None else self.taus.named
        shrinks = self._is_chaotic(each, finite)
        record = record_of(
            self.stage, progress.step, problem, outcome, self._theta, gradient, taus, shrinks
        )
        with self._whole_or_not_at_all():
            if self.taus is not None:
                self.taus.passed()
            if shrinks:
                self._shrink()
            else:
                self._learn(problem, outcome, gradient)
            progress.step += 1
            self._theta.passed(theta)
            progress.history.append(record)
            where = f"{self.stage}, outer step {record.step}"
            progress.divergences.extend(f"{where}: {each}" for each in found)
            self._unfinished = problem, outcome
        self._refuse_standstill()

    def _finish(self, observe: Observe | None = None) -> None:
        """Complete the record of the last step, and show it to `observe`."""
        if self._unfinished is None:
            return
        self._complete()
        if observe is not None:
            observe(self, self.progress.history[-1])

    def _next_problem(self, theta: Tensor) -> Problem:
        """Return the problem of the next step."""
        return self.problem(self.progress.step, self.settings.meta_batch, theta)

    @property
    def _next_tasks(self) -> tuple[int | None, str]:
        """The number of the next step (None after the last one), and the name of its tasks."""
        step = self.progress.step + 1
        return self._tasks_of(step) if step < self.steps else (None, self._tasks)

    def _tasks_of(self, step: int) -> tuple[int, str]:
        """Return the number and the name of the tasks of a step."""
        return step, self._tasks

    def _run(self, problem: Problem, step: int, tasks: str) -> Outcome:
        """Return the outcome of a step's problem, with the gradient for all terms."""
        return self._drawn.outcome(problem, self._theta.scale, step, tasks)

    def _refuse_standstill(self) -> None:
        progress = self.progress
        refuse_standstill(progress.history, progress.divergences, self.settings.meta_batch)

    def run(
        self,
        observe: Observe | None = None,
        give_up: Callable[[OuterLoop], bool] | None = None,
        asked: int | None = None,
    ) -> None:
        """Take all remaining steps.

        Args:
            observe: called after each step, before the next step changes anything, though its
                computation may already have begun.
            give_up: called before each step; True ends the loop there.
            asked: the only step before which `give_up` is called; None for all.

        Raises:
            StandstillError: if every episode diverged for many consecutive steps, including those
                of an earlier part of the run.
            UserError: if `observe` took a step of this loop.
        """
        if self.progress.history:
            self._refuse_standstill()
        try:
            while not self.is_done:
                if give_up is not None and asked in (None, self.progress.step):
                    # `give_up` may need the angles of the last step, or what was observed.
                    self._finish(observe)
                    if give_up(self):
                        self.given_up = True
                        break
                self._step(observe)
        finally:
            self._drawn.forget()
            self._finish(observe)


# Receives a loop and the record of its last step.
Observe = Callable[[OuterLoop, Record], None]
