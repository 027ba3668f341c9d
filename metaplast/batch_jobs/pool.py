"""Many discoveries at once, each in its own folder: on this machine's cores or on Ray.

A folder of jobs holds `jobs.json` and one run folder per job. A finished job has a `job.json`. An
interrupted job continues from its checkpoint, so a command that is restarted in the same folder
does only the remaining work.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metaplast.base.errors import UserError, require
from metaplast.base.family import INTERRUPTS, interrupts_held, worker_ends_with_parent
from metaplast.base.files import read_json, write_json
from metaplast.base.locks import locked
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.threads import torch_on_one_thread
from metaplast.base.trouble import explained
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.result import Result
from metaplast.discovery.run import Discovery, Observer
from metaplast.discovery.run_config import config_digest
from metaplast.discovery.run_folder import SUMMARY, RunFiles
from metaplast.meta.outer_loop import OuterLoop, Record
from metaplast.watch.estimate import TimeLeft

JOBS = "jobs.json"
# A job's summary with what `Jobs.extra` adds; it is written last, so it marks the job as finished.
DONE = "job.json"
PROGRESS = "progress.json"
# Seconds between two checks of the jobs.
TICK = 0.5

# Returns entries to add to a job's summary.
Extra = Callable[[Result], dict[str, Any]]

# Set in a worker that was told to stop: it must not start another job.
_stopped = threading.Event()
# The function that a worker is running, if any: only then is there something to interrupt.
_working: list[Callable[..., Any]] = []


@dataclass(frozen=True)
class Jobs:
    """Discoveries to run, and their folder.

    Attributes:
        folder: holds one run folder for each job.
        configs: what to run, by name; the name becomes the folder's.
        extra: a module-level function of a result, whose entries are added to the job's summary.
    """

    folder: Path
    configs: Mapping[str, DiscoveryConfig]
    extra: Extra | None = None

    def __post_init__(self) -> None:
        """Accept the folder as text too."""
        object.__setattr__(self, "folder", as_path(self.folder, "folder"))

    def save(self, **options: Any) -> None:
        """Write `jobs.json`, with the options of the command beside the configurations."""
        data = {name: config.to_json() for name, config in self.configs.items()}
        write_json(self.folder / JOBS, {"options": options, "jobs": data})

    @classmethod
    def load(cls, folder: AnyPath, extra: Extra | None = None) -> tuple[Jobs, dict[str, Any]]:
        """Return the jobs in a folder, and the options that `save` wrote.

        Raises:
            UserError: if the folder holds no jobs, or its file is damaged.
        """
        folder = as_path(folder, "folder")
        require(
            (folder / JOBS).exists(),
            f"{folder} holds no jobs ({JOBS} is missing); give --resume the folder that an "
            f"earlier command wrote.",
        )
        data = read_json(folder / JOBS, "the jobs of a command")
        try:
            configs = {
                name: DiscoveryConfig.from_json(config) for name, config in data["jobs"].items()
            }
            options = dict(data["options"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{folder / JOBS} is damaged ({error}); start the command again in a new folder."
            ) from None
        for name in configs:
            require(
                Path(name).name == name and name not in ("", ".."),
                f"{folder / JOBS} is damaged (a job cannot have a folder called {name!r}); start "
                f"the command again in a new folder.",
            )
        return cls(folder, configs, extra), options

    def fraction(self, name: str) -> float:
        """Return how much of a job is done, from 0 to 1, according to its folder."""
        with contextlib.suppress(OSError, ValueError, KeyError, ZeroDivisionError):
            seen = json.loads((self.folder / name / PROGRESS).read_text(encoding="utf-8"))
            return min(1.0, float(seen["done"]) / float(seen["total"]))
        return 0.0

    def run(
        self,
        *,
        processes: int = 0,
        ray: str | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each job's name and summary as it ends; a job that failed has an "error".

        Args:
            processes: how many in parallel; 0 for one per core. Each uses one thread.
            ray: address of a Ray cluster to run on instead; "auto" finds one.
            tick: called about every `TICK` seconds while jobs run.

        Raises:
            UserError: if a worker dies, or Ray is not available.
        """
        left = []
        for name in self.configs:
            done = self.folder / name / DONE
            if done.exists():
                summary = read_json(done, "the summary of a job")
                require(
                    isinstance(summary, dict), f"{done} is damaged; delete it to repeat the job."
                )
                require(
                    summary.get("config") in (None, config_digest(self.configs[name])),
                    f"{self.folder / JOBS} was changed after {name} was done; put it back, or "
                    f"start the command again in a new folder.",
                )
                yield name, summary
            else:
                left.append(name)
        calls = {
            name: (self.configs[name].to_json(), str((self.folder / name).resolve()), self.extra)
            for name in left
        }
        yield from _on_ray(calls, ray, tick) if ray else on_cores(run_job, calls, processes, tick)


class Heartbeat:
    """Writes the progress of a discovery to its folder, for the process that waits for it.

    Args:
        folder: of the discovery.
        seconds: least time between two writes.
    """

    def __init__(self, folder: Path, seconds: float = 2.0) -> None:
        self._folder, self._seconds = folder, seconds
        self._left, self._written = TimeLeft(), 0.0

    def begin(self, discovery: Discovery) -> None:
        """Count what earlier parts of the run have done."""
        self._left.begin(discovery)
        self._beat()

    def record(self, loop: OuterLoop, record: Record) -> None:
        """Count the episodes of one outer step."""
        self._left.record(loop, record)
        self._beat()

    def tested(self, name: str, episodes: int) -> None:
        """Count some tested episodes."""
        self._left.tested(name, episodes)
        self._beat()

    def finish(self, result: Result) -> None:
        """Do nothing: the summary contains the result."""

    def _beat(self) -> None:
        if time.monotonic() - self._written < self._seconds:
            return
        self._written = time.monotonic()
        progress = {"done": self._left.done, "total": max(1, self._left.total)}
        write_json(self._folder / PROGRESS, progress)


def guarded(function: Callable[..., dict[str, Any]], *call: Any) -> dict[str, Any]:
    """Return a function's result, computed on one torch thread; an error as {"error": sentence}.

    Raises:
        KeyboardInterrupt: in a worker that was told to stop; then the function is not called.
    """
    if _stopped.is_set():
        raise KeyboardInterrupt
    _working.append(function)
    try:
        with torch_on_one_thread():
            return function(*call)
    except Exception as error:
        return {"error": explained(error)}
    finally:
        _working.pop()


def run_job(config: dict[str, Any], folder: str, extra: Extra | None) -> dict[str, Any]:
    """Run or continue a discovery, and return its summary.

    Args:
        config: as `DiscoveryConfig.to_json` gives it.
        folder: of the run.
        extra: see `Jobs`.
    """
    place = Path(folder)
    observers: list[Observer] = [RunFiles(place), Heartbeat(place)]
    # A worker of a command that was just killed may still hold the lock.
    with locked(place, patience=10.0, make=True):
        begun = Discovery.in_folder(DiscoveryConfig.from_json(config), place, observers=observers)
        result = begun.run()
        done: dict[str, Any] = read_json(place / SUMMARY, "the summary of a run")
        done |= {} if extra is None else extra(result)
        write_json(place / DONE, done)
    return done


# Arguments of each call, by name.
Calls = Mapping[str, tuple[Any, ...]]


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_cores(
    function: Callable[..., dict[str, Any]],
    calls: Calls,
    processes: int,
    tick: Callable[[], None] = lambda: None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Call a module-level function in parallel processes; yield each name and result as it ends.

    Args:
        function: called through `guarded`.
        calls: arguments of each call, by name.
        processes: how many in parallel; 0 for one per core.
        tick: called about every `TICK` seconds.

    Raises:
        UserError: if a worker dies.
    """
    if not calls:
        return
    workers = min(processes or cores(), len(calls))
    # Not forked: a fork of a process with threads of torch and numba may hang.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker)
    futures: dict[Future[dict[str, Any]], str] = {}
    try:
        with interrupts_held():
            for name, call in calls.items():
                futures[executor.submit(guarded, function, *call)] = name
        while futures:
            finished, _ = wait(futures, TICK, FIRST_COMPLETED)
            tick()
            for future in finished:
                yield futures.pop(future), future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process died, perhaps because it ran out of memory; finished work is kept, "
            "so start again with fewer --processes (and with --resume if the command has it)."
        ) from None
    except BaseException:
        # Ctrl-C reaches the workers too; a signal sent only to this process does not.
        for child in multiprocessing.active_children():
            # A worker may end in the meantime.
            with contextlib.suppress(ProcessLookupError):
                if child.pid is not None:
                    os.kill(child.pid, signal.SIGINT)
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Make a worker end with its parent, and its job end, with its state saved, at an interrupt."""
    worker_ends_with_parent()
    for each in INTERRUPTS:
        signal.signal(each, _stop)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)


def _stop(*_: object) -> None:
    """Interrupt the current job, if there is one and this is the first signal; start no other."""
    first = not _stopped.is_set()
    _stopped.set()
    if first and _working:
        raise KeyboardInterrupt


def require_ray() -> None:
    """Raise `UserError` if Ray is not installed."""
    try:
        import ray  # noqa: F401
    except ImportError:
        raise UserError(
            "--ray needs the package ray, which is not installed; install metaplast[ray]."
        ) from None


def _on_ray(
    calls: Calls, address: str, tick: Callable[[], None]
) -> Iterator[tuple[str, dict[str, Any]]]:
    require_ray()
    import ray

    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no Ray cluster was found at {address!r} ({type(error).__name__}); start one with "
            f"`ray start --head`, or omit --ray."
        ) from None
    remote = ray.remote(num_cpus=1, max_retries=2)(guarded)
    waiting = {remote.remote(run_job, *call): name for name, call in calls.items()}
    try:
        while waiting:
            finished, _ = ray.wait(list(waiting), num_returns=1, timeout=TICK)
            tick()
            for reference in finished:
                name = waiting.pop(reference)
                try:
                    yield name, ray.get(reference)
                except ray.exceptions.RayError as error:
                    yield name, {"error": f"Ray: {type(error).__name__}"}
    finally:
        for reference in waiting:
            ray.cancel(reference)
        ray.shutdown()
