"""The start of every command. It imports little, so that Ctrl-C works while the rest is loaded."""

from __future__ import annotations

import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

INTERRUPTED, MISTAKE = 130, 2
# OpenMP and numba read these while they load; OpenMP takes one number for each nesting level.
_THREADS = {"OMP_NUM_THREADS": r"\d+(\s*,\s*\d+)*", "NUMBA_NUM_THREADS": r"\d+"}
_MOST_THREADS = 65536


def main() -> int:
    """Run `metaplast NAME …`; return the exit code."""
    return _start(sys.argv[1:])


def script(name: str) -> int:
    """Run the command `name` with the arguments of the process; return its exit code."""
    return _start([name, *sys.argv[1:]])


def _start(arguments: list[str]) -> int:
    mistake = wrong_threads()
    if mistake is not None:
        print(f"error: {mistake}", file=sys.stderr)
        return MISTAKE
    with _ending_at_once():
        command: Callable[[], int] = importlib.import_module("metaplast.commands").find(arguments)
    return command()


def wrong_threads() -> str | None:
    """Return what is wrong with the variables that set numbers of threads, else None."""
    for name, pattern in _THREADS.items():
        value = os.environ.get(name, "").strip()
        if not value:
            os.environ.pop(name, None)
            continue
        numbers = re.findall(r"\d+", value) if re.fullmatch(pattern, value, re.ASCII) else []
        if not numbers or not all(1 <= int(each[:9]) <= _MOST_THREADS for each in numbers):
            return (
                f"the environment variable {name} must be a whole number of threads from 1 to "
                f"{_MOST_THREADS}, got {value!r}; set another number, or unset it."
            )
    return None


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Have Ctrl-C end the process without a traceback, because no work has started."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end(*_: object) -> None:
    # An exception would pass through half-loaded modules, which could turn it into other errors.
    os.write(2, b"Interrupted.\n")
    os._exit(INTERRUPTED)
