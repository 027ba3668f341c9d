"""Output that cannot show Unicode: formulas and tables in ASCII, so that no result is lost.

A terminal, pipe or file may have an encoding such as cp1252, latin-1 or ascii. `make_streams_safe`
lets standard output and standard error spell what they cannot encode; files are always UTF-8.
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
    """Return text with everything but ASCII spelled: `yₗ₋₁ᵀ` as `y_{l-1}^T`, `θ` as `theta`.

    Letters lose their accents, lines of tables become `-`, `|` and `+`; what has no spelling is
    written as Python escapes it.
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
    """Return what to write for characters that a stream cannot encode."""
    if not isinstance(error, UnicodeEncodeError):
        # A stream that is read too: its bytes are shown as they are.
        return codecs.backslashreplace_errors(error)
    bad = error.object[error.start : error.end]
    # Bytes of a file name that were none of the file system's encoding are written as they were.
    if all("\udc80" <= char <= "\udcff" for char in bad):
        return bytes(ord(char) - 0xDC00 for char in bad), error.end
    return to_ascii(bad), error.end


def make_streams_safe() -> None:
    """Let standard output and error write what their encoding lacks in ASCII, not fail."""
    codecs.register_error(ERRORS, _spell)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ERRORS)


class AsciiConsole(Console):
    """A console that spells cells in ASCII before it lays them out, so that columns fit."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Return text to be laid out."""
        return super().render_str(to_ascii(text), **options)


def shows_formulas(encoding: str | None) -> bool:
    """Return whether an encoding has all that formulas and tables are written with."""
    try:
        "Δθₗ₋₁ᵀ−–…·│━".encode(encoding or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True
