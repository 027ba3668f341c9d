"""The contents of documents about a rule: equation, table of coefficients, network, provenance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from metaplast.export.constraint import constraint_of
from metaplast.export.exporter import Network
from metaplast.export.objective import objective_of
from metaplast.export.spelling import LINEAR, nonlinearity, pathway
from metaplast.export.template import fill
from metaplast.export.text import markdown_math, origin
from metaplast.rules.equation import MATRICES
from metaplast.rules.rule import Rule
from metaplast.systems.feedback import get_feedback
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.recurrent import Recurrent
from metaplast.terms.algebra import pre
from metaplast.terms.faded import fades
from metaplast.terms.notation import LATEX


@dataclass(frozen=True)
class Row:
    """A term's row in the table; every field except formula and θ is already escaped.

    Attributes:
        name: the name of the term.
        formula: its formula in LaTeX.
        theta: one coefficient per layer, or one for all, in LaTeX.
        locality: its locality label.
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
    network: Network,
    escape: Callable[[object], str],
    **syntax: str,
) -> str:
    """Return the document about a rule, made from a template.

    Args:
        template: file in `templates/`.
        rule: a rule of declared terms.
        network: provides layers and activation.
        escape: makes text from a file safe for the format.
        syntax: delimiters of the template, if the usual delimiters have a meaning in the format.
    """
    return fill(template, _context(rule, network, escape), {"math": markdown_math}, **syntax)


def _context(rule: Rule, network: Network, escape: Callable[[object], str]) -> dict[str, Any]:
    activation, objective = network.nonlinearity, objective_of(rule, network)
    named, constraint = f"the objective {escape(objective.name)}", constraint_of(rule)
    return {
        "version": version("metaplast"),
        "equations": _equations(rule),
        "table": [_row(rule, index, escape) for index in range(len(rule.terms))],
        "per_layer": rule.is_per_layer,
        "fades": any(map(fades, rule.terms)),
        "layers": len(rule.theta),
        "recurrent": isinstance(network, Recurrent),
        "fixed_point": isinstance(network, FixedPoint),
        "each": bool(network.target_shape),
        "widths": "–".join(map(str, network.widths)),
        "sigma": (LINEAR if activation.kind == "linear" else nonlinearity(activation.kind)).latex,
        "beta": f"{activation.beta:g}" if activation.kind == "softplus" else "",
        "pathway": pathway(rule.feedback),
        "activity_text": escape(objective.activity_text) or f"that of {named}",
        "loss_text": escape(objective.loss_text) or named,
        "output_error": objective.error_latex,
        "reads_input_error": any(term.reads(pre.error) for term in rule.terms),
        "constraint": "" if constraint is None else escape(constraint.text),
        "relaxes": get_feedback(rule.feedback).relaxation is not None,
        "provenance": [(escape(key), escape(value)) for key, value in origin(rule)],
    }


def _equations(rule: Rule) -> list[str]:
    """Return the lines of the aligned equations, one term per line."""
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
