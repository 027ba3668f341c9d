"""Text that came from elsewhere, made safe for where it is put."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from metaplast.errors import UserError
from metaplast.rule import Rule

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
}
# What LaTeX sets without further packages: ASCII and accented Latin letters.
_LAST_LATIN = 0x17F


def one_line(text: object) -> str:
    """Return text on one line, without characters that do not show."""
    shown = "".join(c if c.isprintable() else " " for c in str(text))
    return " ".join(shown.split())


def latex(text: object) -> str:
    """Return text that LaTeX sets as it stands."""
    return "".join(_LATEX.get(c) or _latin(c) for c in one_line(text))


def _latin(character: str) -> str:
    return character if ord(character) <= _LAST_LATIN else f"U+{ord(character):04X}"


def markdown(text: object) -> str:
    """Return text that Markdown shows as it stands, also inside a table, and as no HTML."""
    return re.sub(r"([\\`*_{}\[\]<>|~$&])", r"\\\1", one_line(text))


def plain(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule's provenance as plain data.

    Raises:
        UserError: if it holds anything that JSON cannot.
    """
    try:
        data: dict[str, Any] = json.loads(json.dumps(dict(provenance), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"the rule's provenance must be plain data, but {one_line(error)}; "
            f"leave that out of it."
        ) from None
    return data


def origin(rule: Rule) -> list[tuple[str, str]]:
    """Return where a rule came from as pairs of a heading and one line of text."""
    return [
        (one_line(key), one_line(_flat(value))) for key, value in plain(rule.provenance).items()
    ]


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_flat, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
