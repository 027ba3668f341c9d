"""Child processes that end when their parent ends, so that no orphan keeps computing."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import Any

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int, gone: Callable[[], object]) -> None:
    """Have this process end at once when its parent ends, for whatever reason.

    Args:
        parent: the parent's process id.
        gone: returns when the parent has ended; called in a thread.
    """

    def watch() -> None:
        with contextlib.suppress(OSError, ValueError):
            gone()
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
    if sys.platform == "linux":
        # This is faster than the thread, and works whatever the interpreter is doing.
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.name == "posix" and os.getppid() != parent:
        os._exit(1)  # The parent ended before the lines above took effect.


def worker_ends_with_parent() -> None:
    """Call `end_with_parent` in a process that `multiprocessing` started."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        end_with_parent(parent.pid, lambda: wait([parent.sentinel]))


def run_module(module: str, *arguments: str) -> None:
    """Run `python -m module` in a separate process; the module calls `module_ends_with_parent`.

    The new process has its own session, so Ctrl-C reaches only this process, which then ends the
    new one.
    """
    with subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.PIPE,
        start_new_session=os.name == "posix",
    ) as child:
        try:
            child.wait()
        except BaseException:
            child.kill()
            raise


def module_ends_with_parent() -> None:
    """Call `end_with_parent` in a process that `run_module` started: stdin ends with the parent.

    Do nothing in a process that a user started.
    """
    if not sys.stdin.isatty():
        end_with_parent(os.getppid(), lambda: os.read(0, 1))


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Hold interrupts while processes start, until they are ready to handle them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# The signals that ask a process to end, on systems that have them.
INTERRUPTS: Sequence[signal.Signals] = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal other than Ctrl-C; handled like an interrupt."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextmanager
def signals_as_interrupts() -> Iterator[None]:
    """Have the first SIGTERM or SIGHUP raise `Terminated`, so that work is saved; ignore the next.

    Signals that are already ignored (by nohup, for instance) stay ignored. Outside the main thread,
    nothing changes.
    """
    before: dict[signal.Signals, Any] = {}

    def stop(number: int, _: object) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)
        raise Terminated(number)

    if threading.current_thread() is threading.main_thread():
        for each in INTERRUPTS[1:]:
            if signal.getsignal(each) == signal.SIG_DFL:
                before[each] = signal.signal(each, stop)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
