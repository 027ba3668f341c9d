"""The gradient to θ by an evolution strategy, for systems whose loss has none.

θ is perturbed in scaled units u, in antithetic pairs, on the same tasks with the same random
numbers (Salimans et al. 2017, Evolution strategies as a scalable alternative to reinforcement
learning):

    ĝ = 1/n Σ_i ε_i (L(u + σ ε_i) − L(u − σ ε_i)) / 2σ,    ε_i ~ N(0, 1).

Its mean is the gradient of the loss smoothed with width σ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metaplast.engines import Engine, Outcome, Problem
from metaplast.systems.state import State
from metaplast.tasks.batch import EpisodeBatch


@dataclass(frozen=True)
class EvolutionStrategy:
    """Estimates the gradient to θ from losses alone.

    Attributes:
        pairs: n, antithetic pairs of perturbations.
        spread: σ, in units of u.
    """

    pairs: int
    spread: float

    def run(
        self, engine: Engine, problem: Problem, scale: Tensor, generator: torch.Generator
    ) -> Outcome:
        """Return the outcome at θ, with the estimate as the gradient of each episode.

        A pair in which an episode diverges is left out of that episode's mean; the gradient is NaN
        if none is left.

        Args:
            engine: unrolls without gradient.
            problem: the episodes at θ.
            scale: units of θ, shaped like it.
            generator: of the perturbations.
        """
        shape = (self.pairs, *problem.theta.shape)
        draws = torch.randn(
            shape, generator=generator, dtype=scale.dtype, device=generator.device
        ).to(scale)
        steps = self.spread * draws * scale
        thetas = [problem.theta.detach() + step for step in (*steps, *-steps)]
        losses, outcome = _losses(engine, problem, thetas)
        up, down = losses[: self.pairs], losses[self.pairs :]
        slope = (up - down) / (2 * self.spread)
        used = torch.isfinite(slope)
        slope = torch.where(used, slope, 0.0)
        # [pair, episode] and [pair, *θ]: the mean over pairs, in units of u.
        total = torch.tensordot(slope, draws, dims=([0], [0]))
        counts = used.sum(0).to(total).view(-1, *[1] * scale.dim())
        return replace(outcome, theta_gradient=total / counts / scale)


def _losses(engine: Engine, problem: Problem, thetas: list[Tensor]) -> tuple[Tensor, Outcome]:
    """Return the loss at each of some θ, [θ, episode], and the outcome at the problem's own."""
    if not engine.takes_each:
        losses = [
            engine.run(replace(problem, theta=theta), gradient=False).loss for theta in thetas
        ]
        # The problem itself comes last: an engine may remember its last outcome.
        return torch.stack(losses), engine.run(problem, gradient=False)
    every = [*thetas, problem.theta]
    size = problem.episodes.episodes
    each = torch.cat([replace(problem, theta=theta).episode_theta for theta in every])
    whole = Problem(
        problem.learner,
        each,
        State.cat([problem.state] * len(every)),
        EpisodeBatch.cat([problem.episodes] * len(every)),
    )
    outcome = engine.run(whole, gradient=False)
    last = slice(size * len(thetas), None)
    own = Outcome(outcome.loss[last], outcome.score[last], None, outcome.final.select(last))
    return outcome.loss[: last.start].view(len(thetas), size), own
