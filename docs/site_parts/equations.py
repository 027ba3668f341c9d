"""Equations in docstrings, which are plain text there, become LaTeX for the site.

An equation is an indented block between paragraphs, one of whose lines has a sign such as = or ←.
"""

from __future__ import annotations

import re

_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀᵖ", "0123456789+-Tp", strict=True))
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₗₜₖᵢⱼ", "0123456789+-\0tkij", strict=True))
_SUBSCRIPTS["ₗ"] = r"\ell "
_SYMBOLS = {
    "Σ": r"\sum ", "⊙": r"\odot ", "⊗": r"\otimes ", "←": r"\leftarrow ", "≤": r"\le ",
    "≥": r"\ge ", "−": "-", "∂": r"\partial ", "∇": r"\nabla ", "√": r"\surd ", "‖": r"\Vert ",
    "…": r"\dots ", "·": r"\cdot ", "∈": r"\in ", "ℓ": r"\ell ", "′": "'", "⟨": r"\langle ",
    "⟩": r"\rangle ", "σ": r"\sigma ", "→": r"\to ", "∏": r"\prod ", "×": r"\times ",
}  # fmt: skip
_MARKED = {"\u0304": "bar", "\u0302": "hat", "\u0303": "tilde"}
_SIGNS = re.compile(r" (=|←|≤|≥|∝|\+=|-=|−=) ")
# Words of two letters or more, with underscores between; an underscore before one letter or number
# is an index.
_WORD = re.compile(r"(?<![\\A-Za-z_{])([A-Za-z]{2,}(?:_[A-Za-z]{2,})*)(?![A-Za-z])")
_FUNCTIONS = ("tanh", "max", "min", "log", "exp", "sin", "cos", "det", "softmax", "diag", "sign")


# Signs that mean something to Sphinx, before a word.
_MEANING = re.compile(r"(?<![\\`\w])([|*])(?=\w)")


def is_equation(lines: list[str]) -> bool:
    """Tell whether an indented block is an equation."""
    text = " ".join(lines)
    return bool(_SIGNS.search(f" {text} ")) and not re.search(r">>>|^\s*[-*] |\"|'\w|`", text)


def latex(line: str) -> str:
    """Return one line of an equation as LaTeX."""
    text = re.sub(r" {3,}", r" \\qquad ", line.strip())
    text = _WORD.sub(_word, text)
    text = re.sub(r"(?<!\\)_(\d{2,}|[A-Za-z]+|[α-ω])", r"_{\1}", text)
    text = re.sub(
        f"([{''.join(_SUPERSCRIPTS)}]+)",
        lambda m: "^{" + "".join(_SUPERSCRIPTS[c] for c in m[1]) + "}",
        text,
    )
    text = re.sub(
        f"([{''.join(_SUBSCRIPTS)}]+)",
        lambda m: "_{" + "".join(_SUBSCRIPTS[c] for c in m[1]) + "}",
        text,
    )
    for mark, name in _MARKED.items():
        text = re.sub(rf"(\w){mark}", rf"\\{name}{{\1}}", _decomposed(text, mark))
    for symbol, command in _SYMBOLS.items():
        text = text.replace(symbol, command)
    return text


def _word(match: re.Match[str]) -> str:
    word = match[1].replace("_", r"\_")
    if match[1] not in _FUNCTIONS:
        return rf"\;\text{{{word}}}\;"
    # A space would take an index that follows.
    space = "" if match.string[match.end() :].startswith("_") else r"\,"
    return rf"\mathrm{{{word}}}{space}"


def _decomposed(text: str, mark: str) -> str:
    """Return a text whose letters with this mark are two characters."""
    import unicodedata

    return "".join(parts if mark in (parts := unicodedata.normalize("NFD", c)) else c for c in text)


def typeset(lines: list[str]) -> list[str]:
    """Return the lines of a docstring with its equations as directives of Sphinx."""
    done: list[str] = []
    position = 0
    while position < len(lines):
        block = _block(lines, position)
        if not block:
            done.append(_MEANING.sub(r"\\\1", lines[position]))
            position += 1
            continue
        margin = " " * (len(block[0]) - len(block[0].lstrip()) - 4)
        if is_equation(block):
            body = [f"{margin}    {latex(line)} \\\\" for line in block]
            done += [f"{margin}.. math::", "", *body, ""]
        else:
            done += [f"{margin}::", "", *block, ""]
        position += len(block)
    return done


def _block(lines: list[str], start: int) -> list[str]:
    """Return the indented block that begins at a line after a blank one, or nothing."""
    line = lines[start]
    if not line.startswith("    ") or (start and lines[start - 1].strip()):
        return []
    before = next((each for each in reversed(lines[:start]) if each.strip()), "")
    depth = len(line) - len(line.lstrip())
    outer = len(before) - len(before.lstrip())
    if depth != outer + 4 or before.strip().startswith(("- ", "..")):
        return []
    end = start
    while end < len(lines) and (lines[end][:depth].strip() == "") and lines[end].strip():
        end += 1
    return lines[start:end]
