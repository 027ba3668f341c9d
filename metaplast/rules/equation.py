"""The equation of a rule: a line for each matrix, with a signed part for each term."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metaplast.rules.canonical import with_oja
from metaplast.systems.fully_connected import FullyConnected
from metaplast.terms.algebra import MatrixName
from metaplast.terms.notation import TEXT, Notation
from metaplast.terms.term import Term

if TYPE_CHECKING:
    from metaplast.rules.rule import Rule

MATRICES: tuple[MatrixName, ...] = ("W", "B")


def equation(rule: Rule, notation: Notation) -> str:
    """Return one line for each matrix that a rule changes; ΔW = 0 if it changes none."""
    lines = [_line(rule, matrix, notation) for matrix in MATRICES]
    lines = [line for line in lines if line]
    return "\n".join(lines) or f"{notation.delta}{notation.matrix['W']} = 0"


def text_of(rule: Rule) -> str:
    """Return the equation, with the coefficients of each layer below it if they differ."""
    if not rule.is_per_layer:
        return equation(rule, TEXT)
    theta = rule.named_theta
    rows = [f"  {TEXT.coefficient(name)} = [{theta.text(name)}]" for name in theta.names]
    own = rule.system_name in ("", FullyConnected.name)
    places = "layers 1 … L" if own else f"each matrix of the system {rule.system_name}"
    return "\n".join([equation(rule, TEXT), f"with, for {places}:", *rows])


def wrapped_equation(rule: Rule, width: int, notation: Notation = TEXT) -> str:
    """Return the equation in lines of at most `width` characters, broken between terms.

    A term that is wider than this gets a line of its own. Lines after the first begin below the
    first term.
    """
    lines = []
    for whole in equation(rule, notation).splitlines():
        head, _, _ = whole.partition(" = ")
        matrix = next((m for m in MATRICES if head == notation.delta + notation.matrix[m]), None)
        parts = () if matrix is None else summands(rule, matrix, notation)
        if not parts:
            lines.append(whole)
            continue
        sign, text = parts[0]
        line, indent = f"{head} = {'' if sign == '+' else sign}{text}", " " * (len(head) + 3)
        for sign, text in parts[1:]:
            if len(line) + len(sign) + len(text) + 2 > width:
                lines.append(line)
                line = f"{indent}{sign} {text}"
            else:
                line += f" {sign} {text}"
        lines.append(line)
    return "\n".join(lines)


def summands(rule: Rule, matrix: MatrixName, notation: Notation) -> tuple[tuple[str, str], ...]:
    """Return the sign and the rest of each part of a matrix's line; see `Rule.summands`."""
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


def printed_terms(rule: Rule, matrix: MatrixName) -> tuple[str, ...]:
    """Return the names of the terms in a matrix's line, one for each part of `summands`."""
    return tuple(term.name for term, _ in _printed(rule) if term.matrix.name == matrix)


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
    """Return the sign of a term, with its coefficient's and its own combined, and the rest."""
    negative = theta < 0
    single = f" {notation.minus} " not in body and " + " not in body
    if single and body.startswith(notation.minus):
        negative, body = not negative, body.removeprefix(notation.minus)
    return (notation.minus if negative else "+"), body
