"""Calls on several threads, for work that releases Python's global lock."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from metaplast.base.threads import torch_on_one_thread

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_threads(run: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Return what `run` returns for each item, in order.

    Meanwhile, torch starts no threads of its own. If the system allows no more threads, the calls
    are made one after another, so that a long run does not end.

    Args:
        run: the function; it may be called twice with an item.
        items: its arguments.
        threads: calls at once, at most one for each item.
    """
    threads = min(threads, len(items))
    if threads <= 1:
        return [run(item) for item in items]
    with torch_on_one_thread():
        try:
            with ThreadPoolExecutor(threads) as pool:
                return list(pool.map(run, items))
        except RuntimeError as error:
            if "start new thread" not in str(error):
                raise
        return [run(item) for item in items]
