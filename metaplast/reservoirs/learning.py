"""Coefficients of an algorithm, learned over many drawings by an evolution strategy.

A drawing takes many noisy steps with a gate, so its deviation has no useful gradient. CMA-ES needs
only the deviations themselves.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require
from metaplast.base.files import write_json
from metaplast.base.locks import locked
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.tensors import require_count
from metaplast.reservoirs.algorithm import Algorithm
from metaplast.reservoirs.evolution import Search, make_strategy
from metaplast.reservoirs.lanes import Lane
from metaplast.reservoirs.network import Dynamics, Schedule
from metaplast.reservoirs.run import Run
from metaplast.reservoirs.simulation import Simulation
from metaplast.reservoirs.targets import random_curve
from metaplast.reservoirs.tasks import Task

LEARNED = ("exploration_rate", "mastery_rate", "noise_size", "threshold")
# A run that diverges, or deviates more than this, counts with this deviation.
WORST = 10.0
KEPT = "coefficients.json"
# Seed of the first drawing of a search.
_FIRST = 1_000_000


@dataclass(frozen=True, eq=False)
class Drawing:
    """The task of a candidate: a curve, and the reservoir that draws it.

    Attributes:
        target: one period, [step, 2].
        seed: the seed of the reservoir and all noise.
    """

    target: Numbers
    seed: int


# The drawings of a generation. All its candidates draw the same ones, with the same noise.
Drawings = Callable[[int], Sequence[Drawing]]


def random_drawings(period: int, count: int) -> Drawings:
    """Return fresh random curves and reservoirs for each generation.

    Their seeds begin at 1,000,000, so that smaller seeds are free for tests.

    Args:
        period: steps of a curve.
        count: drawings of each generation.

    Raises:
        UserError: if `count` is below 1.
    """
    require_count(count, "count")

    def drawings(generation: int) -> list[Drawing]:
        first = _FIRST + generation * count
        return [Drawing(random_curve(period, s), s) for s in range(first, first + count)]

    return drawings


def learnable(algorithm: Algorithm) -> tuple[str, ...]:
    """Return the names of the coefficients in `LEARNED` that an algorithm uses."""
    used = {
        "exploration_rate": algorithm.explores, "noise_size": algorithm.explores,
        "mastery_rate": algorithm.masters,
        "threshold": algorithm.masters and not algorithm.supervised,
    }  # fmt: skip
    return tuple(name for name in LEARNED if used[name])


@dataclass(frozen=True)
class Learned:
    """The result of a search.

    Attributes:
        algorithm: with the centre of the last generation as coefficients.
        scores: mean log10 of the deviation of each candidate, [generation][candidate].
    """

    algorithm: Algorithm
    scores: tuple[tuple[float, ...], ...]


def learn_coefficients(
    task: Task,
    start: Algorithm,
    drawings: Drawings,
    *,
    names: Sequence[str] | None = None,
    search: Search | None = None,
    dynamics: Dynamics | None = None,
    schedule: Schedule | None = None,
    folder: AnyPath | None = None,
    workers: int = 1,
    observe: Callable[[float, int], None] = lambda *_: None,
) -> Learned:
    """Search for coefficients with a small mean of log10(deviation).

    Args:
        task: the device that draws.
        start: the algorithm at the centre of the first generation.
        drawings: returns the drawings of a generation, given its number from 0.
        names: the names of the coefficients to learn, which must be positive at the start; by
            default, those of `LEARNED` that the algorithm uses.
        search: how to search.
        dynamics: sizes and constants of the reservoirs.
        schedule: periods of learning and of the test.
        folder: for the scores after each generation; the same call continues from them.
        workers: drawings of a generation that are simulated at once, in threads; the result does
            not depend on it.
        observe: called after each drawing and each generation with the number of generations done,
            which may be a fraction, and of all generations.

    Raises:
        UserError: if cma is not installed, a name is unknown, a coefficient is not positive, or the
            folder holds another search.
    """
    search, names = search or Search(), learnable(start) if names is None else names
    require_count(workers, "workers")
    _require_positive(start, names)
    strategy = make_strategy(len(names), search)
    identity = _identity(task, start, names, search, schedule or Schedule(), dynamics or Dynamics())
    trial = _Trial(task, start, names, drawings, dynamics, schedule, workers, observe, search)
    held = nullcontext() if folder is None else locked(as_path(folder, "folder"), make=True)
    with held as kept_in:
        place = None if kept_in is None else kept_in / KEPT
        scores = [] if place is None else _scores(place, identity, search.population)
        for generation in range(search.generations):
            factors = strategy.ask()
            if generation == len(scores):
                scores.append(trial.scores(generation, factors))
                if place is not None:
                    write_json(place, {"search": identity, "scores": scores})
            strategy.tell(factors, scores[generation])
            observe(generation + 1, search.generations)
    algorithm = _scaled(start, names, strategy.result.xfavorite)
    return Learned(algorithm, tuple(map(tuple, scores)))


@dataclass(frozen=True)
class _Trial:
    """What all candidates have in common; see `learn_coefficients`."""

    task: Task
    start: Algorithm
    names: Sequence[str]
    drawings: Drawings
    dynamics: Dynamics | None
    schedule: Schedule | None
    workers: int
    observe: Callable[[float, int], None]
    search: Search

    def scores(self, generation: int, factors: Sequence[Sequence[float]]) -> list[float]:
        """Return each candidate's mean `badness` over the drawings of a generation."""
        lanes = [
            Lane(f"candidate {i}", self.task, _scaled(self.start, self.names, each))
            for i, each in enumerate(factors)
        ]
        drawn = self.drawings(generation)
        require(len(drawn) > 0, f"generation {generation} has no drawings; give at least one.")
        makers = [
            partial(Simulation, lanes, each.target, self.dynamics, self.schedule, each.seed)
            for each in drawn
        ]
        found = list[list[float]]()
        for runs in _at_once(makers, self.workers):
            found.append([badness(run) for run in runs])
            if len(found) < len(makers):
                done = generation + len(found) / len(makers)
                self.observe(done, self.search.generations)
        means: list[float] = np.mean(found, 0).tolist()
        return means


def _at_once(makers: Sequence[Callable[[], Simulation]], workers: int) -> Iterator[Sequence[Run]]:
    """Yield the runs of simulations, in order; after an interrupt, the others stop soon."""
    stopped = threading.Event()

    def watch(*_: int) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt

    def run(make: Callable[[], Simulation]) -> Sequence[Run]:
        return make().run(observe=watch)

    with ThreadPoolExecutor(min(workers, len(makers))) as pool:
        waiting = [pool.submit(run, make) for make in makers]
        try:
            for each in waiting:
                yield each.result()
        finally:
            stopped.set()
            for each in waiting:
                each.cancel()


def badness(run: Run) -> float:
    """Return log10 of a run's deviation, at most that of `WORST`."""
    lost = run.diverged_at is not None or not math.isfinite(run.deviation)
    return math.log10(WORST if lost else min(max(run.deviation, 1e-6), WORST))


def _scaled(start: Algorithm, names: Sequence[str], logs: Sequence[float]) -> Algorithm:
    """Return the algorithm with coefficients multiplied by factors, given as logarithms."""
    new = {
        name: getattr(start, name) * math.exp(log) for name, log in zip(names, logs, strict=True)
    }
    return replace(start, name=f"{start.name}, learned", **new)


def _require_positive(start: Algorithm, names: Sequence[str]) -> None:
    numbers = [name for name, value in vars(start).items() if isinstance(value, float)]
    require(bool(names), f"names holds no coefficient; choose from {', '.join(numbers)}.")
    for name in names:
        require(
            name in numbers and name not in ("memory", "noise_power"),
            f"{name!r} is not a coefficient that can be scaled; choose from {', '.join(LEARNED)}.",
        )
        require(
            getattr(start, name) > 0,
            f"{name} must be positive at the start, not {getattr(start, name):g}.",
        )


def _identity(task: Task, start: Algorithm, names: Sequence[str], *parts: Any) -> dict[str, Any]:
    """Return everything that decides the scores, except the drawings, as plain data."""
    settings = {type(part).__name__.lower(): vars(part) for part in (start, *parts)}
    # As JSON returns them, so that a file can be compared.
    plain: dict[str, Any] = json.loads(
        json.dumps({"task": task.name, "names": list(names), **settings})
    )
    # A search may continue with more generations.
    del plain["search"]["generations"]
    return plain


def _scores(place: Path, identity: Mapping[str, Any], population: int) -> list[list[float]]:
    """Return the scores of earlier generations.

    Raises:
        UserError: if the file is damaged, or belongs to another search.
    """
    if not place.exists():
        return []
    is_damaged = f"{place} is damaged; remove it, and the search starts again."
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))
        is_same, scores = kept["search"] == identity, kept["scores"]
        found = [[float(score) for score in each] for each in scores]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(is_damaged) from None
    require(is_same, f"{place} belongs to a search with other settings; choose another folder.")
    whole = (len(each) == population and np.isfinite(each).all() for each in found)
    require(all(whole), is_damaged)
    return found
