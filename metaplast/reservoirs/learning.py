"""Coefficients of an algorithm, learned over many drawings by an evolution strategy.

A drawing is long, noisy and gated, so its deviation has no useful gradient. The strategy, CMA-ES as
the package cma has it, needs only the deviations themselves.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.coerce import coerce
from metaplast.base.errors import UserError, require, require_seed
from metaplast.base.files import write_json
from metaplast.base.locks import locked
from metaplast.base.optional import optional
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.seeds import numpy_generator
from metaplast.reservoirs.algorithm import Algorithm
from metaplast.reservoirs.lanes import Lane
from metaplast.reservoirs.network import Dynamics, Schedule
from metaplast.reservoirs.run import Run
from metaplast.reservoirs.simulation import Simulation
from metaplast.reservoirs.tasks import Task

LEARNED = ("exploration_rate", "mastery_rate", "noise_size", "threshold")
# A run that diverges counts like one with this deviation; nothing counts as worse.
WORST = 10.0
KEPT = "coefficients.json"


@dataclass(frozen=True, eq=False)
class Drawing:
    """What a candidate draws.

    Attributes:
        target: one period, [step, 2].
        seed: of the reservoir and all noise.
    """

    target: Numbers
    seed: int


# The drawings of a generation: all its candidates draw the same ones, with the same noise.
Drawings = Callable[[int], Sequence[Drawing]]


@dataclass(frozen=True)
class Search:
    """How the strategy searches, in natural logarithms of the coefficients.

    Attributes:
        generations: how many.
        population: candidates of each.
        spread: standard deviation of the first generation; 0.5 is a factor of 1.6.
        seed: of the candidates.
    """

    generations: int = 8
    population: int = 8
    spread: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: if one is out of range.
        """
        coerce(self)
        require(self.generations >= 1, f"generations must be at least 1, not {self.generations}.")
        require(self.population >= 4, f"population must be at least 4, not {self.population}.")
        require(0 < self.spread <= 3, f"spread must be above 0 and at most 3, not {self.spread:g}.")
        require_seed("seed", self.seed)


@dataclass(frozen=True)
class Learned:
    """The end of a search.

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
    names: Sequence[str] = LEARNED,
    search: Search | None = None,
    dynamics: Dynamics | None = None,
    schedule: Schedule | None = None,
    folder: AnyPath | None = None,
    observe: Callable[[int, int], None] = lambda *_: None,
) -> Learned:
    """Return the algorithm with coefficients that make the mean of log10(deviation) small.

    Args:
        task: what draws.
        start: the algorithm at the centre of the first generation.
        drawings: of each generation, by its number from 0.
        names: of the coefficients to learn; all must be positive at the start.
        search: how to search.
        dynamics: sizes and constants of the reservoirs.
        schedule: periods of learning and of the test.
        folder: for the scores after each generation; the same call continues from them.
        observe: called with the generations that are done, and with all.

    Raises:
        UserError: if cma is not installed, a name is unknown, a coefficient is not positive, or the
            folder holds another search.
    """
    search = search or Search()
    _require_positive(start, names)
    strategy = _strategy(len(names), search)
    identity = _identity(task, start, names, search, schedule or Schedule(), dynamics or Dynamics())

    def score(generation: int, factors: Sequence[Sequence[float]]) -> list[float]:
        lanes = [
            Lane(f"candidate {i}", task, _scaled(start, names, each))
            for i, each in enumerate(factors)
        ]
        found = [
            Simulation(lanes, each.target, dynamics, schedule, each.seed).run()
            for each in drawings(generation)
        ]
        means: list[float] = np.mean([[badness(run) for run in runs] for runs in found], 0).tolist()
        return means

    held = nullcontext() if folder is None else locked(as_path(folder, "folder"), make=True)
    with held as kept_in:
        place = None if kept_in is None else kept_in / KEPT
        scores = [] if place is None else _scores(place, identity, search.population)
        for generation in range(search.generations):
            factors = strategy.ask()
            if generation == len(scores):
                scores.append(score(generation, factors))
                if place is not None:
                    write_json(place, {"search": identity, "scores": scores})
            strategy.tell(factors, scores[generation])
            observe(generation + 1, search.generations)
    algorithm = _scaled(start, names, strategy.result.xfavorite)
    return Learned(algorithm, tuple(map(tuple, scores)))


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
            f"{name!r} is no coefficient that can be scaled; choose from {', '.join(LEARNED)}.",
        )
        require(
            getattr(start, name) > 0,
            f"{name} must be positive at the start, not {getattr(start, name):g}.",
        )


def _strategy(size: int, search: Search) -> Any:
    """Return CMA-ES from the origin, with random numbers of its own."""
    cma = optional("cma", "metaplast[evolution]", "learning coefficients needs")
    draw = numpy_generator(search.seed, "coefficients")
    options = {
        "popsize": search.population,
        "verbose": -9,
        # NaN leaves numpy's global random numbers alone.
        "seed": math.nan,
        "randn": lambda *shape: draw.standard_normal(shape),
        # The number of generations alone ends the search.
        "tolfun": 0, "tolx": 0, "tolfunhist": 0, "tolflatfitness": math.inf,
    }  # fmt: skip
    return cma.CMAEvolutionStrategy(np.zeros(size), search.spread, options)


def _identity(task: Task, start: Algorithm, names: Sequence[str], *parts: Any) -> dict[str, Any]:
    """Return what decides the scores, but for the drawings, as plain data."""
    settings = {type(part).__name__.lower(): vars(part) for part in (start, *parts)}
    # As it is read back.
    plain: dict[str, Any] = json.loads(
        json.dumps({"task": task.name, "names": list(names), **settings})
    )
    # More generations continue a search.
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
