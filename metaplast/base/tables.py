"""The look of printed tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

# Columns of wrapped text are at least this wide, or as wide as their longest text if it is shorter.
SHORTEST = 24


def new_table(title: str, caption: str | None = None, **options: Any) -> Table:
    """Return a table with a line below its header, and title and caption on the left.

    Args:
        title: above the table.
        caption: below it.
        options: the options of `rich.table.Table`.
    """
    return Table(
        title=title,
        caption=caption,
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        **options,
    )


def add_whole_column(table: Table, head: str, *, right: bool) -> None:
    """Add a column whose cells are never wrapped, with text on the left or on the right."""
    table.add_column(head, justify="right" if right else "left", overflow="fold", no_wrap=True)


def add_broken_column(table: Table, head: str, texts: Iterable[str]) -> None:
    """Add a column whose texts, such as formulas, may be wrapped, but not into single letters.

    Args:
        table: the table.
        head: the header of the column.
        texts: the texts that the column will hold.
    """
    longest = max(map(len, texts), default=0)
    table.add_column(head, overflow="fold", min_width=min(SHORTEST, longest))


def first_that_fits(tables: Iterable[Table], width: int) -> Table:
    """Return the first table that can be printed in a width; the last one if none can."""
    console = Console(width=10_000)
    for table in tables:
        if Measurement.get(console, console.options, table).minimum <= width:
            break
    return table
