"""Notices of what a run left out, counted during the run and reported at its end."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar


class NoticeWarning(UserWarning):
    """Something was left out of a computation. Each kind of event leads to one warning."""


class Notices:
    """How often each kind of event happened, and a description of the first one."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def add(self, what: str, count: int, first: Callable[[], str]) -> None:
        """Count events of a kind; `first` is called only for the first one."""
        if what not in self._counts:
            self._first[what] = first()
        self._counts[what] = self._counts.get(what, 0) + count

    def count(self, what: str) -> int:
        """Return how often a kind of event happened."""
        return self._counts.get(what, 0)

    @property
    def lines(self) -> tuple[str, ...]:
        """One sentence for each kind."""
        return tuple(
            f"{count:,} {what}; the first: {self._first[what]}."
            for what, count in self._counts.items()
        )


_OPEN: ContextVar[Notices | None] = ContextVar("notices", default=None)
_WARNED: set[str] = set()


@contextlib.contextmanager
def collected() -> Iterator[Notices]:
    """Collect the notices given inside the block; without this, they become warnings."""
    notices = Notices()
    token = _OPEN.set(notices)
    try:
        yield notices
    finally:
        _OPEN.reset(token)


def notice(what: str, count: int, first: Callable[[], str]) -> None:
    """Count events of a kind; without a collector, warn once in a process.

    Args:
        what: the kind, in words that follow a number, such as "inputs did not settle".
        count: the number of events.
        first: returns a description of the event; called only for the first event of its kind.
    """
    notices = _OPEN.get()
    if notices is not None:
        notices.add(what, count, first)
    elif what not in _WARNED:
        _WARNED.add(what)
        warnings.warn(f"{what}; the first: {first()}.", NoticeWarning, stacklevel=2)
