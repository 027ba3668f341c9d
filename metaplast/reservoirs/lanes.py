"""Lanes: several runs with the same reservoir and noise, packed side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.reservoirs.algorithm import Algorithm
from metaplast.reservoirs.network import Network, Schedule
from metaplast.reservoirs.plain_loop import FIRST_NOISE
from metaplast.reservoirs.tasks import Task

if TYPE_CHECKING:
    from metaplast.reservoirs.kernel import Coefficients, State


@dataclass(frozen=True)
class Lane:
    """One of several runs that share a reservoir.

    Attributes:
        name: the name of the run.
        task: the map from outputs to positions.
        algorithm: how its readouts learn.
    """

    name: str
    task: Task
    algorithm: Algorithm

    @property
    def frozen_filter(self) -> bool:
        """Whether z̄_2 is frozen in the test, as in the published scripts of RMHL."""
        return not self.algorithm.masters and self.algorithm.cost_of == "exploration"


def most_outputs(lanes: Sequence[Lane]) -> int:
    """Return the largest number of outputs of any lane."""
    return max(lane.task.outputs for lane in lanes)


def coefficients(lanes: Sequence[Lane], width: int) -> Coefficients:
    """Return the coefficients of the lanes, padded with idle lanes up to `width`."""
    from metaplast.reservoirs.kernel import Coefficients

    shape = (most_outputs(lanes), width)
    lengths, used, costs = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for i, lane in enumerate(lanes):
        used[: lane.task.outputs, i] = 1
        lengths[: len(lane.task.lengths), i] = lane.task.lengths
        costs[: len(lane.algorithm.costs), i] = lane.algorithm.costs

    def row(values: Sequence[float]) -> Numbers:
        found = np.zeros(width)
        found[: len(lanes)] = values
        return found

    how = [lane.algorithm for lane in lanes]
    return Coefficients(
        arm=row([lane.task.is_arm for lane in lanes]),
        lengths=lengths,
        used=used,
        costs=costs,
        whole=row([each.cost_of == "output" for each in how]),
        explores=row([each.explores for each in how]),
        masters=row([each.masters for each in how]),
        rate=row([each.exploration_rate for each in how]),
        one_sided=row([each.one_sided for each in how]),
        memory=row([each.memory for each in how]),
        test_memory=row([1.0 if lane.frozen_filter else lane.algorithm.memory for lane in lanes]),
        size=row([each.noise_size for each in how]),
        power=row([each.noise_power for each in how]),
    )


def start(lanes: Sequence[Lane], network: Network, schedule: Schedule, width: int) -> State:
    """Return the state before the first step."""
    from metaplast.reservoirs.kernel import State

    neurons, outputs = len(network.start), most_outputs(lanes)
    x = np.repeat(network.start, width)
    bound = np.zeros(width)
    bound[: len(lanes)] = [FIRST_NOISE if lane.algorithm.explores else 0.0 for lane in lanes]
    weights = neurons * outputs * width
    sizes = dict.fromkeys(("drive", "k"), neurons * width)
    sizes |= dict.fromkeys(("mastery", "exploration"), weights)
    sizes |= dict.fromkeys(
        ("change", "z", "z1", "z2", "z2_mean", "z_mean", "push"), outputs * width
    )
    sizes |= dict.fromkeys(("error", "error_mean", "filtered", "before", "total", "squares"), width)
    empty = {name: np.zeros(size) for name, size in sizes.items()}
    history = np.zeros((schedule.lag * schedule.period, outputs * width))
    return State(
        x=x, r=np.tanh(x), bound=bound, position=np.zeros(2 * width), history=history, **empty
    )
