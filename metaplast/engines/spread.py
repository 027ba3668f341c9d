"""An engine that sends its episodes to workers, for example those of a Ray cluster."""

from __future__ import annotations

import torch

from metaplast.base.workers import Workers
from metaplast.engines.choose import get_engine
from metaplast.engines.contract import Engine, Outcome, Problem
from metaplast.systems.learner import Learner


class SpreadEngine(Engine):
    """Sends episodes one by one to workers, where an engine unrolls each by itself.

    So the results do not depend on the number of workers. With the fused engine, they equal those
    of a run without workers bit for bit. The other engines may round differently if they compute
    several episodes together.

    Args:
        engine: the engine that unrolls; workers look it up by its name.
        workers: the workers that unroll the episodes.
    """

    summary = "another engine, spread over workers"

    def __init__(self, engine: Engine, workers: Workers) -> None:
        self._engine, self._workers = engine, workers
        # As for the inner engine.
        self.name = engine.name  # type: ignore[misc]
        self.takes_each = engine.takes_each  # type: ignore[misc]

    def refusal(self, learner: Learner, device: torch.device) -> str | None:
        """Return why the engine or its workers cannot run `learner`; None if they can."""
        if device.type != "cpu":
            return f"workers compute on their CPUs, not on {device}; leave --ray or --device out."
        return self._engine.refusal(learner, device)

    def run(self, problem: Problem, *, gradient: bool = True) -> Outcome:
        """Unroll all episodes; see `Engine.run`."""
        calls = [
            (self.name, problem.select(slice(k, k + 1)), gradient)
            for k in range(problem.episodes.episodes)
        ]
        return Outcome.joined(self._workers.map(solve, calls))


def solve(name: str, problem: Problem, gradient: bool) -> Outcome:
    """Return the outcome of a problem; runs on a worker."""
    return get_engine(name).run(problem, gradient=gradient)
