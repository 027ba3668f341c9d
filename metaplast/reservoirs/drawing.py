"""One run on a target of your own: `learn_to_draw`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from metaplast.base.bands import Numbers
from metaplast.base.errors import require, require_seed
from metaplast.base.locks import locked
from metaplast.base.paths import AnyPath, as_path
from metaplast.reservoirs.algorithm import Algorithm, named
from metaplast.reservoirs.lanes import Lane
from metaplast.reservoirs.network import Dynamics, Schedule
from metaplast.reservoirs.run import Run
from metaplast.reservoirs.simulation import Simulation
from metaplast.reservoirs.targets import butterfly, checked, read_points, resampled
from metaplast.reservoirs.tasks import get_task


def learn_to_draw(
    target: AnyPath | Numbers | Sequence[Sequence[float]] | None = None,
    task: str = "pen",
    algorithm: str | Algorithm = "supertrex",
    *,
    costs: tuple[float, ...] = (),
    seed: int = 0,
    dynamics: Dynamics | None = None,
    schedule: Schedule | None = None,
    folder: AnyPath | None = None,
    observe: Callable[[int, int], None] = lambda *_: None,
) -> Run:
    """Let a reservoir learn to draw a curve, and test it with frozen readouts.

    With the published sizes, a run takes some minutes. A run that diverges is returned, with its
    deviation NaN and the step in `diverged_at`.

    Args:
        target: a file of points (CSV or NPZ, see `read_points`) or an array [point, 2], drawn as a
            closed curve once a period; None for the butterfly.
        task: "pen", "arm:2", "arm:3", or "arm:" with lengths, such as "arm:1.8,1.2,0.6".
        algorithm: "force" (pen only), "rmhl", "supertrex" or "repaired", with published
            coefficients, or your own `Algorithm`.
        costs: the cost of moving each output, for published coefficients; () for none.
        seed: the seed of the reservoir and all noise.
        dynamics: size and constants of the reservoir.
        schedule: periods of learning and of the test.
        folder: for a checkpoint after each period; the same call continues from it.
        observe: called with the number of steps that are done, and the number of all steps.

    Returns:
        The deviation (mean distance to the target in the test), distances, norms, the curve that
        was drawn, and the readouts.

    Raises:
        UserError: if an argument is invalid, or the arm cannot reach the target.
    """
    simulation = drawing_simulation(
        target, task, algorithm, costs=costs, seed=seed, dynamics=dynamics, schedule=schedule
    )
    if folder is None:
        return simulation.run(observe=observe)[0]
    with locked(as_path(folder, "folder"), make=True) as place:
        return simulation.run(observe=observe, folder=place)[0]


def drawing_simulation(
    target: AnyPath | Numbers | Sequence[Sequence[float]] | None = None,
    task: str = "pen",
    algorithm: str | Algorithm = "supertrex",
    *,
    costs: tuple[float, ...] = (),
    seed: int = 0,
    dynamics: Dynamics | None = None,
    schedule: Schedule | None = None,
) -> Simulation:
    """Return the simulation of `learn_to_draw`, before its first step; arguments as there.

    Raises:
        UserError: if an argument is invalid, or the arm cannot reach the target.
    """
    require_seed("seed", seed)
    schedule = schedule or Schedule()
    which = get_task(task)
    if isinstance(algorithm, Algorithm):
        require(not costs, "an Algorithm has its own costs; leave the argument costs out.")
        how = algorithm
    else:
        how = named(algorithm, which, costs)
    points = _points(target, schedule.period)
    return Simulation([Lane(how.name, which, how)], points, dynamics, schedule, seed)


def _points(target: AnyPath | Numbers | Sequence[Sequence[float]] | None, period: int) -> Numbers:
    """Return a point for each step of a period, [step, 2]."""
    if target is None:
        return butterfly(period)
    if isinstance(target, str | os.PathLike):
        return resampled(read_points(target), period)
    return resampled(checked(target, "target"), period)
