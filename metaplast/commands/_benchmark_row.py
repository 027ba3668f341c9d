"""One row of the benchmark: an engine or a peer on one problem, timed in a separate process."""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from metaplast.base.errors import require
from metaplast.base.family import worker_ends_with_parent
from metaplast.base.trouble import explained
from metaplast.commands._jax_peers import jax_scan
from metaplast.commands._peers import eager_loop
from metaplast.engines import Problem, get_engine
from metaplast.engines.batched import BatchedEngine
from metaplast.engines.fused import FusedEngine, Settings
from metaplast.systems.feedback import STACK
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.timing import Timing
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.library import open_source
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.library import choose_terms

WIDTHS = (784, 170, 130, 100, 70, 47)
CLASSES, QUERIES = 5, 10
PEERS = ("eager-loop", "jax", "jax-vmap")
# The batched engine with a torch operation for every time step of a sequence.
LOOPS = "batched-loops"
# Torch does not compute these: fused runs on the CPU, and JAX chooses its own device.
ELSEWHERE = ("fused", "jax", "jax-vmap")
# An image is seen for 5 of 50 time steps.
RECURRENT, OUTPUTS, DELAYED = "recurrent", 10, Timing(1, 5, 50)


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
    system: str = STACK
    inputs: int = WIDTHS[0]
    neurons: int = 100
    device: str = "cpu"

    @property
    def on_cuda(self) -> bool:
        """Whether torch computes this row on CUDA."""
        return self.device != "cpu" and self.engine not in ELSEWHERE


def check_data(case: Case) -> EpisodeSplit | None:
    """Return the episodes of a row's data set, or None without a data set.

    Raises:
        UserError: if the data cannot be read, or do not fit the network.
    """
    if case.dataset is None:
        return None
    require(
        case.steps >= CLASSES,
        f"--dataset needs at least {CLASSES} steps, one for each class of an episode, but --steps "
        f"begins with {case.steps}.",
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
    frames = (1,) if case.system == RECURRENT else ()
    images = [
        torch.rand(
            case.episodes, n, *frames, case.inputs, generator=generator, dtype=torch.float32,
            device=cpu,
        )
        for n in counts
    ]  # fmt: skip
    labels = [
        torch.randint(
            CLASSES, (case.episodes, n), generator=generator, dtype=torch.int64, device=cpu
        )
        for n in counts
    ]
    return EpisodeBatch(images[0], labels[0], images[1], labels[1])


def make_problem(case: Case) -> Problem:
    """Return the episodes, weights and coefficients of a row; every step changes the weights."""
    terms = choose_terms(case.rule).terms
    if case.system == RECURRENT:
        widths = (case.inputs, case.neurons, OUTPUTS)
        learner = Learner(Recurrent(widths, DELAYED, feedback_name="fixed"), terms)
    else:
        learner = Learner.on_stack(FullyConnected(WIDTHS), "fixed", terms)
    # Small enough for the longest unroll to stay finite; the time does not depend on the values.
    theta = torch.full((len(learner.terms),), 1e-7, dtype=torch.float32, device="cpu")
    theta[0] = 1e-4
    state = learner.draw(case.episodes, torch.Generator().manual_seed(1))
    problem = Problem(learner, theta, state, _episodes(case))
    return problem.on(case.device) if case.on_cuda else problem


def make_run(case: Case, problem: Problem) -> tuple[Callable[[], Any], float | None]:
    """Return the call to time, and its peak memory in MB if that is known in advance."""
    if case.engine == "eager-loop":
        return eager_loop(problem), None
    if case.engine in PEERS:
        return jax_scan(problem, vectorised=case.engine == "jax-vmap")
    if case.engine == LOOPS:
        return (lambda: BatchedEngine(scans=False).run(problem)), None
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


def _device_of(case: Case) -> str:
    """Return the device that computed a row; JAX uses a GPU if it finds one and may use it."""
    if case.engine.startswith("jax"):
        import jax  # type: ignore[import-not-found,unused-ignore]

        return "cuda" if jax.default_backend() == "gpu" else "cpu"
    return case.device if case.on_cuda else "cpu"


@dataclass(frozen=True)
class _Meter:
    """Waits until a device has finished, and reads how much of its memory is in use."""

    gpu: torch.device | None

    def wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize(self.gpu)

    def held(self) -> float:
        return torch.cuda.memory_allocated(self.gpu) / 2**20 if self.gpu else _status("VmRSS")

    def reset(self) -> None:
        if self.gpu:
            torch.cuda.reset_peak_memory_stats(self.gpu)
        else:
            _reset_peak()

    def peak(self) -> float:
        return torch.cuda.max_memory_allocated(self.gpu) / 2**20 if self.gpu else _status("VmHWM")


def measure(case: Case) -> dict[str, Any]:
    """Return one row: median seconds per episode, peak memory per episode and first-call cost.

    Peak memory is what a call uses beyond what the process held before it, on the device that
    computes the row. Memory for compilation is not counted.
    """
    torch.set_num_threads(case.threads)
    problem = make_problem(case)
    meter = _Meter(torch.device(case.device) if case.on_cuda else None)
    before = time.perf_counter()
    # Compile the fused engine on a small problem, because it keeps the memory of a call for the
    # next one.
    small = replace(case, steps=5, episodes=1, dataset=None) if case.engine == "fused" else None
    run, planned = make_run(case, make_problem(small) if small else problem)
    run()
    meter.wait()
    first, held = time.perf_counter() - before, meter.held()
    if small:
        run, planned = make_run(case, problem)
    meter.reset()
    seconds, used = [], []
    for _ in range(case.repeats):
        start, begun = time.perf_counter(), time.process_time()
        run()
        meter.wait()
        seconds.append(time.perf_counter() - start)
        used.append(time.process_time() - begun)
    peak = planned if planned is not None else max(0.0, meter.peak() - held)
    row = {k: v for k, v in asdict(case).items() if k not in ("data_root", "repeats")}
    return row | {
        "device": _device_of(case),
        "seconds_per_episode": statistics.median(seconds) / case.episodes,
        "best_seconds_per_episode": min(seconds) / case.episodes,
        # Summed over all cores; other processes on the machine do not count.
        "cpu_seconds_per_episode": statistics.median(used) / case.episodes,
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


def measure_apart(case: Case) -> dict[str, Any]:
    """Measure a row in a separate process; return it, or {"error": reason}."""
    os.environ |= {
        "OMP_NUM_THREADS": str(case.threads),
        "JAX_PLATFORMS": "cpu" if case.device == "cpu" else "",
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
