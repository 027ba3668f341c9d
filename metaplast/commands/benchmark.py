"""Measure time, memory and first-call cost of each engine and its peers."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from metaplast.base.device import find_device
from metaplast.base.errors import UserError, require, require_within
from metaplast.base.files import write_json
from metaplast.base.words import amount, words
from metaplast.batch_jobs.queue import cores
from metaplast.commands._benchmark_row import (
    ELSEWHERE,
    LOOPS,
    PEERS,
    RECURRENT,
    WIDTHS,
    Case,
    check_data,
    measure_apart,
)
from metaplast.commands._options import parse
from metaplast.commands._places import require_writable
from metaplast.commands._recording_times import RecordingCase, recording_times
from metaplast.commands._timings import table
from metaplast.engines import get_engine
from metaplast.systems.feedback import STACK
from metaplast.tasks.library import get_source
from metaplast.watch.console import make_console

# What lowers the memory that this command needs.
LESS_MEMORY = "lower --episodes"
USUAL = "eager-loop,jax,jax-vmap,reference,batched,compiled,fused"
USUAL_RECURRENT = "eager-loop,jax,jax-vmap,reference,batched-loops,batched,fused"
RECORDINGS = "recordings"
USUAL_STEPS = (250, 1000, 4000, 10000)
PUBLISHED, ALL = "F0,F2,F9", "F0,F1,F2,F3,F4,F5,F6,F7,F8,F9"
# The pool of a recurrent network, whose last two terms the peers do not have.
POOL = f"{ALL},drive_oja,potential_oja"
LABELS = {PUBLISHED: PUBLISHED, ALL: "all ten", POOL: "all twelve"}


@dataclass(frozen=True)
class BenchmarkOptions:
    """Time the engines and their peers on the paper's network (784-170-130-100-70-47).

    With --system recurrent: on a recurrent network that sees an image for 5 of 50 time steps.
    With --system recordings: rules from recordings, beside a peer that fits a Taylor series in JAX.
    """

    system: Literal["fully-connected", "recurrent", "recordings"] = "fully-connected"
    """What to time."""
    json: Path | None = None
    """File for the rows, as a JSON list."""
    repeats: int = 5
    """Timed calls of each row, at most 3 for slow engines; the median is reported."""
    episodes: int = 16
    """Episodes per call, for engines that take several."""
    threads: int = 2
    """Cores to use; the fused engine is also timed on one."""
    steps: tuple[int, ...] = USUAL_STEPS
    """Numbers of online steps; the peers are timed only with the first. For recordings, one number:
    the steps of a trial, usually 50."""
    engines: str = ""
    """Names of the engines and peers to time; all by default, except compiled for recurrent
    networks."""
    device: str = "cpu"
    """cpu, or cuda for the rows of torch; fused stays on the CPU, and JAX uses a GPU if it finds
    one."""
    inputs: int | None = None
    """Pixels of an image for the recurrent network (default 784), or inputs of the recorded layer
    (default 50)."""
    neurons: int | None = None
    """Neurons of the recurrent network (default 100) or of the recorded layer (default 10)."""
    trials: int = 50
    """Recorded trials."""
    epochs: int = 250
    """Epochs of the peer's fit to recordings."""
    dataset: str | None = None
    """A source of episodes, such as emnist, on which to measure what dropping dark pixels saves."""
    data_root: Path | None = None
    """Folder with data sets."""

    def __post_init__(self) -> None:
        """Check everything except the data now, so that an error does not come minutes later.

        Raises:
            UserError: if a number is out of range, an engine is unknown, or the file cannot be
                written.
        """
        require_within("--repeats", self.repeats, 1, 1000)
        require_within("--episodes", self.episodes, 1, 10_000)
        require_within("--threads", self.threads, 1, max(2, cores()))
        require_within("--trials", self.trials, 10, 10_000)
        require_within("--epochs", self.epochs, 1, 100_000)
        require(bool(self.steps), "--steps takes numbers with commas, such as 250,1000, got none.")
        for steps in self.lengths:
            require_within("--steps", steps, 1, 1_000_000)
        require_within("--inputs", self.sizes[0], 1, 100_000)
        require_within("--neurons", self.sizes[1], 1, 10_000)
        for name in self.wanted:
            if name not in (*PEERS, LOOPS):
                get_engine(name)
        self._check_system()
        self._check_device()
        if self.dataset is not None:
            get_source(self.dataset)
            require(
                "fused" in self.wanted,
                "--dataset is for the fused engine, which drops dark pixels; name fused in "
                "--engines, or leave --dataset out.",
            )
        require_writable("--json", self.json)

    def _check_system(self) -> None:
        """Check that the engines, the data and the sizes fit the system."""
        if self.system == STACK:
            require(
                self.inputs is None and self.neurons is None,
                "--inputs and --neurons are for --system recurrent or recordings; leave them out.",
            )
            require(
                LOOPS not in self.wanted,
                f"{LOOPS} is for --system recurrent; leave it out of --engines.",
            )
            return
        require(
            self.dataset is None,
            "--dataset is for --system fully-connected; leave it out.",
        )
        if self.system == RECORDINGS:
            require(
                not self.engines and len(self.lengths) == 1,
                "--system recordings has no engines, and one number of steps; leave --engines out, "
                "and give --steps 50.",
            )

    def _check_device(self) -> None:
        """Check that the device exists, and that a row uses it."""
        device = find_device(self.device)
        require(
            device.type == "cpu" or self.system != RECORDINGS,
            "--system recordings is timed on the CPU; leave --device out.",
        )
        require(
            device.type == "cpu" or not set(self.wanted) <= set(ELSEWHERE),
            f"--device {device} is for engines other than {', '.join(ELSEWHERE)}; name one, such "
            f"as batched, or leave --device out.",
        )

    @property
    def sizes(self) -> tuple[int, int]:
        """Inputs and neurons."""
        inputs, neurons = (50, 10) if self.system == RECORDINGS else (WIDTHS[0], 100)
        return self.inputs or inputs, self.neurons or neurons

    @property
    def lengths(self) -> tuple[int, ...]:
        """Numbers of steps."""
        is_usual = self.steps == USUAL_STEPS
        return (50,) if self.system == RECORDINGS and is_usual else self.steps

    @property
    def wanted(self) -> list[str]:
        """The engines to time, without repetitions."""
        usual = USUAL if self.system == STACK else USUAL_RECURRENT
        return list(dict.fromkeys(words("--engines", self.engines or usual, "engine")))


def cases(options: BenchmarkOptions) -> Iterator[Case]:
    """Return the rows to measure."""
    wanted = options.wanted
    first, *longer = options.lengths
    for rule in (PUBLISHED, ALL, POOL) if options.system == RECURRENT else (PUBLISHED, ALL):
        for engine in wanted:
            slow = engine in ("eager-loop", "reference", LOOPS)
            if slow and rule != PUBLISHED:
                continue  # A call would take minutes.
            if engine in PEERS and rule == POOL:
                continue
            alone = engine in ("eager-loop", "reference", "jax")
            count = 1 if alone else options.episodes
            repeats = min(options.repeats, 3) if slow else options.repeats
            yield Case(
                engine, rule, first, count, options.threads, repeats, system=options.system,
                inputs=options.sizes[0], neurons=options.sizes[1], device=options.device,
            )  # fmt: skip
    if "fused" not in wanted:
        return
    base = Case(
        "fused", PUBLISHED, first, options.episodes, options.threads, options.repeats,
        system=options.system, inputs=options.sizes[0], neurons=options.sizes[1],
    )  # fmt: skip
    yield replace(base, threads=1)
    if options.system == RECURRENT:
        return
    for steps in longer:
        yield replace(base, steps=steps, episodes=options.threads, repeats=3)
    if longer:
        yield replace(base, steps=longer[-1], episodes=1, threads=1, repeats=3)
    if options.dataset is not None:
        for drop in (True, False):
            yield replace(
                base, drop_pixels=drop, dataset=options.dataset, data_root=options.data_root
            )


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option or the data are invalid, or a row could not be measured.
    """
    options = parse(BenchmarkOptions, arguments, prog="benchmark", description=__doc__)
    console, rows = make_console(), list[dict[str, Any]]()
    if options.system == RECORDINGS:
        sizes = (*options.sizes, options.trials, options.lengths[0])
        rows = recording_times(RecordingCase(*sizes, options.repeats, options.epochs), console)
        if options.json is not None:
            write_json(options.json, rows)
        return
    chosen = list(cases(options))
    with_data = next((case for case in chosen if case.dataset is not None), None)
    if with_data is not None:
        check_data(with_data)  # All such rows share the same data.
    failed: dict[str, str] = {}
    for case in chosen:
        if case.engine.startswith("jax") and importlib.util.find_spec("jax") is None:
            console.out(f"{case.engine}: skipped, JAX is not installed (uv sync --group bench).")
            continue
        row = measure_apart(case)
        if "error" in row:
            failed[f"{case.engine} on {case.rule}"] = row["error"]
            console.out(f"{case.engine} on {case.rule}: {row['error']}")
            continue
        rows.append(row)
        console.print(
            f"{case.engine}, {case.steps} steps, {case.threads} threads: "
            f"{row['seconds_per_episode']:.4f} s per episode", style="dim",
        )  # fmt: skip
    if rows:
        console.print(table(rows, LABELS))
    if options.json is not None:
        write_json(options.json, rows)
    if failed:
        name, reason = next(iter(failed.items()))
        raise UserError(
            f"{amount(len(failed), 'rows of the table')} failed, the first being {name}: {reason}"
        )
