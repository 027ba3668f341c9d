"""Reward-modulated reservoirs: fixed recurrent weights, and readouts that learn to draw.

The equations are in `algorithm`. `plain_loop` is the whole algorithm, one line for each equation;
`simulation` computes the same numbers for several runs at once. `learn_to_draw` makes one run.
"""

from metaplast.reservoirs.algorithm import (
    Algorithm,
    by_name,
    published,
    read_algorithm,
    repaired,
)
from metaplast.reservoirs.drawing import learn_to_draw
from metaplast.reservoirs.evolution import Search
from metaplast.reservoirs.lanes import Lane
from metaplast.reservoirs.learning import (
    Drawing,
    Learned,
    learn_coefficients,
    random_drawings,
)
from metaplast.reservoirs.network import Dynamics, Network, Schedule, draw
from metaplast.reservoirs.run import Run
from metaplast.reservoirs.simulation import Simulation
from metaplast.reservoirs.targets import butterfly, random_curve, read_points, resampled
from metaplast.reservoirs.tasks import PEN, Task, get_task

__all__ = [
    "PEN", "Algorithm", "Drawing", "Dynamics", "Lane", "Learned", "Network", "Run", "Schedule",
    "Search", "Simulation", "Task", "butterfly", "by_name", "draw", "get_task",
    "learn_coefficients", "learn_to_draw", "published", "random_curve", "random_drawings",
    "read_algorithm", "read_points", "repaired", "resampled",
]  # fmt: skip
