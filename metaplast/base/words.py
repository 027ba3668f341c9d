"""Lists that users write as one argument, and amounts in messages."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from metaplast.base.errors import require, shown, unknown_name

_BETWEEN = re.compile(r"\s*,\s*|\s+")
_PLURAL = re.compile(r"s\b")


def words(flag: str, text: str, noun: str = "entry") -> list[str]:
    """Return the entries of a list such as `F0,F2` or `20, 10`.

    Entries are separated by commas, spaces or both; a comma may follow the last entry.

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


def amount(number: int, many: str, one: str | None = None) -> str:
    """Return a number with its noun, in the singular if the number is 1.

    Args:
        number: how many there are.
        many: the noun in the plural, and what follows it: "groups of trials".
        one: `many` in the singular; by default, without the last s of its first word.
    """
    if number == 1:
        return f"1 {re.sub(_PLURAL, '', many, count=1) if one is None else one}"
    return f"{number} {many}"


def assignments(
    owner: str, entries: Iterable[str], names: Collection[str], usage: str
) -> dict[str, str]:
    """Return the values of settings written as `eta=0.1`, by name.

    Args:
        owner: whose settings they are, for messages.
        entries: as the user wrote them.
        names: the names of the settings.
        usage: a complete example, for messages.

    Raises:
        UserError: if a name is unknown or occurs twice, or an entry has another form.
    """
    found: dict[str, str] = {}
    for entry in entries:
        name, equals, value = (part.strip() for part in entry.partition("="))
        if equals and name not in names:
            raise unknown_name(f"setting of {owner}", name, names)
        require(
            bool(equals) and name not in found,
            f"{owner} takes each setting once, as name=value, got {shown(entry.strip())}; write "
            f"{usage}.",
        )
        found[name] = value
    return found
