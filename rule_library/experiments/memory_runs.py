"""Variants of the experiments on short-term memory: coefficients by grid, many seeds at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metaplast.base.torch_settings import own_settings
from metaplast.reproduce.experiment import Setting, plain
from metaplast.reproduce.table import Row
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.state import State
from metaplast.systems.timing import Timing
from metaplast.tasks.library import open_stream
from metaplast.tasks.request import StreamRequest
from metaplast.tasks.stream import StreamSplit
from metaplast.terms.library import get_term
from rule_library.experiments.memory_lanes import Lanes, quality_row

# Coefficients to try for one term, in quarters of a decade.
Axis = tuple[int, ...]


@dataclass(frozen=True)
class MemorySetup:
    """The task: the data, the network, and how long networks learn.

    Attributes:
        dataset: name of the source of the images.
        show, time: the number of steps with an image, and of all steps.
        neurons: the number of neurons in the recurrent network.
        images: number of images, learned one by one.
        every: images between two measurements.
        queries: held-out images on which accuracy and loss are measured.
        tuning_images, tuning_seeds, tuning_queries: numbers for the search of coefficients.
    """

    dataset: str = "mnist"
    show: int = 5
    time: int = 50
    neurons: int = 100
    images: int = 8000
    every: int = 500
    queries: int = 1000
    tuning_images: int = 8000
    tuning_seeds: int = 3
    tuning_queries: int = 500

    def split(self, setting: Setting) -> StreamSplit:
        """Return the sequences for finding coefficients, and those for training."""
        name = f"delayed:{self.dataset},show={self.show},time={self.time}"
        return open_stream(name, StreamRequest(data_root=setting.data_root))

    def learner(self, split: StreamSplit, terms: Sequence[str]) -> Learner:
        """Return the network with a rule whose errors come from BPTT."""
        widths = (split.inputs, self.neurons, split.outputs)
        timing = split.timing or Timing(1, self.show, self.time)
        system = Recurrent(widths, timing, "tanh", feedback_name="symmetric")
        return Learner(system, tuple(map(get_term, terms)))


@dataclass(frozen=True, eq=False)
class MemoryVariant:
    """Networks that learn by one rule with the best coefficients of a grid.

    Attributes:
        name: the name of the variant.
        terms: the terms of the rule.
        grid: coefficients to try for each term; all combinations are tried.
        full: the task.
        quick: fields that differ in the quick version.
        growths: how often the grid may grow beyond an edge at which its best point lies.
        together: the largest number of seeds that learn side by side.
    """

    name: str
    terms: tuple[str, ...]
    grid: tuple[Axis, ...]
    full: MemorySetup = MemorySetup()
    quick: Mapping[str, Any] = field(default_factory=dict)
    growths: int = 2
    together: int = 20

    def setup(self, setting: Setting) -> MemorySetup:
        """Return the task."""
        return replace(self.full, **self.quick) if setting.quick else self.full

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        grid = [list(axis) for axis in self.grid]
        own = {"terms": list(self.terms), "grid": grid, "growths": self.growths}
        return own | plain(asdict(self.setup(setting)))

    def data(self, setting: Setting) -> dict[str, Callable[[], object]]:
        """Return a function that opens its data."""
        setup = self.setup(setting)
        return {f"stream {setup.dataset}": lambda: setup.split(setting)}

    @own_settings()
    @torch.no_grad()
    def prepare(self, setting: Setting, folder: Path) -> dict[str, Any]:
        """Return the best coefficients, found on images and seeds used for nothing else.

        If the best point lies at an edge of the grid, the grid grows there: by four points on a
        line, or by one row.
        """
        setup = self.setup(setting)
        split = setup.split(setting)
        names = [("tuning", seed) for seed in range(setup.tuning_seeds)]
        lanes = Lanes(
            setup.learner(split, self.terms), split.tuning, setup.tuning_images,
            setup.tuning_queries, names,
        )  # fmt: skip
        axes, tried = self.grid, dict[Axis, float]()
        for growth in range(self.growths + 1):
            points = [point for point in itertools.product(*axes) if point not in tried]
            tried |= zip(points, _scores(lanes, points, setup.every), strict=True)
            best = max(tried, key=lambda point: tried[point])
            edges = [q in (axis[0], axis[-1]) for axis, q in zip(axes, best, strict=True)]
            if growth == self.growths or not any(edges):
                break
            axes = tuple(map(self._grown, axes, best))
        return {
            "theta": dict(zip(self.terms, map(coefficient, best), strict=True)),
            "tried": {_written(point): score for point, score in tried.items()},
            "at_edge": list(itertools.compress(self.terms, edges)),
            "found_on": split.description,
        }

    def _grown(self, axis: Axis, best: int) -> Axis:
        """Return an axis with more points beyond an end if the best point lies there."""
        more = range(1, 5 if len(self.grid) == 1 else 2)
        step = axis[1] - axis[0]
        if best == axis[0]:
            return (*(best - k * step for k in reversed(more)), *axis)
        return (*axis, *(best + k * step for k in more)) if best == axis[-1] else axis

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return the rows of one seed."""
        return self.run_together([seed], setting, prepared)[0]

    @own_settings()
    @torch.no_grad()
    def run_together(
        self, seeds: Sequence[int], setting: Setting, prepared: Mapping[str, Any]
    ) -> list[list[Row]]:
        """Return the rows of several seeds: accuracy and loss by images, and signals.

        Signals are measured before and after learning; the columns of the former end with
        "_initial".
        """
        setup = self.setup(setting)
        split = setup.split(setting)
        names = [("final", seed) for seed in seeds]
        lanes = Lanes(
            setup.learner(split, self.terms), split.final, setup.images, setup.queries, names
        )
        rows: list[list[Row]] = [list(lanes.signals(lanes.initial, i, "_initial"))
                                 for i in range(len(seeds))]  # fmt: skip

        def record(images: int, state: State) -> None:
            for lane, own in enumerate(rows):
                own.append(quality_row(images, *lanes.quality(state, lane)))

        theta = torch.tensor(
            [prepared["theta"][name] for name in self.terms], dtype=torch.float32, device="cpu"
        )
        final = lanes.train(theta.expand(len(seeds), 1, -1), setup.every, record)
        for lane, own in enumerate(rows):
            own += lanes.signals(final, lane)
        return rows


def coefficient(quarter: int) -> float:
    """Return the coefficient at a point of a grid, to three digits."""
    return float(f"{10 ** (quarter / 4):.3g}")


def _written(point: Axis) -> str:
    return ", ".join(f"{coefficient(quarter):g}" for quarter in point)


def _scores(lanes: Lanes, points: Sequence[Axis], every: int) -> list[float]:
    """Return each point's mean accuracy over seeds and the last quarter of the images."""
    seeds = len(lanes.batches)
    theta = torch.tensor(
        [list(map(coefficient, point)) for point in points], dtype=torch.float32, device="cpu"
    )
    found: list[list[float]] = []

    def record(images: int, state: State) -> None:
        if 4 * images > 3 * lanes.images:
            found.append([lanes.quality(state, i)[0] for i in range(len(points) * seeds)])

    lanes.train(theta.repeat_interleave(seeds, 0)[:, None], every, record, len(points))
    means = np.mean(found, axis=0).reshape(len(points), seeds).mean(1)
    return [float(mean) for mean in means]
