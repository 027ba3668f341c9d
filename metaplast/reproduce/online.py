"""Variants that train fresh networks online by a known rule with tuned coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from metaplast.base.seeds import generator
from metaplast.online.comparison import tune, widths_for_depth
from metaplast.online.entrants import known_entrant
from metaplast.online.probes import PROBES, Probe, Snapshot
from metaplast.online.train import OnlineSettings, spaced_records, train_online
from metaplast.reproduce.experiment import Setting, plain
from metaplast.reproduce.table import AT, DIVERGED, Row
from metaplast.rules.rule import Rule
from metaplast.systems.fully_connected import FullyConnected
from metaplast.tasks.library import open_stream
from metaplast.tasks.request import StreamRequest
from metaplast.tasks.stream import StreamSplit


@dataclass(frozen=True)
class TrainingSetup:
    """The task that networks learn online.

    Attributes:
        dataset: name of the source.
        samples: images learned, one by one.
        depth: number of weight matrices; the widths of `hidden` are stretched to this depth.
        hidden: widths of the hidden layers.
        init: how weights are drawn.
        queries: number of held-out images.
        records: number of times that everything is measured.
    """

    dataset: str
    samples: int = 5000
    depth: int = 5
    hidden: tuple[int, ...] = (170, 130, 100, 70)
    init: str = "xavier"
    queries: int = 1000
    records: int = 20

    def split(self, setting: Setting) -> StreamSplit:
        """Return the images for tuning coefficients, and those for training."""
        return open_stream(self.dataset, StreamRequest(data_root=setting.data_root))

    def network(self, split: StreamSplit) -> FullyConnected:
        """Return the network."""
        widths = (split.inputs, *widths_for_depth(self.hidden, self.depth), split.outputs)
        return FullyConnected(widths, init=self.init)

    def online(self, seed: int) -> OnlineSettings:
        """Return the settings of one network."""
        return OnlineSettings(spaced_records(self.samples, self.records), 1, self.queries, seed)


@dataclass(frozen=True, eq=False)
class OnlineVariant:
    """Fresh networks that learn by one rule.

    Attributes:
        name: the name of the variant.
        rule: a known rule, NAME or NAME:FEEDBACK.
        full: the task.
        quick: fields that differ in the quick version.
        final: measurements made only at the end, on all held-out images, [network, …].
        tables: like `final`, but in separate rows at 1, 2, …: [network, place, column].
        shown: like `tables`, but only for seed 0, for pictures.
    """

    name: str
    rule: str
    full: TrainingSetup
    quick: Mapping[str, Any] = field(default_factory=dict)
    final: Mapping[str, Probe] = field(default_factory=dict)
    tables: Mapping[str, Probe] = field(default_factory=dict)
    shown: Mapping[str, Probe] = field(default_factory=dict)

    def setup(self, setting: Setting) -> TrainingSetup:
        """Return the task."""
        return replace(self.full, **self.quick) if setting.quick else self.full

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        measured = sorted({*PROBES, *self.final, *self.tables, *self.shown})
        return {"rule": self.rule, **plain(asdict(self.setup(setting))), "measured": measured}

    def data(self, setting: Setting) -> dict[str, Callable[[], object]]:
        """Return a function that opens its data."""
        setup = self.setup(setting)
        return {f"stream {setup.dataset}": lambda: setup.split(setting)}

    def prepare(self, setting: Setting, folder: Path) -> dict[str, Any]:
        """Return the best coefficients, all nonzero, on images used for nothing else."""
        setup = self.setup(setting)
        split = setup.split(setting)
        settings = replace(setup.online(0), seeds=3)
        found, search = tune(
            known_entrant(self.rule), setup.network(split), split, settings,
            torch.zeros(0, dtype=torch.float32, device="cpu"),
            whole=True,
        )  # fmt: skip
        return {
            "theta": found.rule.coefficients,
            "tried": len(search.trials),
            "at_edge": list(search.at_edge),
            "found_on": split.description,
        }

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return a row for each record of one network."""
        setup = self.setup(setting)
        split = setup.split(setting)
        known = known_entrant(self.rule).rule
        coefficients = [prepared["theta"][term.name] for term in known.terms]
        theta = torch.tensor(coefficients, dtype=torch.float32, device="cpu")
        learner = Rule.of(known.terms, theta, known.feedback).learner(setup.network(split))
        online = setup.online(seed)
        run = train_online(learner, theta, split.final, online)
        rows = [
            _row(samples, float(run.score[0, i]), float(run.loss[0, i]))
            | _numbered({name: values[0, i] for name, values in run.measures.items()})
            for i, samples in enumerate(run.samples)
        ]
        # The same images that `train_online` drew: they depend only on the seed.
        draw = generator(seed, online.purpose, "images", 0)
        batch = split.final.sample(setup.samples, setup.queries, draw)
        snapshot = Snapshot(learner, theta, run.final, batch.query_x, batch.query_y)
        if run.diverged.any():
            return list(rows)
        rows[-1] |= _numbered({name: probe(snapshot)[0] for name, probe in self.final.items()})
        for name, probe in {**self.tables, **({} if seed else self.shown)}.items():
            for place, values in enumerate(probe(snapshot)[0], start=1):
                rows.append({AT: float(place), **_numbered({name: values})})
        return list(rows)


def _row(samples: int, accuracy: float, loss: float) -> dict[str, float]:
    return {
        AT: float(samples),
        "accuracy": accuracy,
        "loss": loss,
        DIVERGED: float(not math.isfinite(loss)),
    }


def _numbered(measures: Mapping[str, Tensor]) -> dict[str, float]:
    return {
        f"{name}_{index}": value
        for name, values in measures.items()
        for index, value in enumerate(values.flatten().tolist(), start=1)
        if math.isfinite(value)
    }
