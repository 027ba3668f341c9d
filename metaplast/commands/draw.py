"""Let a reservoir learn to draw a curve from a reward, and test it with frozen readouts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from metaplast.base.errors import UserError, require_seed
from metaplast.base.files import csv_text, write_atomically, write_json, write_text
from metaplast.commands._ends import continued_by
from metaplast.commands._folders import common_folder, own_folder
from metaplast.commands._json import JsonOption, print_json
from metaplast.commands._options import parse
from metaplast.reservoirs.drawing import drawing_simulation
from metaplast.reservoirs.network import Dynamics, Schedule
from metaplast.reservoirs.run import Run
from metaplast.reservoirs.simulation import Simulation
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
    """What draws: pen, arm:2, arm:3, or an arm's lengths, such as arm:1.8,1.2,0.6."""
    algorithm: str = "supertrex"
    """How readouts learn: force (pen only), rmhl, supertrex or repaired."""
    costs: tuple[float, ...] = ()
    """Cost of moving each output; none by default."""
    neurons: int = 1000
    """Neurons of the reservoir."""
    period: int = 50_000
    """Steps in which the curve is drawn once; far fewer do not work."""
    training: int = 10
    """Periods of learning."""
    test: int = 5
    """Periods of the test."""
    seed: int = 0
    """Of the reservoir and all noise."""
    out: Path | None = None
    """Folder for the results; default: runs/draw-<time>."""

    def __post_init__(self) -> None:
        """Check the seed.

        Raises:
            UserError: if it is negative.
        """
        super().__post_init__()
        require_seed("--seed", self.seed)

    def simulation(self) -> Simulation:
        """Return the simulation, before its first step.

        Raises:
            UserError: if an option is invalid, or the arm cannot reach the target.
        """
        schedule = Schedule(self.period, self.training, self.test, lag=min(5, self.training))
        return drawing_simulation(
            self.target, self.task, self.algorithm, costs=self.costs, seed=self.seed,
            dynamics=Dynamics(self.neurons), schedule=schedule,
        )  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option, the target or the folder is invalid.
    """
    options = parse(DrawOptions, arguments, prog="draw", description=__doc__)
    simulation, console = options.simulation(), make_console(errors=options.json)
    held: AbstractContextManager[Path] = (
        own_folder(None, "draw") if options.out is None else common_folder(options.out)
    )
    with held as folder, continued_by(console, f"the same command with --out {folder}"):
        run = _watched(simulation, folder, console)
        _write(run, simulation, options, folder)
        if options.json:
            print_json(_found(run) | {"folder": str(folder)})
        else:
            console.out(_told(run))
        console.out(f"Figure, drawn curve and readouts in {folder}")


def _watched(simulation: Simulation, folder: Path, console: Console) -> Run:
    """Run the simulation with a progress bar, and a line for each period."""
    period = simulation.schedule.period
    with Work(console, simulation.schedule.steps) as work:

        def observe(done: int, of: int) -> None:
            work.settle(done)
            learning = done <= simulation.schedule.learning
            work.name("learning" if learning else "test")
            if done % period == 0:
                distance = float(simulation.distance()[0])
                work.line(f"period {done // period} of {of // period}: distance {distance:.4g}")

        return simulation.run(observe=observe, folder=folder)[0]


def _told(run: Run) -> str:
    if run.diverged_at is not None:
        return (
            f"The run diverged: at step {run.diverged_at} its numbers were no longer finite; "
            f"smaller coefficients may help."
        )
    return f"Deviation in the test: {run.deviation:.4g} (standard deviation {run.spread:.2g})"


def _found(run: Run) -> dict[str, Any]:
    return {
        "deviation": None if run.diverged_at is not None else run.deviation,
        "diverged_at": run.diverged_at,
        "gate_open": run.open_share,
    }


def _write(run: Run, simulation: Simulation, options: DrawOptions, folder: Path) -> None:
    """Write the results.

    Raises:
        UserError: if the folder cannot be written to.
    """
    import numpy as np

    from metaplast.report.canvas import save_figure
    from metaplast.report.drawing import drawing_figure

    settings: dict[str, Any] = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(options).items()
        if name not in ("out", "json")
    }
    try:
        write_json(
            folder / "run.json",
            {**_found(run), "settings": settings, "algorithm": asdict(run.lane.algorithm)},
        )
        rows = zip(run.drawn_at, *run.position.T, strict=True)
        drawn = ({"step": int(step), "x": x, "y": y} for step, x, y in rows)
        write_text(folder / "drawn.csv", csv_text(drawn))
        write_atomically(
            folder / "readouts.npz",
            lambda stream: np.savez(stream, W_1=run.mastery, W_2=run.exploration),
        )
        save_figure(drawing_figure(run, simulation.target), folder / "drawn")
    except OSError as error:
        raise UserError(f"cannot write into {folder}: {error.strerror}.") from None
