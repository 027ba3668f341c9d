"""A reward and an eligibility: coefficients meta-learned from rewards alone, tested on new bandits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from metaplast.base.bands import Numbers
from metaplast.base.seeds import generator
from metaplast.engines import get_engine
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.settings import OuterSettings
from metaplast.reproduce.direct import TwoSizes, no_data
from metaplast.reproduce.experiment import Experiment, Setting, plain
from metaplast.reproduce.panels import Panel, figure_of
from metaplast.reproduce.table import AT, Row, Table
from metaplast.reproduce.verdict import Claim
from metaplast.systems.choice import DEVIATION, Choice
from metaplast.systems.learner import Learner
from metaplast.tasks.library import open_source
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.algebra import eligible, outer, pre, reward, trace
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.term import Term

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OURS = "ours, in no paper"
_BASELINE_TAU = 20
_FULL: Mapping[str, Any] = MappingProxyType({
    "updates": 40, "tasks": 8, "pairs": 8, "rate": 0.02, "spread": 0.02, "train_steps": 500,
    "test_steps": 1000, "networks": 20, "every": 50,
})  # fmt: skip
_QUICK: Mapping[str, Any] = MappingProxyType({
    "updates": 2, "tasks": 2, "pairs": 2, "train_steps": 10, "test_steps": 20, "networks": 2,
    "every": 5,
})  # fmt: skip


@dataclass(frozen=True, eq=False)
class RewardVariant(TwoSizes):
    """A rule of two terms, meta-learned once, and tested on new bandits for each seed.

    Both terms collect deviations in an eligibility; one multiplies it by the reward, the other by
    the running mean of the reward. An evolution strategy learns both coefficients.

    Attributes:
        name: the name of the variant.
        delay: steps from an action to its reward.
        tau: time constant of the eligibility; 1 for none.
        full: the settings.
        quick: the settings that differ in the quick version.
    """

    name: str
    delay: int
    tau: float
    full: Mapping[str, Any] = field(default_factory=lambda: _FULL)
    quick: Mapping[str, Any] = field(default_factory=lambda: _QUICK)

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        return plain(self.chosen(setting)) | {"delay": self.delay, "tau": self.tau}

    def data(self, setting: Setting) -> Mapping[str, Callable[[], object]]:
        """Return no data to open, because the bandits are random."""
        return no_data()

    @property
    def learner(self) -> Learner:
        """The choice between two arms, with both terms."""
        kept = eligible(outer(DEVIATION, pre.activity), self.tau)
        terms = (
            Term("rewarded", reward * kept, _OURS, initial=0.01),
            Term("baseline", trace(reward, _BASELINE_TAU) * kept, _OURS),
        )
        return Learner(Choice((1, 2), self.delay), terms)

    def prepare(self, setting: Setting, folder: Path) -> dict[str, Any]:
        """Meta-learn the coefficients, on bandits that are not in the test."""
        chosen, learner = self.chosen(setting), self.learner
        settings = OuterSettings(
            episodes=chosen["updates"] * chosen["tasks"], meta_batch=chosen["tasks"],
            meta_lr=chosen["rate"], estimator="es", pairs=chosen["pairs"],
            spread=chosen["spread"], clip=0.0, scaling="none", backtrack=False,
        )  # fmt: skip
        loop = OuterLoop(
            "search", learner, _bandits(chosen["train_steps"]).train, get_engine("batched"),
            settings, Coefficients.initial(learner.terms, torch.float32),
        )  # fmt: skip
        loop.run()
        names = (term.name for term in learner.terms)
        return {"theta": dict(zip(names, loop.fitted.tensor.tolist(), strict=True))}

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return the probability of the better arm during learning, a mean over networks."""
        chosen, learner = self.chosen(setting), self.learner
        count, every = chosen["networks"], chosen["every"]
        draws = generator(seed, "three-factor", self.delay)
        batch = _bandits(chosen["test_steps"]).test.sample(count, draws)
        state = learner.draw(count, draws)
        best = batch.query_y[:, 0].argmax(-1)
        found_theta: Mapping[str, float] = prepared["theta"]
        values = [found_theta[term.name] for term in learner.terms]
        theta = torch.tensor(values, dtype=torch.float32, device="cpu")
        each = theta.expand(count, 1, -1)
        rows: list[Row] = []
        found = []
        with torch.no_grad():
            for t in range(batch.steps):
                state = learner.step(state, each, batch.example(t))
                p = torch.softmax(state.matrices["W"][..., 0], -1)
                found.append(float(p.gather(1, best[:, None]).mean()))
                if (t + 1) % every == 0:
                    rows.append({AT: float(t + 1), "better": sum(found[-every:]) / every})
        coefficients = {f"theta_{name}": value for name, value in found_theta.items()}
        return [*rows[:-1], {**rows[-1], **coefficients}]


def _bandits(steps: int) -> EpisodeSplit:
    return open_source("bandit", EpisodeRequest(shots=steps, queries=1))


_LABELS = {
    "no_delay": "no delay",
    "delay_3_eligible": "3 steps, τ = 4",
    "delay_3": "3 steps, no eligibility",
    "delay_10_eligible": "10 steps, τ = 11",
    "delay_10": "10 steps, no eligibility",
}


def _better(variant: str) -> Callable[[Table], Numbers]:
    """Return the measure of the better arm's probability in the last fifth, %."""
    return lambda table: 100 * table.series(variant, "better").last(0.2)


def _lead(variant: str, other: str) -> Callable[[Table], Numbers]:
    return lambda table: _better(variant)(table) - _better(other)(table)


def _baseline(variant: str) -> Callable[[Table], Numbers]:
    """Return the measure of −θ of the mean reward over θ of the reward."""

    def measure(table: Table) -> Numbers:
        baseline, rewarded = (
            table.series(variant, f"theta_{name}").last() for name in ("baseline", "rewarded")
        )
        return np.asarray(-baseline / rewarded)

    return measure


def _draw(table: Table) -> Mapping[str, Figure]:
    lines = {label: table.series(name, "better").curve(100.0) for name, label in _LABELS.items()}
    return {"": figure_of([Panel("probability of the better arm, %", "steps", lines, (0, 100))])}


three_factor = Experiment(
    name="three-factor",
    title="Rewards, now and later, with coefficients that are learned from rewards alone",
    source=_OURS,
    text="Two arms bring a reward with probability 0.7 and 0.3. Two softmax neurons choose in every step; each choice is rewarded at once, or 3 or 10 steps later, when others have been made. The rule has two terms: the reward, and its running mean (τ = 20), each times an eligibility of what was explored, (chosen − p) xᵀ. "
    "Their coefficients are learned once by an evolution strategy (`--estimator es`), which uses only the expected reward of the final choice; it starts from 0.01 for the reward and 0 for the mean. No error reaches any synapse. All rules are tested on new bandits, with 20 networks for each seed, which learn for twice as many steps as in meta-learning. Without an eligibility (τ = 1) only the present choice can be rewarded. The ranges of all claims are ours.",
    variants=(
        RewardVariant("no_delay", 0, 1),
        RewardVariant("delay_3_eligible", 3, 4),
        RewardVariant("delay_3", 3, 1),
        RewardVariant("delay_10_eligible", 10, 11),
        RewardVariant("delay_10", 10, 1),
    ),
    claims=(
        Claim("without delay the better arm is found: its probability in the last 200 steps", _OURS, _better("no_delay"), 95, unit="%"),
        Claim("with a delay of 3 steps it is found with an eligibility of τ = 4", _OURS, _better("delay_3_eligible"), 80, unit="%"),
        Claim("with a delay of 3 steps and no eligibility the choice stays near chance", _OURS, _better("delay_3"), 40, 60, unit="%"),
        Claim("with a delay of 10 steps it is found with an eligibility of τ = 11", _OURS, _better("delay_10_eligible"), 70, unit="%"),
        Claim("with a delay of 10 steps and no eligibility the choice stays near chance", _OURS, _better("delay_10"), 40, 60, unit="%"),
        Claim("with a delay of 3 steps the eligibility wins", _OURS, _lead("delay_3_eligible", "delay_3"), 0, unit="points"),
        Claim("with a delay of 10 steps the eligibility wins", _OURS, _lead("delay_10_eligible", "delay_10"), 0, unit="points"),
        Claim("a baseline is learned (delay 3, one fit for all seeds): −θ of the mean reward over θ of the reward", _OURS, _baseline("delay_3_eligible"), 0.5, 1.5),
    ),
    draw=_draw,
)  # fmt: skip
