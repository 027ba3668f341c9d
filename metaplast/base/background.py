"""Persistent threads, for work that releases Python's global lock and so runs in parallel.

A new thread must wait for Python's global lock before it begins, which takes milliseconds while
another thread computes. So threads are kept and reused. In these threads, torch starts no threads
of its own.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache, partial
from typing import Any, TypeVar

from metaplast.base.threads import torch_on_one_thread

Item = TypeVar("Item")
Result = TypeVar("Result")

_here = threading.local()
# Work to do while this thread waits for others.
_waiting: ContextVar[list[Callable[[], None]] | None] = ContextVar("waiting", default=None)
# Parts of the error messages when no thread can start: the system refuses, or Python is exiting.
_REFUSALS = ("start new thread", "schedule new futures")


def _begin() -> None:
    """Initialise a kept thread. It must be started while torch is limited to one thread.

    Torch decides once for each thread how many more threads it may start from there.
    """
    _here.is_kept = True
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.get_num_threads()


@cache
def _kept(name: str, count: int) -> ThreadPoolExecutor:
    """Return the kept threads with a name.

    All of them have begun while torch was limited to one thread. A thread that began later would
    use torch's normal number of threads for as long as it is kept.

    Raises:
        RuntimeError: if the system allows no more threads.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix=f"metaplast-{name}", initializer=_begin)
    all_began = threading.Barrier(count + 1)
    try:
        with torch_on_one_thread():
            for _ in range(count):
                pool.submit(all_began.wait)
            all_began.wait()
    except BaseException:
        # End the threads that have begun, even after an interrupt: Python waits for them at exit.
        all_began.abort()
        pool.shutdown(cancel_futures=True)
        raise
    return pool


def forget_threads() -> None:
    """Use new threads from now on; the existing ones end when their calls are done."""
    _kept.cache_clear()


# A forked process has none of its parent's threads.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_threads)


def _submitted(
    name: str, count: int, calls: Sequence[Callable[[], Result]]
) -> list[Future[Result]]:
    """Start calls on kept threads; return an empty list if the system allows no more threads."""
    begun: list[Future[Result]] = []
    try:
        pool = _kept(name, count)
        for call in calls:
            begun.append(pool.submit(call))
    except RuntimeError as error:
        if not any(reason in str(error) for reason in _REFUSALS):
            raise
        # Cancel only these calls: the user's other threads may have calls in the same queue.
        _end(begun)
        return []
    return begun


def _end(calls: Sequence[Future[Result]]) -> None:
    """Cancel calls that have not begun, and wait for the others."""
    wait([call for call in calls if not call.cancel()])


def begun(make: Callable[[], Result]) -> Future[Result]:
    """Start a call in another thread; such calls run one after another, in order.

    If the system allows no more threads, the call runs in the caller's thread.
    """
    context = copy_context()

    def call() -> Result:
        return context.run(make)

    for future in _submitted("ahead", 1, [call]):
        return future
    here: Future[Result] = Future()
    try:
        here.set_result(call())
    except Exception as error:
        here.set_exception(error)
    return here


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yield items; while the caller uses one item, another thread makes the next.

    If making an item fails, the error is raised when the caller asks for that item.

    Args:
        items: makes the items; must not depend on what the caller does with them.
    """
    end: Any = object()
    make = partial(next, items, end)
    following = begun(make)
    try:
        while (item := following.result()) is not end:
            following = begun(make)
            yield item
    finally:
        _end([following])


@contextmanager
def meanwhile(work: Callable[[], None]) -> Iterator[None]:
    """Do some work once in this thread, while the block waits in `on_threads`.

    If the block does not call `on_threads`, the work is done at the end of the block. If the block
    raises an error first, the work is not done.
    """
    token = _waiting.set([work])
    try:
        yield
        _do_waiting()
    finally:
        _waiting.reset(token)


def _do_waiting() -> None:
    waiting = _waiting.get()
    if waiting:
        waiting.pop()()


def on_threads(run: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Return what `run` returns for each item, in order.

    Meanwhile, torch starts no threads of its own. If the system allows no more threads, the calls
    run one after another, so that a long run does not fail.

    Args:
        run: the function; it may be called twice with an item.
        items: its arguments.
        threads: the largest number of calls at once.
    """
    threads = min(threads, len(items))
    # A kept thread must not wait for others.
    if threads <= 1 or getattr(_here, "is_kept", False):
        return [run(item) for item in items]
    with torch_on_one_thread():
        calls = _submitted("calls", threads, [partial(run, item) for item in items])
        if not calls:
            return [run(item) for item in items]
        try:
            _do_waiting()
            return [call.result() for call in calls]
        finally:
            # After an error or an interrupt, no call may still write to the caller's arrays.
            _end(calls)
