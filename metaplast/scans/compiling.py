"""Compile the loops with numba, and print a line when that takes time.

This module imports numba.
"""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event

from metaplast.base.source_code import named_by_source

Function = TypeVar("Function", bound=Callable[..., Any])

_LINE = "metaplast: compiling loops, which takes up to half a minute"
_KEPT = ", once; they are kept on disk for the next run"


def compiled(function: Function) -> Function:
    """Return `function` compiled by numba on first use, and cached on disk if possible."""
    return _compiled(function, {"contract", "nsz", "arcp"})


def reordered(function: Function) -> Function:
    """Return `function` compiled so that sums may be reordered, which vectorises dot products."""
    return _compiled(function, {"contract", "nsz", "arcp", "reassoc"})


def _compiled(function: Function, flags: set[str]) -> Function:
    njit: Any = numba.njit  # numba's stub omits options.
    function = named_by_source(function, Path(__file__).parent)
    options = {"fastmath": flags, "error_model": "numpy", "nogil": True}
    try:
        made = njit(cache=True, **options)(function)
        announcement.of[made] = _LINE + _KEPT
    except RuntimeError:  # There is no folder in which compiled code can be cached.
        made = njit(**options)(function)
        announcement.of[made] = _LINE
    return cast(Function, made)


class Announcement(event.Listener):
    """Prints a line to stderr when numba begins to compile the first loop that is not on disk.

    Attributes:
        of: the line for each compiled function.
        is_due: whether a line may still be printed in this process: only once, and not in workers.
    """

    def __init__(self) -> None:
        self.of: dict[Any, str] = {}
        self.is_due = multiprocessing.parent_process() is None

    def on_start(self, event: event.Event) -> None:
        """Print the line if one of our functions is compiled."""
        line = self.of.get(event.data["dispatcher"])
        if line is not None and self.is_due:
            self.is_due = False
            print(f"{line} …", file=sys.stderr, flush=True)

    def on_end(self, event: event.Event) -> None:
        """Do nothing; numba requires this method."""


announcement = Announcement()
event.register("numba:compile", announcement)  # type: ignore[no-untyped-call]
