"""The runs of the experiment `supertrex`: all tasks and algorithms of one seed at once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from metaplast.reproduce.experiment import Setting
from metaplast.reproduce.table import AT, DIVERGED, Row
from metaplast.reservoirs.algorithm import published, repaired
from metaplast.reservoirs.lanes import Lane
from metaplast.reservoirs.network import Dynamics, Schedule
from metaplast.reservoirs.run import Run
from metaplast.reservoirs.simulation import Simulation
from metaplast.reservoirs.targets import butterfly
from metaplast.reservoirs.tasks import PEN, get_task

ARM2, ARM3 = get_task("arm:2"), get_task("arm:3")
# The costs of moving the three segments, in task 3.
COSTS = (0.1, 0.05, 0.0)


def _lanes() -> dict[str, Lane]:
    tasks = {"pen": (PEN, ()), "arm2": (ARM2, ()), "arm3": (ARM3, ()), "costs": (ARM3, COSTS)}
    found = {
        f"{task}_{name}": (which, published(name, which, costs))
        for task, (which, costs) in tasks.items()
        for name in ("force", "rmhl", "supertrex")
        if name != "force" or task == "pen"
    }
    found["arm3_repaired"] = (ARM3, repaired(ARM3))
    # One lane has the published coefficients with the repaired cost, the other the whole repair.
    released = found["costs_supertrex"][1]
    found["costs_movement"] = (ARM3, replace(released, cost_of="output"))
    found["costs_repaired"] = (ARM3, repaired(ARM3, COSTS))
    return {name: Lane(name, task, algorithm) for name, (task, algorithm) in found.items()}


LANES = _lanes()
FULL = {"neurons": 1000, "period": 50_000, "training": 10, "test": 5, "lanes": tuple(LANES)}
TINY = {"neurons": 20, "period": 20, "training": 6, "test": 5}


def learn_to_draw(seed: int, settings: Mapping[str, Any], _: Setting) -> list[Row]:
    """Return the rows of all lanes, with `_LANE` after the name of each quantity.

    By period: `distance`, `exploration` and `mastery` (norms of W_2 and W_1), and `x` and `y` in
    the last period of training and of the test. At the end: `deviation`, `spread`, `lost` (1 if
    the run diverged) and `open` (share of open gates).
    """
    period, training = settings["period"], settings["training"]
    schedule = Schedule(period, training, settings["test"])
    lanes = [LANES[name] for name in settings["lanes"]]
    dynamics = Dynamics(settings["neurons"])
    runs = Simulation(lanes, butterfly(period), dynamics, schedule, seed).run()
    rows: list[Row] = [_at(step, period, _records(runs, i)) for i, step in enumerate(runs[0].at)]
    last = schedule.steps
    for i, step in enumerate(runs[0].drawn_at):
        if schedule.learning - period < step <= schedule.learning or last - period < step:
            rows.append(_at(step, period, _positions(runs, i)))
    rows.append(_at(last, period, _ends(runs)))
    lost = (float(run.diverged_at is not None) for run in runs)
    rows += [{AT: float(i), DIVERGED: value} for i, value in enumerate(lost)]
    return rows


def _at(step: float, period: int, values: Mapping[str, float]) -> Row:
    """Return a row at a time in periods."""
    return {AT: step / period, **{n: v for n, v in values.items() if math.isfinite(v)}}


def _records(runs: list[Run], i: int) -> dict[str, float]:
    found = {}
    for run in runs:
        found[f"distance_{run.lane.name}"] = float(run.distance[i])
        found[f"exploration_{run.lane.name}"] = float(run.exploration_norm[i])
        found[f"mastery_{run.lane.name}"] = float(run.mastery_norm[i])
    return found


def _positions(runs: list[Run], i: int) -> dict[str, float]:
    found = {}
    for run in runs:
        found[f"x_{run.lane.name}"], found[f"y_{run.lane.name}"] = map(float, run.position[i])
    return found


def _ends(runs: list[Run]) -> dict[str, float]:
    found = {}
    for run in runs:
        found[f"deviation_{run.lane.name}"] = run.deviation
        found[f"spread_{run.lane.name}"] = run.spread
        found[f"lost_{run.lane.name}"] = float(run.diverged_at is not None)
        found[f"open_{run.lane.name}"] = run.open_share
    return found
