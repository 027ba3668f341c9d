"""End a loop in which nothing can be learned."""

from __future__ import annotations

from collections.abc import Sequence

from metaplast.base.errors import UserError
from metaplast.meta.record import Record


class StandstillError(UserError):
    """Every episode of many outer steps diverged, so the search makes no progress."""


def refuse_standstill(
    history: Sequence[Record], divergences: Sequence[str], episodes: int, limit: int = 50
) -> None:
    """Raise `StandstillError` if every episode of the last `limit` steps diverged.

    Args:
        history: records of the steps so far.
        divergences: how episodes diverged.
        episodes: number of episodes in a step.
        limit: number of steps.
    """
    last = history[-limit:]
    if len(last) == limit and all(record.non_finite == episodes for record in last):
        raise StandstillError(
            f"every episode of the last {limit} outer steps diverged ({divergences[-1]}); lower "
            f"--meta-lr or --shots, or leave that term out."
        )
