"""Time every engine and its peers on the paper's network; memory and first-call cost besides."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from metaplast.commands import _peers
from metaplast.commands._options import parse
from metaplast.console import make_console
from metaplast.episode import EpisodeBatch, EpisodeRequest
from metaplast.errors import require
from metaplast.family import worker_ends_with_parent
from metaplast.files import write_json
from metaplast.learner import Learner
from metaplast.library import choose_terms, open_source
from metaplast.network import FullyConnected
from metaplast.trouble import trouble
from metaplast.unroll import Problem, get_engine
from metaplast.unroll.fused import FusedEngine, Settings

WIDTHS = (784, 170, 130, 100, 70, 47)
CLASSES, QUERIES = 5, 10
PUBLISHED, ALL = "F0,F2,F9", "F0,F1,F2,F3,F4,F5,F6,F7,F8,F9"
PEERS = ("eager-loop", "jax", "jax-vmap")


@dataclass(frozen=True)
class BenchmarkOptions:
    """Time the engines and their peers on the paper's network (784-170-130-100-70-47)."""

    json: Path | None = None
    """File for the rows, as a JSON list."""
    repeats: int = 5
    """Timed calls of each row, 3 at most of the slow ones; the median is reported."""
    episodes: int = 16
    """Episodes in a call, where an engine takes several."""
    threads: int = 2
    """Cores to use; the fused engine is also timed on one."""
    steps: tuple[int, ...] = (250, 1000, 4000, 10000)
    """Numbers of online steps; the peers are timed at the first alone."""
    engines: str = "eager-loop,jax,jax-vmap,reference,batched,compiled,fused"
    """Which to time, by name."""
    dataset: str | None = None
    """A source of episodes, such as emnist, to measure what dropping dark pixels gains on it."""
    data_root: Path | None = None
    """Folder with data sets."""

    def __post_init__(self) -> None:
        """Check what would otherwise be found out after minutes.

        Raises:
            UserError: if there is no number of steps, or no folder for the file.
        """
        require(
            bool(self.steps) and min(self.steps) >= 1,
            "--steps takes numbers of at least 1, with commas.",
        )
        require(
            self.json is None or self.json.parent.is_dir(),
            f"the folder of --json {self.json} is not there; make it, or name another.",
        )


@dataclass(frozen=True)
class Case:
    """One row of the table: who unrolls what."""

    engine: str
    rule: str
    steps: int
    episodes: int
    threads: int
    repeats: int
    drop_pixels: bool = True
    dataset: str | None = None
    data_root: Path | None = None


def cases(options: BenchmarkOptions) -> Iterator[Case]:
    """Return what is to be measured."""
    wanted = options.engines.split(",")
    first, *longer = options.steps
    for rule in (PUBLISHED, ALL):
        for engine in wanted:
            slow = engine in ("eager-loop", "reference")
            if slow and rule == ALL:
                continue  # Minutes a call.
            count = 1 if slow or engine == "jax" else options.episodes
            repeats = min(options.repeats, 3) if slow else options.repeats
            yield Case(engine, rule, first, count, options.threads, repeats)
    if "fused" not in wanted:
        return
    base = Case("fused", PUBLISHED, first, options.episodes, options.threads, options.repeats)
    yield replace(base, threads=1)
    for steps in longer:
        yield replace(base, steps=steps, episodes=options.threads, repeats=3)
    if longer:
        yield replace(base, steps=longer[-1], episodes=1, threads=1, repeats=3)
    if options.dataset is not None:
        for drop in (True, False):
            yield replace(
                base, drop_pixels=drop, dataset=options.dataset, data_root=options.data_root
            )


def _episodes(case: Case) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(0)
    if case.dataset is not None:
        request = EpisodeRequest(
            ways=CLASSES, shots=case.steps // CLASSES, queries=QUERIES, data_root=case.data_root
        )
        return open_source(case.dataset, request).train.sample(case.episodes, generator)
    counts = (case.steps, CLASSES * QUERIES)
    images = [torch.rand(case.episodes, n, WIDTHS[0], generator=generator) for n in counts]
    labels = [torch.randint(CLASSES, (case.episodes, n), generator=generator) for n in counts]
    return EpisodeBatch(images[0], labels[0], images[1], labels[1])


def make_problem(case: Case) -> Problem:
    """Return the episodes, weights and coefficients of a row; none of its steps does nothing."""
    learner = Learner(FullyConnected(WIDTHS), "fixed", choose_terms(case.rule).terms)
    # So small that the longest unroll stays finite: the time does not depend on it.
    theta = torch.full((len(learner.terms),), 1e-7)
    theta[0] = 1e-4
    state = learner.draw(case.episodes, torch.Generator().manual_seed(1))
    return Problem(learner, theta, state, _episodes(case))


def make_run(case: Case, problem: Problem) -> tuple[Callable[[], Any], float | None]:
    """Return the call to be timed, and its peak memory in MB if that is known beforehand."""
    if case.engine == "eager-loop":
        return _peers.eager_loop(problem), None
    if case.engine in PEERS:
        return _peers.jax_scan(problem, vectorised=case.engine == "jax-vmap")
    if case.engine == "fused":
        settings = Settings(threads=case.threads, drop_pixels=case.drop_pixels)
        return (lambda: FusedEngine(settings).run(problem)), None
    return (lambda: get_engine(case.engine).run(problem)), None


def _status(field: str) -> float:
    """Return a memory figure of this process, in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def measure(case: Case) -> dict[str, Any]:
    """Return one row: median seconds an episode, peak memory an episode and first-call cost.

    Peak memory is that of a call above what the process held before it; what only compiling takes
    is left out.
    """
    torch.set_num_threads(case.threads)
    problem = make_problem(case)
    before = time.perf_counter()
    # The fused engine keeps its memory for the next call: let a small problem compile it.
    small = replace(case, steps=5, episodes=1, dataset=None) if case.engine == "fused" else None
    run, planned = make_run(case, make_problem(small) if small else problem)
    run()
    first, held = time.perf_counter() - before, _status("VmRSS")
    if small:
        run, planned = make_run(case, problem)
    _reset_peak()
    seconds = []
    for _ in range(case.repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    peak = planned if planned is not None else max(0.0, _status("VmHWM") - held)
    row = {k: v for k, v in asdict(case).items() if k not in ("data_root", "repeats")}
    return row | {
        "seconds_per_episode": statistics.median(seconds) / case.episodes,
        "best_seconds_per_episode": min(seconds) / case.episodes,
        "peak_mb_per_episode": peak / case.episodes,
        "first_call_seconds": first,
        "process_mb": _status("VmHWM"),
    }


def _work(connection: Any, case: Case) -> None:
    worker_ends_with_parent()
    try:
        connection.send(measure(case))
    except Exception as error:
        found = trouble(error)
        if found is None:
            raise
        connection.send({"error": found.sentence()})


def _apart(case: Case) -> dict[str, Any] | None:
    """Return a row measured in a process of its own, None if that failed."""
    os.environ |= {
        "OMP_NUM_THREADS": str(case.threads),
        "XLA_FLAGS": "" if case.threads > 1 else "--xla_cpu_multi_thread_eigen=false",
    }
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, case))
    process.start()
    sender.close()
    try:
        row: dict[str, Any] = receiver.recv()
    except EOFError:
        return None
    except BaseException:
        process.kill()
        raise
    finally:
        process.join()
    return row


def _table(rows: list[dict[str, Any]]) -> Table:
    peers = [row for row in rows if row["engine"] != "fused"]
    names = list(dict.fromkeys(row["engine"] for row in peers))
    table = Table(
        title="seconds and MB an episode, the first call, and how many times longer peers take"
    )
    heads = ("engine", "rule", "steps", "episodes", "threads", "data", "s", "MB", "first s")
    for head in (*heads, *(f"{name} ×" for name in names)):
        table.add_column(head, justify="left" if head in ("engine", "rule") else "right")
    for row in rows:
        rivals = {
            p["engine"]: p["seconds_per_episode"] / row["seconds_per_episode"]
            for p in peers
            if (p["rule"], p["steps"]) == (row["rule"], row["steps"])
        }
        data = row["dataset"] or "uniform"
        table.add_row(
            row["engine"], row["rule"] if row["rule"] != ALL else "all ten", f"{row['steps']}",
            f"{row['episodes']}", f"{row['threads']}",
            data if row["drop_pixels"] else f"{data}, none dropped",
            f"{row['seconds_per_episode']:.4f}", f"{row['peak_mb_per_episode']:.1f}",
            f"{row['first_call_seconds']:.1f}",
            *(f"{rivals[name]:.1f}" if name in rivals else "" for name in names),
        )  # fmt: skip
    return table


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option will not do.
    """
    options = parse(BenchmarkOptions, arguments, prog="benchmark", description=__doc__)
    console, rows = make_console(), []
    for name in options.engines.split(","):
        if name not in PEERS:
            get_engine(name)
    for case in cases(options):
        if case.engine.startswith("jax") and importlib.util.find_spec("jax") is None:
            console.print(f"{case.engine}: skipped, JAX is not installed (uv sync --group bench).")
            continue
        row = _apart(case)
        if row is None:
            console.print(f"{case.engine} on {case.rule}: failed, see above.", style="red")
            continue
        if "error" in row:
            console.out(f"{case.engine} on {case.rule}: {row['error']}")
            continue
        rows.append(row)
        console.print(
            f"{case.engine}, {case.steps} steps, {case.threads} threads: "
            f"{row['seconds_per_episode']:.4f} s an episode", style="dim",
        )  # fmt: skip
    console.print(_table(rows))
    if options.json is not None:
        write_json(options.json, rows)
