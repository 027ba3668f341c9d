"""ASCII versions of formulas and tables, for output that cannot show Unicode.

A terminal, pipe or file may have an encoding such as cp1252, latin-1 or ascii. After
`make_streams_safe`, standard output and standard error write ASCII for characters that they cannot
encode. Files are always UTF-8.
"""

from __future__ import annotations

import codecs
import re
import sys
import unicodedata
from typing import Any

from rich.console import Console
from rich.text import Text

ERRORS = "metaplast-ascii"

_INDEX = str.maketrans("₀₁₂₃₄₅₆₇₈₉₋₊ₗ", "0123456789-+l")
_POWER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ᵀ⊤", "0123456789-+TT")
_SPELLED = {
    "Δ": "Delta ", "θ": "theta", "λ": "lambda", "β": "beta", "σ": "sigma", "ρ": "rho",
    "η": "eta", "Σ": "sum", "ℓ": "l", "∂": "d", "√": "sqrt", "−": "-", "–": "-", "—": "-",
    "…": "...", "×": "x", "·": "*", "±": "+/-", "≤": "<=", "≥": ">=", "≈": "~", "→": "->",
    "←": "<-", "∞": "inf", "‖": "||", "≠": "!=", "‘": "'", "’": "'", "“": '"', "”": '"',
    "α": "alpha", "δ": "delta", "⊙": "*", "⊗": "(x)", "⟨": "<", "⟩": ">", "°": " deg",
    "∈": "in", "Π": "prod", "Ø": "O", "Ł": "L", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE",
    "✓": "yes", "•": "*", "ß": "ss", "ø": "o", "ł": "l", "\u00a0": " ", "\u202f": " ",
}  # fmt: skip


def to_ascii(text: str) -> str:
    """Return text with all non-ASCII characters replaced: `yₗ₋₁ᵀ` as `y_{l-1}^T`, `θ` as `theta`.

    Letters lose their accents, and lines of tables become `-`, `|` and `+`. Any other character is
    escaped as in Python.
    """
    text = re.sub("[₀-₉₋₊ₗ]+", lambda m: _script("_", m[0].translate(_INDEX)), text)
    text = re.sub("[⁰¹²³⁴-⁹⁻⁺ᵀ⊤]+", lambda m: _script("^", m[0].translate(_POWER)), text)
    return "".join(char if char.isascii() else _spelled(char) for char in text)


def _script(mark: str, text: str) -> str:
    return mark + (text if len(text) == 1 else f"{{{text}}}")


def _spelled(char: str) -> str:
    if char in _SPELLED:
        return _SPELLED[char]
    name = unicodedata.name(char, "")
    if name.startswith("BOX DRAWINGS"):
        both = " AND " in name
        return "+" if both else "-" if name.endswith("HORIZONTAL") else "|"
    bare = "".join(c for c in unicodedata.normalize("NFKD", char) if c.isascii())
    return bare or char.encode("ascii", "backslashreplace").decode()


def _spell(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the replacement for characters that a stream cannot encode."""
    if not isinstance(error, UnicodeEncodeError):
        # A decoding error: show the bytes as escapes.
        return codecs.backslashreplace_errors(error)
    bad = error.object[error.start : error.end]
    # Bytes of a file name that are invalid in the file system's encoding are written unchanged.
    if all("\udc80" <= char <= "\udcff" for char in bad):
        return bytes(ord(char) - 0xDC00 for char in bad), error.end
    return to_ascii(bad), error.end


def make_streams_safe() -> None:
    """Have standard output and error write ASCII for characters that they cannot encode."""
    codecs.register_error(ERRORS, _spell)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ERRORS)


class AsciiConsole(Console):
    """A console that converts cells to ASCII before it lays them out, so that columns fit."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text to lay out."""
        return super().render_str(to_ascii(text), **options)


def shows_formulas(encoding: str | None) -> bool:
    """Return whether an encoding has all characters that our formulas and tables use."""
    try:
        "Δθₗ₋₁ᵀ−–…·│━".encode(encoding or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True
