"""The table of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from metaplast.base.tables import new_table


def table(rows: Sequence[Mapping[str, Any]], rules: Mapping[str, str]) -> Table:
    """Return a table that fits in 80 columns without cutting names.

    The last column is a row's time divided by that of the fastest row with the same rule and number
    of steps.

    Args:
        rows: as `measure` returns them.
        rules: the name of each rule in the table.
    """
    fastest: dict[Any, float] = {}
    for row in rows:
        key, seconds = (row["rule"], row["steps"]), row["seconds_per_episode"]
        fastest[key] = min(fastest.get(key, seconds), seconds)
    made = new_table(
        "Time and memory per episode, first call, and time relative to the fastest",
        _caption(rows),
        padding=(0, 1, 0, 0),
    )
    for head in ("engine", "rule"):
        made.add_column(head, no_wrap=True)
    for head in ("steps", "tasks", "cores", "s", "MB", "first s", "×"):
        made.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        made.add_row(
            _name(row), rules[row["rule"]], f"{row['steps']}", f"{row['episodes']}",
            f"{row['threads']}", f"{row['seconds_per_episode']:.4f}",
            f"{row['peak_mb_per_episode']:.1f}", f"{row['first_call_seconds']:.1f}",
            f"{row['seconds_per_episode'] / fastest[row['rule'], row['steps']]:.1f}",
        )  # fmt: skip
    return made


def _name(row: Mapping[str, Any]) -> str:
    if row["dataset"] is None:
        return f"{row['engine']}{'' if row['device'] == 'cpu' else ', CUDA'}"
    return f"{row['engine']}, data" if row["drop_pixels"] else f"{row['engine']}, no drop"


def _caption(rows: Sequence[Mapping[str, Any]]) -> str | None:
    names = {row["dataset"] for row in rows} - {None}
    if not names:
        return None
    return (
        f"data: episodes of {', '.join(sorted(names))}, dark pixels dropped; no drop: the same "
        f"with all pixels"
    )
