"""An evolution strategy: the gradient with respect to θ, for systems whose loss has no gradient.

θ is perturbed in scaled units u, in antithetic pairs, on the same tasks with the same random
numbers (Salimans et al. 2017, Evolution strategies as a scalable alternative to reinforcement
learning):

    ĝ = 1/n Σ_i ε_i (L(u + σ ε_i) − L(u − σ ε_i)) / 2σ,    ε_i ~ N(0, 1).

Its mean is the gradient of the loss smoothed with width σ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metaplast.engines import Engine, Outcome, Problem
from metaplast.systems.state import State
from metaplast.systems.timed import log_taus, with_log_taus
from metaplast.tasks.batch import EpisodeBatch


@dataclass(frozen=True)
class EvolutionStrategy:
    """Estimates the gradient with respect to θ from losses only.

    Attributes:
        pairs: n, antithetic pairs of perturbations.
        spread: σ, in units of u.
        tau_spread: σ of log τ, if time constants are learned; they are perturbed together with u.
    """

    pairs: int
    spread: float
    tau_spread: float = 0.0

    def run(
        self, engine: Engine, problem: Problem, scale: Tensor, generator: torch.Generator
    ) -> Outcome:
        """Return the outcome at θ, with the estimate as the gradient of each episode.

        A pair in which an episode diverges is left out of that episode's mean; if no pair is left,
        the gradient is NaN.

        Args:
            engine: unrolls without gradient.
            problem: the episodes at θ.
            scale: units of θ, shaped like it.
            generator: the generator of the perturbations.
        """
        draws = self._draws(problem.theta.shape, scale, generator)
        steps = self.spread * draws * scale
        clocks = problem.learner.clocks
        # Drawn last, so that θ gets the same perturbations with and without learned time constants.
        tau_draws = self._draws((len(clocks),), scale, generator) if clocks else None
        tau_steps = [None] * self.pairs if tau_draws is None else self.tau_spread * tau_draws
        moved = [
            _moved(problem, way * step, None if tau_step is None else way * tau_step)
            for way in (1, -1)
            for step, tau_step in zip(steps, tau_steps, strict=True)
        ]
        losses, outcome = _losses(engine, problem, moved)
        up, down = losses[: self.pairs], losses[self.pairs :]
        slope = (up - down) / (2 * self.spread)
        used = torch.isfinite(slope)
        slope = torch.where(used, slope, 0.0)
        counts = used.sum(0).to(slope)
        found = replace(outcome, theta_gradient=_mean(slope, draws, counts) / scale)
        if tau_draws is None:
            return found
        # In units of log τ.
        slope = slope * (self.spread / self.tau_spread)
        return replace(found, tau_gradient=_mean(slope, tau_draws, counts))

    def _draws(self, shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
        """Return standard normal numbers for each pair, [pair, *shape]."""
        return torch.randn(
            (self.pairs, *shape), generator=generator, dtype=like.dtype, device=generator.device
        ).to(like)


def _mean(slope: Tensor, draws: Tensor, counts: Tensor) -> Tensor:
    """Return the mean over pairs of ε slope for each episode, [episode, …]."""
    total = torch.tensordot(slope, draws, dims=([0], [0]))
    found: Tensor = total / counts.view(-1, *[1] * (draws.dim() - 1))
    return found


def _moved(problem: Problem, step: Tensor, tau_step: Tensor | None) -> Problem:
    """Return a problem at another θ and, if time constants are learned, with changed ones."""
    found = replace(problem, theta=problem.theta.detach() + step)
    if tau_step is None:
        return found
    clocks = problem.learner.clocks
    logs = torch.cat(log_taus(problem.state, clocks), 1) + tau_step
    return replace(found, state=with_log_taus(problem.state, clocks, logs.clamp_min(0)))


def _losses(engine: Engine, problem: Problem, moved: list[Problem]) -> tuple[Tensor, Outcome]:
    """Return the loss of perturbed problems, [problem, episode], and the problem's own outcome.

    Args:
        engine: unrolls without gradient.
        problem: the problem itself.
        moved: the same episodes with perturbed rules.
    """
    if not engine.takes_each:
        losses = [engine.run(each, gradient=False).loss for each in moved]
        # The problem itself comes last: an engine may remember its last outcome.
        return torch.stack(losses), engine.run(problem, gradient=False)
    every = [*moved, problem]
    size = problem.episodes.episodes
    whole = Problem(
        problem.learner,
        torch.cat([each.episode_theta for each in every]),
        State.cat([each.state for each in every]),
        EpisodeBatch.cat([problem.episodes] * len(every)),
    )
    outcome = engine.run(whole, gradient=False)
    last = slice(size * len(moved), None)
    own = Outcome(outcome.loss[last], outcome.score[last], None, outcome.final.select(last))
    return outcome.loss[: last.start].view(len(moved), size), own
