"""The numbered columns of a .csv recording, in order."""

from __future__ import annotations

import re
from collections.abc import Sequence

from metaplast.base.errors import require, shown
from metaplast.base.paths import AnyPath


def in_order(path: AnyPath, names: Sequence[str]) -> list[int]:
    """Return the positions of columns in the order of their numbers: x2 before x10.

    Raises:
        UserError: if a name occurs twice, or choices are given in two ways.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"{path} has the column {', '.join(map(shown, twice[:3]))} twice.")
    require(
        not ("choice" in names and any(re.fullmatch(r"c\d+", name) for name in names)),
        f"{path} has both the column choice and columns c1 …; give one of them.",
    )
    return sorted(range(len(names)), key=lambda i: int(re.sub(r"\D", "", names[i]) or 0))
