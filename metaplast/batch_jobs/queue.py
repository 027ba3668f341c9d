"""A queue of calls, run in worker processes on this machine's cores, on Ray, or one by one here.

The caller gets the name and answer of each call as it ends, and a tick now and then. An error
becomes an answer {"error": sentence}, so that one failed call does not stop the others. Workers end
with their parent. After an interrupt, each worker saves its state, and no new call starts.

The queue stores no results: its users write them to files, and leave out the calls whose results
exist. A worker may write a `ProgressFile` for the process that waits for it.
"""

from __future__ import annotations

import contextlib
import json
import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from metaplast.base.errors import UserError
from metaplast.base.family import INTERRUPTS, interrupts_held, worker_ends_with_parent
from metaplast.base.files import write_json
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.threads import torch_on_one_thread
from metaplast.base.trouble import explained
from metaplast.batch_jobs.ray_cluster import on_cluster, require_ray

PROGRESS = "progress.json"
# Seconds between two ticks.
TICK = 0.5

Answer = dict[str, Any]
# A module-level function, so that other processes can import it.
Function = Callable[..., Answer]
# The arguments of each call, by name.
Calls = Mapping[str, tuple[Any, ...]]
Answers = Iterator[tuple[str, Answer]]
Tick = Callable[[], None]
Run = Callable[[Function, Calls], Answers]

# Set in a worker that was told to stop: it must not start another call.
_stopped = threading.Event()
# The function that a worker is running, if any: only then is there something to interrupt.
_working: list[Function] = []


def no_tick() -> None:
    """Do nothing."""


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass(frozen=True)
class Queue:
    """Where calls run, and how many at once.

    Attributes:
        processes: how many in parallel; 0 for one per core. Each uses one thread.
        ray: address of a Ray cluster to run on instead; "auto" finds one.
        inline: whether `processes=1` means this process, without ticks, instead of a worker.
    """

    processes: int = 0
    ray: str | None = None
    inline: bool = False

    def check(self) -> None:
        """Raise `UserError` if Ray is wanted but not installed."""
        if self.ray is not None:
            require_ray()

    def at_once(self, calls: int) -> int:
        """Return how many of `calls` run in parallel in one machine's memory."""
        return 1 if self.ray else min(self.processes or cores(), calls)

    def run(self, function: Function, calls: Calls, tick: Tick = no_tick) -> Answers:
        """Yield each call's name and answer as it ends; a call that failed has an "error".

        Args:
            function: a module-level function; called through `guarded`.
            calls: arguments of each call, by name.
            tick: called about every `TICK` seconds while workers run.

        Raises:
            UserError: if a worker dies, or Ray is not available.
        """
        if self.ray:
            return on_cluster(guarded, function, calls, self.ray, tick, TICK)
        if self._is_here:
            return ((name, guarded(function, *call)) for name, call in calls.items())
        return on_cores(function, calls, self.processes, tick)

    @contextmanager
    def kept(self, most: int) -> Iterator[Run]:
        """Yield a `run` that may be called repeatedly; its workers live until the context ends.

        Starting workers for each run would cost seconds, because they load torch again.

        Args:
            most: calls in one run.
        """
        if self.ray or self._is_here:
            yield self.run
            return
        with Workers(self.at_once(max(1, most))) as workers:
            yield workers.run

    @property
    def _is_here(self) -> bool:
        return self.inline and self.processes == 1


def guarded(function: Function, *call: Any) -> Answer:
    """Return a function's answer, computed on one torch thread; an error as {"error": sentence}.

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


def on_cores(function: Function, calls: Calls, processes: int, tick: Tick = no_tick) -> Answers:
    """Run calls in worker processes of this machine; see `Queue`."""
    if not calls:
        return
    with Workers(Queue(processes).at_once(len(calls))) as workers:
        yield from workers.run(function, calls, tick)


class Workers:
    """Worker processes of this machine, which end with the context; each starts when needed.

    Args:
        number: the largest number of workers.
    """

    def __init__(self, number: int) -> None:
        # Not forked: a fork of a process with threads of torch and numba may hang.
        context = multiprocessing.get_context("spawn")
        self._executor = ProcessPoolExecutor(number, context, _begin_worker)

    def __enter__(self) -> Workers:
        """Do nothing: workers start with the first calls."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        self._executor.shutdown(cancel_futures=True)

    def run(self, function: Function, calls: Calls, tick: Tick = no_tick) -> Answers:
        """Run calls; see `Queue`. If the caller stops reading early, interrupt the workers."""
        futures: dict[Future[Answer], str] = {}
        try:
            with interrupts_held():
                for name, call in calls.items():
                    futures[self._executor.submit(guarded, function, *call)] = name
            while futures:
                finished, _ = wait(futures, TICK, FIRST_COMPLETED)
                tick()
                # In the order of the calls, so that one worker answers in that order.
                for future in [each for each in futures if each in finished]:
                    yield futures.pop(future), future.result()
        except BrokenProcessPool:
            raise UserError(
                "a worker process died, perhaps because it ran out of memory; finished work is "
                "kept, so start again with fewer --processes (and with --resume if the command has "
                "it)."
            ) from None
        except BaseException:
            _interrupt_workers()
            raise


def _interrupt_workers() -> None:
    """Interrupt the workers: unlike Ctrl-C, a signal to this process does not reach them."""
    for child in multiprocessing.active_children():
        # A worker may end in the meantime.
        with contextlib.suppress(ProcessLookupError):
            if child.pid is not None:
                os.kill(child.pid, signal.SIGINT)


def _begin_worker() -> None:
    """Make a worker end with its parent, and let a signal interrupt its call; see `_stop`."""
    worker_ends_with_parent()
    for each in INTERRUPTS:
        signal.signal(each, _stop)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)


def _stop(*_: object) -> None:
    """Interrupt the current call, if there is one and this is the first signal; start no other."""
    first = not _stopped.is_set()
    _stopped.set()
    if first and _working:
        raise KeyboardInterrupt


class ProgressFile:
    """Tells the process that waits for a call how much of it is done.

    Args:
        folder: the folder of the call.
        seconds: least time between two writes.
    """

    def __init__(self, folder: AnyPath, seconds: float = 2.0) -> None:
        self._path, self._seconds = as_path(folder, "folder") / PROGRESS, seconds
        # The clock may start at zero, but the first write must never be skipped.
        self._written = -math.inf

    def write(self, done: int, total: int) -> None:
        """Write the progress, unless it was written a moment ago."""
        if time.monotonic() - self._written >= self._seconds:
            self._written = time.monotonic()
            write_json(self._path, {"done": done, "total": max(1, total)})

    def fraction(self) -> float:
        """Return how much is done, from 0 to 1; 0 if nothing was written."""
        with contextlib.suppress(OSError, ValueError, KeyError, ZeroDivisionError):
            seen = json.loads(self._path.read_text(encoding="utf-8"))
            return min(1.0, float(seen["done"]) / float(seen["total"]))
        return 0.0
