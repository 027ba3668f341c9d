"""Measure time, memory and first-call cost of each engine and its peers, on the paper's network."""

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

from metaplast.base.errors import UserError, require, require_within
from metaplast.base.family import worker_ends_with_parent
from metaplast.base.files import write_json
from metaplast.base.trouble import explained
from metaplast.base.words import words
from metaplast.batch_jobs.queue import cores
from metaplast.commands import _peers
from metaplast.commands._options import parse
from metaplast.commands._places import require_writable
from metaplast.commands._timings import table
from metaplast.engines import Problem, get_engine
from metaplast.engines.fused import FusedEngine, Settings
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.library import get_source, open_source
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.library import choose_terms
from metaplast.watch.console import make_console

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
    """Timed calls of each row, at most 3 for slow engines; the median is reported."""
    episodes: int = 16
    """Episodes per call, for engines that take several."""
    threads: int = 2
    """Cores to use; the fused engine is also timed on one."""
    steps: tuple[int, ...] = (250, 1000, 4000, 10000)
    """Numbers of online steps; the peers are timed only with the first number."""
    engines: str = "eager-loop,jax,jax-vmap,reference,batched,compiled,fused"
    """Names of the engines and peers to time."""
    dataset: str | None = None
    """A source of episodes, such as emnist, on which to measure what dropping dark pixels saves."""
    data_root: Path | None = None
    """Folder with data sets."""

    def __post_init__(self) -> None:
        """Check everything but the data now: an error would otherwise come after minutes.

        Raises:
            UserError: if a number is out of range, an engine is unknown, or the file cannot be
                written.
        """
        require_within("--repeats", self.repeats, 1, 1000)
        require_within("--episodes", self.episodes, 1, 10_000)
        require_within("--threads", self.threads, 1, max(2, cores()))
        require(bool(self.steps), "--steps takes numbers with commas, such as 250,1000, got none.")
        for steps in self.steps:
            require_within("--steps", steps, 1, 1_000_000)
        for name in self.wanted:
            if name not in PEERS:
                get_engine(name)
        if self.dataset is not None:
            get_source(self.dataset)
            require(
                "fused" in self.wanted,
                "--dataset is for the fused engine, which drops dark pixels; name fused in "
                "--engines, or leave --dataset out.",
            )
        require_writable("--json", self.json)

    @property
    def wanted(self) -> list[str]:
        """The engines to time, without repetitions."""
        return list(dict.fromkeys(words("--engines", self.engines, "engine")))


@dataclass(frozen=True)
class Case:
    """One row of the table: which engine unrolls which problem."""

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
    """Return the rows to measure."""
    wanted = options.wanted
    first, *longer = options.steps
    for rule in (PUBLISHED, ALL):
        for engine in wanted:
            slow = engine in ("eager-loop", "reference")
            if slow and rule == ALL:
                continue  # Minutes per call.
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


def check_data(case: Case) -> EpisodeSplit | None:
    """Return the episodes of a row's data set, or None without a data set.

    Raises:
        UserError: if the data cannot be read, or do not fit the network.
    """
    if case.dataset is None:
        return None
    require(
        case.steps >= CLASSES,
        f"--dataset needs {CLASSES} steps or more, one for each class of an episode, got --steps "
        f"{case.steps} first.",
    )
    request = EpisodeRequest(
        ways=CLASSES, shots=case.steps // CLASSES, queries=QUERIES, data_root=case.data_root
    )
    split = open_source(case.dataset, request)
    require(
        split.inputs == WIDTHS[0] and split.outputs <= WIDTHS[-1] and split.binding is None,
        f"--dataset must have images of {WIDTHS[0]} pixels and at most {WIDTHS[-1]} classes, got "
        f"{split.inputs} pixels and {split.outputs} classes; choose another, such as emnist.",
    )
    return split


def _episodes(case: Case) -> EpisodeBatch:
    generator = torch.Generator().manual_seed(0)
    split = check_data(case)
    if split is not None:
        return split.train.sample(case.episodes, generator)
    counts = (case.steps, CLASSES * QUERIES)
    cpu = torch.device("cpu")
    images = [
        torch.rand(
            case.episodes, n, WIDTHS[0], generator=generator, dtype=torch.float32, device=cpu
        )
        for n in counts
    ]
    labels = [
        torch.randint(
            CLASSES, (case.episodes, n), generator=generator, dtype=torch.int64, device=cpu
        )
        for n in counts
    ]
    return EpisodeBatch(images[0], labels[0], images[1], labels[1])


def make_problem(case: Case) -> Problem:
    """Return the episodes, weights and coefficients of a row; every step changes the weights."""
    learner = Learner.on_stack(FullyConnected(WIDTHS), "fixed", choose_terms(case.rule).terms)
    # So small that the longest unroll stays finite; the time does not depend on the values.
    theta = torch.full((len(learner.terms),), 1e-7, dtype=torch.float32, device="cpu")
    theta[0] = 1e-4
    state = learner.draw(case.episodes, torch.Generator().manual_seed(1))
    return Problem(learner, theta, state, _episodes(case))


def make_run(case: Case, problem: Problem) -> tuple[Callable[[], Any], float | None]:
    """Return the call to time, and its peak memory in MB if that is known in advance."""
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
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def measure(case: Case) -> dict[str, Any]:
    """Return one row: median seconds per episode, peak memory per episode and first-call cost.

    Peak memory is the memory of a call beyond what the process held before it. Memory for
    compilation is not counted.
    """
    torch.set_num_threads(case.threads)
    problem = make_problem(case)
    before = time.perf_counter()
    # Compile the fused engine on a small problem: it keeps its memory for the next call.
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
    except Exception as error:  # An error ends only this row.
        connection.send({"error": explained(error)})


def _apart(case: Case) -> dict[str, Any]:
    """Measure a row in a separate process; return it, or {"error": reason}."""
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
        return {"error": "its process died, perhaps because it ran out of memory"}
    except BaseException:
        process.kill()
        raise
    finally:
        process.join()
    return row


def main(arguments: Sequence[str]) -> None:
    """Run the command.

    Raises:
        UserError: if an option or the data are invalid, or a row could not be measured.
    """
    options = parse(BenchmarkOptions, arguments, prog="benchmark", description=__doc__)
    console, rows = make_console(), list[dict[str, Any]]()
    chosen = list(cases(options))
    with_data = next((case for case in chosen if case.dataset is not None), None)
    if with_data is not None:
        check_data(with_data)  # All such rows have the same data.
    failed: dict[str, str] = {}
    for case in chosen:
        if case.engine.startswith("jax") and importlib.util.find_spec("jax") is None:
            console.out(f"{case.engine}: skipped, JAX is not installed (uv sync --group bench).")
            continue
        row = _apart(case)
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
        console.print(table(rows, {PUBLISHED: PUBLISHED, ALL: "all ten"}))
    if options.json is not None:
        write_json(options.json, rows)
    if failed:
        name, reason = next(iter(failed.items()))
        raise UserError(f"{len(failed)} rows failed, the first being {name}: {reason}")
