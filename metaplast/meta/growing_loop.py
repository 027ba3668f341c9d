"""The outer loop of a rule that grows: train, look, and admit candidates."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from metaplast.engines import Outcome, Problem
from metaplast.meta.backtracking import COLD, Backtracking
from metaplast.meta.evaluation import counted
from metaplast.meta.gradient import scaled_gradients
from metaplast.meta.growth import Growth, bounded, used
from metaplast.meta.growth_settings import GrowthSettings
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.probe import MOST, Measure, probe
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.tasks.batch import EpisodeBatch


class GrowingLoop(OuterLoop):
    """Learns a rule that begins with the terms that do not start at zero; others enter later.

    `Growth` decides which terms enter. All layers of a per-layer θ should move together (`tied`).

    Args:
        options: as for `OuterLoop`.
        growth: when a candidate enters.
        probed: called with the number of tasks on which a value was measured; None for no calls.
    """

    growth: Growth

    def __init__(
        self,
        *options: Any,
        growth: GrowthSettings,
        probed: Callable[[int], None] | None = None,
        **named: Any,
    ) -> None:
        super().__init__(*options, **named)
        self._probed = probed
        names = [term.name for term in self.learner.terms]
        self.growth = Growth(growth, names, used(self.theta), self.signs)

    @property
    def is_done(self) -> bool:
        """True after the last candidate."""
        return self.growth.done or super().is_done

    @property
    def steps(self) -> int:
        """The largest possible number of outer steps."""
        return self.growth.settings.steps

    @property
    def round(self) -> int:
        """A rule that grows has one round: other settings decide how long it is trained."""
        return 0

    @property
    def _most_steps(self) -> int:
        return self.steps

    @property
    def _window(self) -> int:
        return 0  # After a look, θ has settled.

    @property
    def _fraction(self) -> float:
        """What fraction of the training since the last entry has passed, 0 … 1."""
        return self.growth.fraction(self.progress.step)

    def _next_problem(self, theta: Tensor) -> Problem:
        """Return the problem of the next step; in training, it has only the active terms."""
        step, size = self.progress.step, self.settings.meta_batch
        place = self.growth.place(step)
        if place is not None:
            return self._look_problem(place, theta)
        active = self.growth.positions
        return self.problem(step, size, theta[..., active], learner=self._with(active))

    def _tasks_of(self, step: int) -> tuple[int, str]:
        """Return the number and the name of the tasks of a step."""
        place = self.growth.place(step)
        return (step, self._tasks) if place is None else (place, self._look_tasks)

    @property
    def _look_tasks(self) -> str:
        return f"{self._tasks} look"

    def _look_problem(self, place: int, theta: Tensor) -> Problem:
        """Return the problem of a step of a look; all looks share their tasks, for paired tests."""
        size, measured = self.settings.meta_batch, self.growth.measured
        learner = self._with(measured)
        theta = theta if learner is self.learner else theta[..., measured]
        return self.problem(place, size, theta, tasks=self._look_tasks, learner=learner)

    def _with(self, positions: list[int]) -> Learner:
        """Return the learner with only the terms at some positions."""
        if len(positions) == len(self.learner.terms):
            return self.learner
        return Learner(self.learner.system, tuple(self.learner.terms[k] for k in positions))

    def _run(self, problem: Problem, step: int, tasks: str) -> Outcome:
        """Return the outcome; its gradient is zero for terms that are not in the problem."""
        if problem.learner is self.learner:
            return super()._run(problem, step, tasks)
        growth = self.growth
        positions = growth.positions if growth.place(step) is None else growth.measured
        outcome = self._drawn.outcome(problem, self._theta.scale[..., positions], step, tasks)
        assert outcome.theta_gradient is not None
        gradient = problem.theta.new_zeros(len(outcome.loss), *self.theta.shape)
        gradient[..., positions] = outcome.theta_gradient
        return replace(outcome, theta_gradient=gradient)

    def _learn(self, problem: Problem, outcome: Outcome, gradient: Tensor) -> None:
        """Take a training step, or collect a look's evidence; at its end, admit candidates."""
        growth, progress = self.growth, self.progress
        if growth.place(progress.step) is None:
            super()._learn(problem, outcome, gradient)
            return
        scores = counted(self.learner, outcome.loss, outcome.score, problem.episodes.query)
        each = scaled_gradients(outcome, outcome.finite, self._theta.scale, tied=True)
        growth.see(scores, outcome.loss, each.reshape(len(each), -1))
        if growth.place(progress.step + 1) is not None:
            return
        u = self._theta.u.detach()
        stays = growth.conclude(progress.step, u)
        if self.taus is not None:
            self.taus.end_trial(entered=stays)
        if growth.wants_values:
            growth.offer(self._values_that_help())
        u.copy_(growth.advance())
        # The state of the optimizer and of the trust region belongs to the previous rule.
        self._optimizer.state.clear()
        radius = COLD if self.settings.backtrack else 1.0
        progress.trust = Backtracking(radius, home=u.clone(), safe=u.clone())

    def _is_chaotic(self, gradients: Tensor, finite: Tensor) -> bool:
        """Return whether the coefficients shrink in this step; in a look, θ is held fixed."""
        looks = self.growth.place(self.progress.step) is not None
        return not looks and super()._is_chaotic(gradients, finite)

    def _values_that_help(self) -> list[tuple[int, float]]:
        """Return the candidates that help the fitted rule at some value; see `probe`."""
        growth, engine, scale = self.growth, self._drawn.engine, self._theta.scale
        fitted, before = growth.fitted, growth.before
        assert fitted is not None
        assert before is not None

        def on(places: range) -> Measure:
            drawn = [self._look_problem(place, self.theta) for place in places]
            return partial(measure, [*_joined(drawn)])

        def measure(drawn: Sequence[Problem], position: int, value: float) -> Tensor:
            u = fitted.clone()
            u[..., position] = value
            kept = sorted([*growth.positions, position])
            theta, learner = (scale * u)[..., kept], self._with(kept)
            rows = []
            for tasks in drawn:
                outcome = engine.run(replace(tasks, theta=theta, learner=learner), gradient=False)
                query = tasks.episodes.query
                scores = counted(self.learner, outcome.loss, outcome.score, query)
                rows.append(torch.stack([scores, -bounded(outcome.loss)], dim=1))
                if self._probed is not None:
                    self._probed(len(scores))
            return torch.cat(rows)

        return probe(growth.settings, fitted, before, growth.likeliest(MOST), self.signs, on)

    def _refuse_standstill(self) -> None:
        """Refuse a standstill of the first terms; a candidate that causes one later just fails."""
        if not self.growth.is_fitted:
            super()._refuse_standstill()

    def _step_state(self) -> dict[str, Any]:
        return super()._step_state() | {"growth": self.growth.state()}

    def _put(self, state: dict[str, Any]) -> None:
        super()._put(state)
        self.growth.restore(state["growth"])
        # In earlier versions, the coefficients of a growing rule did not shrink.
        self.shrinks = self.shrinks and state["growth"].get("joins") is not None


def _joined(problems: Iterable[Problem]) -> Iterator[Problem]:
    """Yield the same episodes in fewer problems: consecutive ones of equal length are joined."""
    for _, alike in groupby(problems, key=lambda problem: problem.episodes.steps):
        group = [*alike]
        state = State.cat([problem.state for problem in group])
        episodes = EpisodeBatch.cat([problem.episodes for problem in group])
        yield replace(group[0], state=state, episodes=episodes)
