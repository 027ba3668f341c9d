"""Let a reservoir learn to draw a curve from a reward, and test it with frozen readouts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from metaplast.base.errors import require, require_seed, require_within
from metaplast.base.files import csv_text, write_atomically, write_json, write_text
from metaplast.batch_jobs.queue import cores
from metaplast.commands._ends import continued_by
from metaplast.commands._folders import common_folder, own_folder
from metaplast.commands._json import JsonOption, print_json
from metaplast.commands._options import parse
from metaplast.reservoirs.algorithm import Algorithm, named, read_algorithm
from metaplast.reservoirs.drawing import drawing_simulation
from metaplast.reservoirs.evolution import Search, evolution_package
from metaplast.reservoirs.learning import (
    Learned,
    learn_coefficients,
    learnable,
    random_drawings,
)
from metaplast.reservoirs.network import Dynamics, Schedule
from metaplast.reservoirs.run import Run
from metaplast.reservoirs.simulation import Simulation
from metaplast.reservoirs.tasks import get_task
from metaplast.watch.console import make_console
from metaplast.watch.progress import Work

# What lowers the memory that this command needs.
LESS_MEMORY = "lower --neurons or --period"


@dataclass(frozen=True)
class DrawOptions(JsonOption):
    """Let a reservoir learn to draw a curve from a reward, and test it with frozen readouts.

    An interrupted command continues from the last whole period if it is given the same --out.
    """

    GROUP: ClassVar[str] = "run"

    target: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="[FILE]")] = None
    """Points of a closed curve: CSV with columns x and y, or NPZ; default: a butterfly."""
    task: str = "pen"
    """Device that draws: pen, arm:2, arm:3, or an arm with given lengths: arm:1.8,1.2,0.6."""
    algorithm: str = "supertrex"
    """How readouts learn: force (pen only), rmhl, supertrex or repaired; or the run.json of an
    earlier drawing, to reuse its coefficients."""
    learn: int = 0
    """Generations of a search for better coefficients, on random curves, before the drawing."""
    candidates: int = 8
    """Sets of coefficients that each generation of the search tries."""
    curves: int = 2
    """Random curves that every candidate draws."""
    costs: tuple[float, ...] = ()
    """Cost of moving each output; none by default."""
    neurons: int = 1000
    """Neurons of the reservoir."""
    period: int = 50_000
    """Steps in which the curve is drawn once; far fewer are not enough."""
    training: int = 10
    """Periods of learning."""
    test: int = 5
    """Periods of the test."""
    seed: int = 0
    """Seed of the reservoir and all noise."""
    out: Path | None = None
    """Folder for the results; default: runs/draw-<time>."""

    def __post_init__(self) -> None:
        """Check the seed and the sizes of the search.

        Raises:
            UserError: if a value is out of range.
        """
        super().__post_init__()
        require_seed("--seed", self.seed)
        require_within("--learn", self.learn, 0)
        require_within("--candidates", self.candidates, 4)
        require_within("--curves", self.curves, 1)

    def start(self) -> Algorithm:
        """Return the algorithm, with its published coefficients or those of an earlier drawing.

        Raises:
            UserError: if there is no such algorithm, the file is not a run, or the package that
                --learn needs is not installed.
        """
        if self.learn:
            evolution_package()
        if not self.algorithm.endswith(".json"):
            return named(self.algorithm, get_task(self.task), self.costs)
        require(
            not self.costs,
            "the algorithm of an earlier drawing already has costs; leave --costs out.",
        )
        return read_algorithm(self.algorithm)

    @property
    def schedule(self) -> Schedule:
        """Periods of learning and of the test."""
        return Schedule(self.period, self.training, self.test, lag=min(5, self.training))

    def simulation(self, algorithm: Algorithm) -> Simulation:
        """Return the simulation with an algorithm, before its first step.

        Raises:
            UserError: if an option is invalid, or the arm cannot reach the target.
        """
        return drawing_simulation(
            self.target, self.task, algorithm, seed=self.seed,
            dynamics=Dynamics(self.neurons), schedule=self.schedule,
        )  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option, the target or the folder is invalid.
    """
    options = parse(DrawOptions, arguments, prog="draw", description=__doc__)
    start, console = options.start(), make_console(errors=options.json)
    simulation = options.simulation(start)
    held: AbstractContextManager[Path] = (
        own_folder(None, "draw") if options.out is None else common_folder(options.out)
    )
    with held as folder, continued_by(console, f"the same command with --out {folder}"):
        if options.learn:
            simulation = options.simulation(_better(start, options, folder / "search", console))
        run = _watched(simulation, folder, console)
        # Show the result before writing it, because writing may fail.
        if not options.json:
            console.out(_result_line(run))
        _write(run, simulation, options, folder)
        if options.json:
            print_json(_result_data(run) | {"folder": str(folder)})
        console.out(f"Figure, drawn curve and readouts in {folder}")


def _better(start: Algorithm, options: DrawOptions, folder: Path, console: Console) -> Algorithm:
    """Search for coefficients that draw random curves better; return the algorithm with them."""
    names, told = learnable(start), 0.0
    with Work(console, options.learn) as work:

        def observe(done: float, of: int) -> None:
            nonlocal told
            work.set_done(done)
            work.name("learning coefficients")
            if done == int(done) and done > told:
                told = done
                work.line(f"generation {done:.0f} of {of}")

        found = learn_coefficients(
            get_task(options.task), start, random_drawings(options.period, options.curves),
            names=names, search=Search(options.learn, options.candidates, seed=options.seed),
            dynamics=Dynamics(options.neurons), schedule=options.schedule, folder=folder,
            workers=min(cores(), options.curves), observe=observe,
        )  # fmt: skip
    console.out(f"Median deviation of the candidates: {_middle(found, 0)} in the first generation, "
                f"{_middle(found, -1)} in the last")  # fmt: skip
    for name in names:
        old, new = getattr(start, name), getattr(found.algorithm, name)
        console.out(f"{name}: {old:.4g} at the start, {new:.4g} learned")
    return found.algorithm


def _middle(found: Learned, generation: int) -> str:
    return f"{10 ** float(median(found.scores[generation])):.3g}"


def _watched(simulation: Simulation, folder: Path, console: Console) -> Run:
    """Run the simulation with a progress bar, and a line for each period."""
    period = simulation.schedule.period
    with Work(console, simulation.schedule.steps) as work:

        def observe(done: int, of: int) -> None:
            work.set_done(done)
            learning = done <= simulation.schedule.learning
            work.name("learning" if learning else "test")
            if done % period == 0:
                distance = float(simulation.distance()[0])
                work.line(f"period {done // period} of {of // period}: distance {distance:.4g}")

        return simulation.run(observe=observe, folder=folder)[0]


def _result_line(run: Run) -> str:
    if run.diverged_at is not None:
        return (
            f"The run diverged: at step {run.diverged_at} its numbers were no longer finite; "
            f"smaller coefficients may help."
        )
    return f"Deviation in the test: {run.deviation:.4g} (standard deviation {run.spread:.2g})"


def _result_data(run: Run) -> dict[str, Any]:
    return {
        "deviation": None if run.diverged_at is not None else run.deviation,
        "diverged_at": run.diverged_at,
        "gate_open": run.open_share,
    }


def _write(run: Run, simulation: Simulation, options: DrawOptions, folder: Path) -> None:
    """Write the results.

    Raises:
        FileError: if the folder cannot be written to.
    """
    import numpy as np

    from metaplast.report.canvas import save_figure
    from metaplast.report.drawing import drawing_figure

    settings: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(options).items()
        if name not in ("out", "json")
    }
    write_json(
        folder / "run.json",
        {**_result_data(run), "settings": settings, "algorithm": asdict(run.lane.algorithm)},
    )
    rows = zip(run.drawn_at, *run.position.T, strict=True)
    drawn = ({"step": int(step), "x": x, "y": y} for step, x, y in rows)
    write_text(folder / "drawn.csv", csv_text(drawn))
    write_atomically(
        folder / "readouts.npz",
        lambda stream: np.savez(stream, W_1=run.mastery, W_2=run.exploration),
    )
    save_figure(drawing_figure(run, simulation.target), folder / "drawn")
