"""The outer loop: sample episodes, unroll them, take a penalised step on θ, keep a record.

θ is learned in scaled units u, θ = scale ⊙ u, so that one step size and one penalty suit terms
whose updates differ in size by orders of magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metaplast.base.errors import UserError
from metaplast.base.seeds import generator
from metaplast.base.tensors import copied
from metaplast.base.torch_settings import own_settings
from metaplast.engines import Engine, Outcome, Problem
from metaplast.meta.adam import make_optimizer
from metaplast.meta.backtracking import COLD, Backtracking
from metaplast.meta.divergence import diagnose
from metaplast.meta.evolution import EvolutionStrategy
from metaplast.meta.gradient import scaled_gradients, task_gradient
from metaplast.meta.growth import Growth
from metaplast.meta.learned_theta import LearnedTheta
from metaplast.meta.loop_state import require_state
from metaplast.meta.record import Record, record_of
from metaplast.meta.scale import term_sizes, units
from metaplast.meta.settings import OuterSettings
from metaplast.meta.signs import sign_of
from metaplast.systems.learner import Learner
from metaplast.tasks.checks import require_batch
from metaplast.tasks.input_range import check_episodes
from metaplast.tasks.source import EpisodeSampler
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.formula_data import check

# Explaining a divergence repeats the episode in torch; beyond this many they are only counted.
EXPLAINED = 5
# The step number of the tasks on which terms are measured first; no real step has it.
CALIBRATION = 2**31 - 1


@dataclass
class Progress:
    """The progress of an outer loop: what a checkpoint needs besides θ and the optimizer."""

    step: int = 0
    history: list[Record] = field(default_factory=list)
    divergences: list[str] = field(default_factory=list)
    trust: Backtracking = field(default_factory=Backtracking)


class StandstillError(UserError):
    """Every episode of many outer steps diverged, so the search makes no progress."""


class OuterLoop:
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
        seed: of all random numbers.
        device: where tensors live.

    Attributes:
        growth: the candidates of a rule that grows, see `GrowingLoop`; None for other loops.
        signs: of each coefficient: 1 if it may not be negative, −1 if it may not be positive, else
            0, [term].
    """

    growth: Growth | None = None

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
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        self.stage = stage
        self.learner = learner
        self.settings = settings
        self._sampler = sampler
        self._tasks = tasks
        self._tied = tied and start.is_per_layer
        self._engine = engine
        self._seed = seed
        self._device = device
        if scale is None:
            scale = self.measure_scale(start)
        check(scale.shape == start.tensor.shape, f"a scale for θ has shape {tuple(scale.shape)}")
        trust = Backtracking(COLD if cold and settings.backtrack else 1.0)
        self.progress = Progress(trust=trust)
        self._theta = LearnedTheta(start, scale, self._window)
        self._optimizer = make_optimizer(settings.optimizer, self._theta.u, settings.meta_lr)
        self.signs = torch.tensor(
            [sign_of(term, settings) for term in learner.terms],
            dtype=torch.int64,
            device=start.tensor.device,
        )

    @property
    def theta(self) -> Tensor:
        """The coefficients now, [term] or [layer, term]."""
        return self._theta.tensor

    @property
    def scale(self) -> Coefficients:
        """The units of θ."""
        return self._theta.named(self._theta.scale)

    @property
    def fitted(self) -> Coefficients:
        """The final coefficients of the loop.

        With a cosine schedule θ settles, so these are the last ones. With a constant step size θ
        keeps jittering, so these are the mean over the last fifth of the steps (Polyak averaging).
        """
        return self._theta.fitted

    @property
    def is_done(self) -> bool:
        """True after the last step."""
        return self.progress.step >= self.steps

    @property
    def steps(self) -> int:
        """Number of outer steps."""
        return self.settings.steps

    @property
    def _window(self) -> int:
        """How many of the latest θ are averaged."""
        settings = self.settings
        return 0 if settings.schedule == "cosine" else max(1, settings.steps // 5)

    @property
    def _fraction(self) -> float:
        """How much of the training has passed, 0 … 1."""
        return self.progress.step / self.steps

    def problem(
        self,
        step: int,
        size: int,
        theta: Tensor,
        *,
        learner: Learner | None = None,
        tasks: str | None = None,
    ) -> Problem:
        """Return the episodes and fresh networks of an outer step.

        Args:
            step: its number.
            size: number of episodes.
            theta: coefficients of the learner's terms.
            learner: None for the loop's own.
            tasks: names the random numbers; None for the loop's own.
        """
        learner, tasks = learner or self.learner, tasks or self._tasks
        draw = generator(self._seed, tasks, "episodes", step, device=self._device)
        batch = require_batch(self._sampler.sample(size, draw), size, self._sampler).to(theta.dtype)
        check_episodes(self._sampler, batch)
        draw = generator(self._seed, tasks, "weights", step, device=self._device)
        return Problem(learner, theta, learner.begin(size, batch.initial, draw, theta.dtype), batch)

    def measure_scale(self, start: Coefficients) -> Tensor:
        """Return the units of θ, see `units`; 1 without scaling, or if all terms start at zero.

        The reference terms are the terms that do not start at zero.
        """
        starts = [term.initial != 0 for term in self.learner.terms]
        theta = start.tensor
        reference = torch.tensor(starts, dtype=torch.bool, device=theta.device)
        if self.settings.scaling == "none" or not reference.any():
            return torch.ones_like(theta)
        problem = self.problem(CALIBRATION, max(4, self.settings.meta_batch), theta)
        sizes = term_sizes(self.learner, theta, problem.state, problem.episodes)
        if self._tied or not start.is_per_layer:
            sizes = sizes.square().mean(0).sqrt()
        return units(sizes, reference).expand_as(theta).clone()

    @own_settings(grad=True)
    def evidence(self, theta: Tensor, steps: int, tasks: str) -> Tensor:
        """Return the gradient to u at a θ for the finite tasks of some steps, [task, *θ.shape].

        Args:
            theta: coefficients of all terms, zero for those that the rule does not have.
            steps: how many outer steps of tasks.
            tasks: names their random numbers.
        """
        found = []
        for step in range(steps):
            problem = self.problem(step, self.settings.meta_batch, theta, tasks=tasks)
            outcome = self._run(problem, step, tasks)
            found.append(scaled_gradients(outcome, outcome.finite, self._theta.scale, tied=False))
        return torch.cat(found)

    @own_settings(grad=True)
    def run_step(self) -> Record:
        """Take one outer step and return its record.

        Raises:
            StandstillError: if every episode diverged for many consecutive steps.
        """
        progress, theta = self.progress, self.theta
        problem = self._next_problem(theta)
        outcome = self._run(problem, progress.step, self._tasks)
        finite = outcome.finite
        explained = self._explain(problem, finite)
        gradient = task_gradient(
            outcome, finite, self._theta.scale, tied=self._tied, clip=self.settings.clip
        )
        record = record_of(self.stage, progress.step, problem, outcome, self._theta, gradient)
        with self._whole_or_not_at_all():
            self._learn(problem, outcome, gradient)
            progress.step += 1
            self._theta.passed(theta)
            progress.history.append(record)
            progress.divergences.extend(explained)
        self._refuse_standstill()
        return record

    def _next_problem(self, theta: Tensor) -> Problem:
        """Return the problem of the next step."""
        return self.problem(self.progress.step, self.settings.meta_batch, theta)

    def _run(self, problem: Problem, step: int, tasks: str) -> Outcome:
        """Return the outcome of a step's problem, with the gradient to all terms."""
        return self._estimate(problem, self._theta.scale, step, tasks)

    def _estimate(self, problem: Problem, scale: Tensor, step: int, tasks: str) -> Outcome:
        """Return the outcome of a problem, with the gradient to its terms; `scale` is theirs."""
        if self.settings.estimator == "gradient":
            return self._engine.run(problem)
        draw = generator(self._seed, tasks, "perturbations", step, device=self._device)
        settings = self.settings
        strategy = EvolutionStrategy(settings.pairs, settings.spread or settings.meta_lr)
        return strategy.run(self._engine, problem, scale, draw)

    def _learn(self, problem: Problem, outcome: Outcome, gradient: Tensor) -> None:
        """Change θ after a step."""
        finite = outcome.finite
        if not self._went_back(finite) and finite.any():
            self._update(gradient)

    @contextmanager
    def _whole_or_not_at_all(self) -> Iterator[None]:
        """Undo a step that is interrupted while it changes the state: a checkpoint may follow."""
        progress = self.progress
        before, latest = copied(self._moving()), self._theta.latest
        lengths = len(progress.history), len(progress.divergences)
        try:
            yield
        except BaseException:
            del progress.history[lengths[0] :], progress.divergences[lengths[1] :]
            self._theta.latest = latest
            self._put(before)
            raise

    def _explain(self, problem: Problem, finite: Tensor) -> list[str]:
        bad = (~finite).nonzero().flatten().tolist()
        if not bad or len(self.progress.divergences) >= EXPLAINED:
            return []
        first = problem.select(slice(bad[0], bad[0] + 1))
        return [f"{self.stage}, outer step {self.progress.step}: {diagnose(first)}"]

    def _refuse_standstill(self, limit: int = 50) -> None:
        last = self.progress.history[-limit:]
        if len(last) == limit and all(r.non_finite == self.settings.meta_batch for r in last):
            raise StandstillError(
                f"every episode of the last {limit} outer steps diverged "
                f"({self.progress.divergences[-1]}); lower --meta-lr or --shots, or leave that "
                f"term out."
            )

    def _went_back(self, finite: Tensor) -> bool:
        """Undo the last step if a task diverged after it; return whether it was undone."""
        trust, u = self.progress.trust, self._theta.u.detach()
        if not self.settings.backtrack:
            return False
        if finite.all():
            trust.passed(u)
            return False
        back = trust.failed(u)
        if back is None:
            return False
        u.copy_(back)
        # Reset the optimizer state; otherwise its momentum would repeat the step.
        self._optimizer.state.clear()
        return True

    def _update(self, gradient: Tensor) -> None:
        settings, u = self.settings, self._theta.u
        rate = settings.meta_lr * self.progress.trust.radius
        if settings.schedule == "cosine":
            rate *= 0.5 * (1 + math.cos(math.pi * self._fraction))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with torch.no_grad():
            u.grad = gradient.expand_as(u).clone()
            if settings.penalty == "subgradient":
                u.grad += settings.l1 * u.sign()
            self._optimizer.step()
            if settings.penalty == "proximal":
                u.copy_(torch.nn.functional.softshrink(u, rate * settings.l1))
            u.copy_(torch.where(self.signs * u < 0, 0.0, u))

    def state(self) -> dict[str, Any]:
        """Return everything a checkpoint needs: plain containers, numbers and tensors."""
        progress, latest = self.progress, self._theta.latest
        return {
            **self._moving(),
            "scale": self._theta.scale,
            "history": [vars(record) for record in progress.history],
            "divergences": progress.divergences,
        } | ({"latest": torch.stack(latest)} if latest else {})

    def _moving(self) -> dict[str, Any]:
        """Return what a step changes, except for the lists that it appends to."""
        progress = self.progress
        return {
            "u": self._theta.u.detach().clone(),
            "step": progress.step,
            "trust": progress.trust.state(),
            "optimizer": self._optimizer.state_dict(),
        }

    def _put(self, moving: dict[str, Any]) -> None:
        self.progress.step = moving["step"]
        self.progress.trust = Backtracking(**moving["trust"])
        with torch.no_grad():
            self._theta.u.copy_(moving["u"])
        self._optimizer.load_state_dict(moving["optimizer"])

    @own_settings(grad=True)
    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned and `loop_state.read_stages` accepted.

        Raises:
            DataError: if it does not fit this loop.
        """
        progress, settings, theta = self.progress, self.settings, self._theta
        require_state(
            state, theta.named(theta.u.detach()), self.steps, settings.meta_batch,
            theta.window, self._optimizer,
        )  # fmt: skip
        check(
            ("growth" in state) == (self.growth is not None),
            "the rule grows in only one of the two",
        )
        theta.scale = state["scale"]
        if "latest" in state:
            theta.latest = tuple(state["latest"])
        else:
            theta.recall([record["theta"] for record in state["history"]])
        progress.history = [Record(**record) for record in state["history"]]
        progress.divergences = list(state["divergences"])
        self._put(state)

    def run(self, observe: Callable[[OuterLoop, Record], None] | None = None) -> None:
        """Take all remaining steps; `observe` is called after each.

        Raises:
            StandstillError: if every episode diverged for many consecutive steps, including those
                of an earlier part of the run.
        """
        if self.progress.history:
            self._refuse_standstill()
        while not self.is_done:
            record = self.run_step()
            if observe is not None:
                observe(self, record)
