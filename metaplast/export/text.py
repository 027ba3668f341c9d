"""Make text from files safe for the place where it is inserted."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from metaplast.base.coerce import as_json
from metaplast.base.errors import UserError, require
from metaplast.rules.rule import Rule

# Python parses at most 100 nested brackets, and the program itself already has some.
DEEPEST = 50

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    # The dollar of the text's own font; newer LaTeX's \$ requires another one.
    "$": r"{\char36}",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "µ": r"$\mu$",
    "°": r"$^{\circ}$",
}
# The characters besides ASCII that LaTeX sets with its default fonts: these, and letters with one
# of the accents grave, acute, circumflex, tilde, macron, breve, dot, diaeresis, ring, long umlaut,
# caron, cedilla.
_LETTERS = frozenset("ßæÆøØåÅœŒłŁ")
_LAST = 0x17F
_ACCENTS = frozenset("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")


def one_line(text: object) -> str:
    """Return text on one line, without invisible characters."""
    shown = "".join(c if c.isprintable() else " " for c in str(text))
    return " ".join(shown.split())


def latex(text: object) -> str:
    """Return text escaped for LaTeX."""
    return "".join(_LATEX.get(c) or _latin(c) for c in one_line(text))


def _latin(character: str) -> str:
    letter, *accents = list(unicodedata.normalize("NFD", character))
    accented = (
        ord(character) <= _LAST
        and letter.isascii()
        and len(accents) == 1
        and accents[0] in _ACCENTS
    )
    if character.isascii() or character in _LETTERS or accented:
        return character
    return f"U+{ord(character):04X}"


def markdown(text: object) -> str:
    """Return text escaped for Markdown, including inside a table, and without HTML."""
    return re.sub(r"([\\`*_{}\[\]<>|~$&])", r"\\\1", one_line(text))


def markdown_math(formula: str) -> str:
    """Return a LaTeX formula without backslashes that Markdown would interpret.

    Markdown readers without support for formulas turn a backslash before a punctuation mark into
    that mark, so that a thin space would become a comma.
    """
    return formula.replace(r"\,", r"\thinspace").replace(r"\_", " ")


def plain(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a rule's provenance as plain data.

    Raises:
        UserError: if the provenance holds anything that JSON cannot represent.
    """
    try:
        text = json.dumps(as_json(provenance), allow_nan=False, default=_refuse)
        data: dict[str, Any] = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise UserError(
            f"the rule's provenance must be plain data, but {one_line(error)}; "
            f"leave that out of it."
        ) from None
    require(
        _depth(data) <= DEEPEST,
        f"the rule's provenance is nested more than {DEEPEST} deep, which programs cannot hold; "
        f"flatten it.",
    )
    return data


def _refuse(value: object) -> None:
    raise TypeError(f"it holds a {type(value).__name__}")


def _depth(data: object) -> int:
    """Return how deep lists and dictionaries are nested."""
    depth, level = 0, [data]
    while level:
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        depth, level = depth + 1, inner
    return depth


def origin(rule: Rule) -> list[tuple[str, str]]:
    """Return a rule's provenance as pairs of a heading and one line of text."""
    return [
        (one_line(key), one_line(_flat(value))) for key, value in plain(rule.provenance).items()
    ]


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_flat(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(_flat, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)
