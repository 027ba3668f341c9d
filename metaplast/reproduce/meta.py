"""Variants that meta-learn θ and record every meta-episode."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from metaplast.discovery.config import PRESETS, DiscoveryConfig
from metaplast.discovery.result import SEARCH
from metaplast.discovery.run import Discovery
from metaplast.discovery.settings import SelectionSettings
from metaplast.engines import Engine, Outcome, Problem
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.record import Record
from metaplast.meta.standstill import StandstillError
from metaplast.online.probes import Probe, Snapshot
from metaplast.reproduce.experiment import Setting, decisive, plain
from metaplast.reproduce.table import AT, DIVERGED, Row
from metaplast.terms.coefficients import Coefficients

PUBLISHED = PRESETS["paper"]
# Fields of `DiscoveryConfig` that are set elsewhere or belong to later stages: only the search runs
# here.
_WITHOUT_EFFECT = ("seed", *(setting.name for setting in fields(SelectionSettings)))
# Seeds for choosing among outer loops; they are used for nothing else.
SEPARATE = (1000, 1001, 1002)


class RecordingEngine(Engine):
    """An engine that remembers its last problem and outcome.

    Args:
        engine: the engine that computes.
    """

    name: ClassVar[str] = "recording"
    summary: ClassVar[str] = "another engine, with a record of its last outcome"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.last: tuple[Problem, Outcome] | None = None

    def run(self, problem: Problem, *, gradient: bool = True) -> Outcome:
        """Return the engine's outcome."""
        outcome = self._engine.run(problem, gradient=gradient)
        self.last = problem, outcome
        return outcome

    @torch.no_grad()
    def measure(self, probe: Probe) -> list[float]:
        """Return a probe's numbers in the learned networks, averaged over the finite episodes."""
        if self.last is None:
            return []
        problem, outcome = self.last
        if not outcome.finite.any():
            return []
        snapshot = Snapshot(
            problem.learner,
            problem.theta,
            outcome.final,
            problem.episodes.query_x,
            problem.episodes.query_y,
        )
        values: Tensor = probe(snapshot)[outcome.finite].mean(0)
        return values.tolist()


@dataclass(frozen=True, eq=False)
class MetaVariant:
    """θ meta-learned by the published outer loop, or by the best of several on separate seeds.

    Attributes:
        name: the name of the variant.
        full: fields of `DiscoveryConfig` that differ from the published outer loop.
        quick: fields that differ from `full` in the quick version.
        probes: further measurements in the networks at the end of each episode.
        loops: outer loops to choose from: for each name, the fields that differ from `full`. If
            empty, there is one outer loop, that of `full`.
    """

    name: str
    full: Mapping[str, Any]
    quick: Mapping[str, Any] = field(default_factory=dict)
    probes: Mapping[str, Probe] = field(default_factory=dict)
    loops: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def config(self, setting: Setting, seed: int, loop: str = "") -> DiscoveryConfig:
        """Return the configuration for a seed, with one of the outer loops to choose from."""
        changes = {**PUBLISHED, **self.full, **(self.quick if setting.quick else {})}
        changes |= self.loops.get(loop, {})
        return DiscoveryConfig(**changes, data_root=setting.data_root, seed=seed)

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        config = decisive(self.config(setting, 0), _WITHOUT_EFFECT)
        loops = {name: plain(changes) for name, changes in self.loops.items()}
        return config | {"measured": sorted(self.probes)} | ({"loops": loops} if loops else {})

    def data(self, setting: Setting) -> dict[str, Callable[[], object]]:
        """Return a function that opens its data."""
        config = self.config(setting, 0)
        return {config.dataset_name: lambda: Discovery(config).split}

    def prepare(self, setting: Setting, folder: Path) -> dict[str, Any]:
        """Choose the outer loop if there are several; each seed then learns θ from the start."""
        if not self.loops:
            return {}
        tried = {loop: self._score(setting, loop) for loop in self.loops}
        return {"loop": max(tried, key=lambda loop: tried[loop]), "tried": tried}

    def _score(self, setting: Setting, loop: str) -> float:
        """Return a loop's mean accuracy on separate seeds, over the last sixth of episodes."""
        seeds = SEPARATE[:1] if setting.quick else SEPARATE
        runs = [self._run(seed, setting, loop) for seed in seeds]
        last = [row["accuracy"] for rows in runs for row in rows[-max(1, len(rows) // 6) :]]
        return sum(last) / len(last)

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return a row for each meta-episode, measured before θ changes."""
        return self._run(seed, setting, prepared.get("loop", ""))

    def _run(self, seed: int, setting: Setting, loop: str) -> list[Row]:
        config = self.config(setting, seed, loop)
        discovery = Discovery(config)
        recorder = RecordingEngine(discovery.engine)
        start = Coefficients.initial(discovery.learner.terms, config.torch_dtype)
        outer = OuterLoop(
            SEARCH, discovery.learner, discovery.split.train, recorder, config.outer, start,
            seed=seed,
        )  # fmt: skip
        rows: list[Row] = []
        try:
            # Not `outer.run`: when it reports a step, the recorder may hold the next one already.
            while not outer.is_done:
                record = outer.run_step()
                measured = {name: recorder.measure(probe) for name, probe in self.probes.items()}
                rows.append(_row(record, measured))
        except StandstillError:
            # Every episode diverges, so θ no longer changes: the remaining steps would do the same.
            last = outer.progress.history[-1]
            lost = {f"theta_{name}": values[0] for name, values in last.theta.items()}
            # The step that raised has no row yet.
            first, size = len(rows), config.outer.meta_batch
            for step in range(first, config.outer.steps):
                at = {AT: float((step + 1) * size), "accuracy": 0.0, DIVERGED: float(size)}
                rows.append(at | lost)
        return rows


def _row(record: Record, measured: Mapping[str, list[float]]) -> Row:
    """Return the record of one outer step; a diverged episode counts as accuracy 0."""
    row = {
        AT: float(record.episodes),
        "accuracy": 0.0 if math.isnan(record.score) else record.score,
        "loss": record.loss,
        DIVERGED: float(record.non_finite),
    }
    row |= {f"theta_{name}": values[0] for name, values in record.theta.items()}
    for name, values in {"angle": record.angles, **measured}.items():
        row |= {f"{name}_{index}": value for index, value in enumerate(values, start=1)}
    return row
