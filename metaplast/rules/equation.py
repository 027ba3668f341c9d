"""The equation of a rule: a line for each matrix, with a signed part for each term."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metaplast.rules.canonical import with_oja
from metaplast.terms.algebra import MatrixName
from metaplast.terms.notation import Notation
from metaplast.terms.term import Term

if TYPE_CHECKING:
    from metaplast.rules.rule import Rule

MATRICES: tuple[MatrixName, ...] = ("W", "B")


def equation(rule: Rule, notation: Notation) -> str:
    """Return one line for each matrix that a rule changes; ΔW = 0 if it changes none."""
    lines = [_line(rule, matrix, notation) for matrix in MATRICES]
    lines = [line for line in lines if line]
    return "\n".join(lines) or f"{notation.delta}{notation.matrix['W']} = 0"


def summands(rule: Rule, matrix: MatrixName, notation: Notation) -> tuple[tuple[str, str], ...]:
    """Return sign and rest of each part of a matrix's line; see `Rule.summands`."""
    parts = []
    for term, theta in _printed(rule):
        if term.matrix.name != matrix:
            continue
        body = term.spell(notation)
        if rule.is_per_layer:
            lead, body = _merge_signs(1.0, body, notation)
            factor = notation.coefficient(term.name)
        else:
            lead, body = _merge_signs(theta, body, notation)
            factor = notation.number(abs(theta))
        compound = any(f" {sign} " in body for sign in ("+", notation.minus))
        body = f"({body})" if compound else body
        parts.append((lead, factor + notation.space + body))
    return tuple(parts)


def _printed(rule: Rule) -> list[tuple[Term, float]]:
    pairs = list(zip(rule.terms, rule.theta[0], strict=True))
    return pairs if rule.is_per_layer else with_oja(pairs)


def _line(rule: Rule, matrix: MatrixName, notation: Notation) -> str:
    parts = summands(rule, matrix, notation)
    if not parts:
        return ""
    first = "" if parts[0][0] == "+" else parts[0][0]
    text = first + parts[0][1] + "".join(f" {lead} {part}" for lead, part in parts[1:])
    return f"{notation.delta}{notation.matrix[matrix]} = {text}"


def _merge_signs(theta: float, body: str, notation: Notation) -> tuple[str, str]:
    """Return the sign of a coefficient combined with a term's one leading minus, and the rest."""
    negative = theta < 0
    single = f" {notation.minus} " not in body and " + " not in body
    if single and body.startswith(notation.minus):
        negative, body = not negative, body.removeprefix(notation.minus)
    return (notation.minus if negative else "+"), body
