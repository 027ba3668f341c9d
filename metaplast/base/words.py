"""Lists of names or numbers that users write as one argument."""

from __future__ import annotations

import re

from metaplast.base.errors import require, shown

_BETWEEN = re.compile(r"\s*,\s*|\s+")


def words(flag: str, text: str, noun: str = "entry") -> list[str]:
    """Return the entries of a list such as `F0,F2` or `20, 10`.

    Entries are separated by commas, spaces or both; a comma may follow the last one.

    Args:
        flag: the option, for messages.
        text: the list as the user wrote it.
        noun: the word for an entry, for messages.

    Raises:
        UserError: if the list or one of its entries is empty.
    """
    found = _BETWEEN.split(text.strip())
    if len(found) > 1 and not found[-1]:
        found.pop()
    require(any(found), f"{flag} names no {noun}, got {shown(text)}; write a list with commas.")
    require(
        all(found),
        f"{flag} has an empty entry, got {shown(text)}; put one comma between entries.",
    )
    return found
