"""Variants that multiply all learned coefficients of a rule by the best factor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metaplast.discovery.run import Discovery
from metaplast.engines import choose_engine
from metaplast.meta.evaluation import evaluate
from metaplast.reproduce.experiment import Setting
from metaplast.reproduce.heldout import RuleVariant
from metaplast.reproduce.meta import SEPARATE
from metaplast.rules.rule import Rule

# Factors are powers of √2. The search begins with those from 1/2 to 2. While the best factor lies at
# an end, the search continues there, but not beyond 2 to the power of ±10.
STEP, FIRST, MOST = 2**0.5, 2, 20


def best_factor(score: Callable[[float], float]) -> tuple[float, dict[float, float]]:
    """Return the factor with the highest score, and the scores of all factors that were tried."""
    tried = {k: score(STEP**k) for k in range(-FIRST, FIRST + 1)}
    while True:
        best = max(tried, key=lambda k: (tried[k], -abs(k)))
        beyond = [k for k in (best - 1, best + 1) if k not in tried and abs(k) <= MOST]
        if not beyond:
            break
        tried[beyond[0]] = score(STEP ** beyond[0])
    return STEP**best, {round(STEP**k, 4): tried[k] for k in sorted(tried)}


@dataclass(frozen=True, eq=False)
class TunedVariant(RuleVariant):
    """A rule found with seed 0, times the factor with the best accuracy on separate tasks.

    The outer loop moves a rate only a limited distance, so a rule whose best rate is far from the
    start would otherwise be tested with a worse rate. The tasks have the classes of the search, not
    of the test.

    Attributes:
        tasks, quick_tasks: number of tasks on which each factor is tried.
    """

    tasks: int = 100
    quick_tasks: int = 4

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        tuned = {"tasks": self._tasks(setting), "step": STEP, "seed": SEPARATE[0]}
        return super().settings(setting) | {"tuned": tuned}

    def prepare(self, setting: Setting, folder: Path) -> dict[str, Any]:
        """Find the rule, and scale it; an interrupted discovery continues."""
        rule = Rule.from_json(super().prepare(setting, folder)["rule"])
        found = Discovery(self.config(setting))
        learner = rule.learner(found.learner.system)
        theta = rule.tensor()
        engine = choose_engine("auto", learner, theta.device)

        def score(factor: float) -> float:
            band = evaluate(
                learner, factor * theta, found.split.train, engine, episodes=self._tasks(setting),
                seed=SEPARATE[0], purpose="reproduce factors",
            ).band  # fmt: skip
            return band.mean

        factor, tried = best_factor(score)
        rows = tuple(tuple(factor * value for value in row) for row in rule.theta)
        scaled = replace(rule, theta=rows)
        said: Mapping[str, Any] = {"factor": factor, "tried": {str(f): s for f, s in tried.items()}}
        return {"rule": scaled.to_json(), "theta": scaled.coefficients, **said}

    def _tasks(self, setting: Setting) -> int:
        return self.quick_tasks if setting.quick else self.tasks
