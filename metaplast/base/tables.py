"""The look of printed tables."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.table import Table


def new_table(title: str, caption: str | None = None, **options: Any) -> Table:
    """Return a table with a line below its heads, title and caption on the left.

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
