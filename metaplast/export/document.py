"""What documents say about a rule: equation, table of coefficients, network, provenance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from metaplast.algebra import pre
from metaplast.export.spelling import nonlinearity, pathway
from metaplast.export.template import fill
from metaplast.export.text import markdown_math, origin
from metaplast.network import FullyConnected
from metaplast.notation import LATEX
from metaplast.rule import MATRICES, Rule


@dataclass(frozen=True)
class Row:
    """A term's row in the table: everything but formula and θ is already escaped.

    Attributes:
        name: of the term.
        formula: in LaTeX.
        theta: one coefficient for each layer, or one for all, in LaTeX.
        locality: its label.
        citation: where it was published.
    """

    name: str
    formula: str
    theta: tuple[str, ...]
    locality: str
    citation: str


def document(
    template: str,
    rule: Rule,
    network: FullyConnected,
    escape: Callable[[object], str],
    **syntax: str,
) -> str:
    """Return the document that a template makes of a rule.

    Args:
        template: file in `templates/`.
        rule: of declared terms.
        network: gives layers and activation.
        escape: makes text that came from elsewhere safe for the format.
        syntax: delimiters of the template, where the usual ones mean something in the format.
    """
    return fill(template, _context(rule, network, escape), {"math": markdown_math}, **syntax)


def _context(
    rule: Rule, network: FullyConnected, escape: Callable[[object], str]
) -> dict[str, Any]:
    activation = network.nonlinearity
    return {
        "version": version("metaplast"),
        "equations": _equations(rule),
        "rows": [_row(rule, index, escape) for index in range(len(rule.terms))],
        "per_layer": rule.is_per_layer,
        "layers": len(rule.theta),
        "widths": "–".join(map(str, network.widths)),
        "sigma": nonlinearity(activation.kind).latex,
        "beta": f"{activation.beta:g}" if activation.kind == "softplus" else "",
        "pathway": pathway(rule.feedback),
        "reads_input_error": any(term.reads(pre.error) for term in rule.terms),
        "provenance": [(escape(key), escape(value)) for key, value in origin(rule)],
    }


def _equations(rule: Rule) -> list[str]:
    """Return the lines of the aligned equations, a term on each."""
    lines = []
    for matrix in MATRICES:
        parts = rule.summands(matrix, LATEX)
        left = f"{LATEX.delta}{LATEX.matrix[matrix]} ={{}} & "
        for index, (lead, body) in enumerate(parts):
            sign = "" if lead == "+" and not index else f"{lead} "
            lines.append((left if not index else "& ") + sign + body)
    return lines or [f"{LATEX.delta}{LATEX.matrix['W']} ={{}} & 0"]


def _row(rule: Rule, index: int, escape: Callable[[object], str]) -> Row:
    term = rule.terms[index]
    theta = tuple(LATEX.number(row[index]) for row in rule.theta)
    return Row(
        escape(term.name), term.spell(LATEX), theta, escape(term.locality), escape(term.citation)
    )
