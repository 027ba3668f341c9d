"""Generate programs: what follows from a rule and a network, put into a template."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from metaplast.algebra import MatrixName, pre
from metaplast.export.contract import declared
from metaplast.export.python import LINE, literal, signals, statements, wrapped
from metaplast.export.spelling import nonlinearity, pathway
from metaplast.export.template import fill
from metaplast.export.text import one_line, plain
from metaplast.feedback import get_feedback
from metaplast.network import FullyConnected, Init
from metaplast.notation import TEXT
from metaplast.rule import MATRICES, Rule
from metaplast.term import Term


@dataclass(frozen=True)
class TermCode:
    """A term as commented lines of a program.

    Attributes:
        comment: name, locality, formula and citation, in lines.
        code: adds θ · formula to the change, in lines.
    """

    comment: tuple[str, ...]
    code: tuple[str, ...]

    @classmethod
    def of(cls, term: Term, library: str) -> TermCode:
        """Return the code of a declared term."""
        heading = f"{term.name} ({term.locality}): {term.spell()}"
        comment = [*_wrap(heading), *_wrap(term.citation)]
        code = statements("change", f'theta["{term.name}"]', declared(term), library)
        return cls(tuple(comment), tuple(code))


def _wrap(text: str) -> list[str]:
    # Only at spaces, so that a formula's minus signs do not end a line.
    return textwrap.wrap(one_line(text), LINE - 2, break_on_hyphens=False)


@dataclass(frozen=True)
class Side:
    """What a rule does to one kind of matrix.

    Attributes:
        matrix: "W" or "B".
        terms: that change it.
        signals: names of the variables that they read.
        equation: of the change, in lines.
    """

    matrix: MatrixName
    terms: tuple[TermCode, ...]
    signals: tuple[str, ...]
    equation: tuple[str, ...]

    # How the signals, the matrices and their list are called where all layers are at hand.
    places = {"y_post": "y[k + 1]", "e_post": "e[k + 1]", "y_pre": "y[k]", "e_pre": "e[k]"}  # noqa: RUF012

    @property
    def group(self) -> str:
        """What the matrices are, and the list that holds them."""
        return "weights" if self.matrix == "W" else "feedback"

    @property
    def shape(self) -> str:
        """Rows and columns of the matrix."""
        return "[post, pre]" if self.matrix == "W" else "[pre, post]"


def program(template: str, rule: Rule, network: FullyConnected, library: str) -> str:
    """Return the program that a template makes of a rule.

    Nothing that came from a file gets into it but through `literal`, and numbers.

    Args:
        template: file in `templates/`.
        rule: of declared terms.
        network: gives layers and activation.
        library: what the program calls its array library.
    """
    filters = {"xp": lambda code: code.format(xp=library)}
    return fill(template, _context(rule, network, library), filters)


def _context(rule: Rule, network: FullyConnected, library: str) -> dict[str, Any]:
    sides = [side for side in (_side(rule, name, library) for name in MATRICES) if side.terms]
    activation = network.nonlinearity
    own = bool(get_feedback(rule.feedback).shapes(network))
    backward = any(term.is_backward for term in rule.terms)
    names = layer_names(network)
    return {
        "version": version("metaplast"),
        "xp": library,
        "equation": equation_lines(rule),
        "provenance": [(literal(k), wrapped(v)) for k, v in plain(rule.provenance).items()],
        "layers": list(zip(names, network.widths, strict=True)),
        "theta": _theta(rule, names[1:]),
        "per_layer": rule.is_per_layer,
        "terms": rule.terms,
        "sides": sides,
        "changes_weights": any(side.matrix == "W" for side in sides),
        "reads_input_error": any(term.reads(pre.error) for term in rule.terms),
        "sigma": nonlinearity(activation.kind),
        "beta": repr(activation.beta) if activation.kind == "softplus" else "",
        "pathway": pathway(rule.feedback),
        "feedback": rule.feedback,
        "own_feedback": own,
        "direct": rule.feedback == "direct",
        "changes_feedback": backward,
        "feedback_argument": "feedback, " if own else "",
        "state": "weights, feedback" if own else "weights",
        "new_state": "weights, feedback" if backward else "weights",
        "init": _Draw.of(network),
        "activation_name": activation.kind,
    }


def layer_names(network: FullyConnected) -> list[str]:
    """Return a name for each layer: input, hidden_1 …, output."""
    hidden = [f"hidden_{k}" for k in range(1, network.layers)]
    return ["input", *hidden, "output"]


def equation_lines(rule: Rule, matrices: Sequence[MatrixName] = MATRICES) -> list[str]:
    """Return the rule's equations, each on one line if it fits, else a line for each term."""
    lines = []
    for matrix in matrices:
        left = f"{TEXT.delta}{TEXT.matrix[matrix]} = "
        parts = rule.summands(matrix)
        first = [lead if lead != "+" else "" for lead, _ in parts[:1]]
        leads = first + [f" {lead} " for lead, _ in parts[1:]]
        whole = left + "".join(lead + body for lead, (_, body) in zip(leads, parts, strict=True))
        if len(whole) <= LINE - 4:
            lines += [whole] if parts else []
            continue
        starts = [left, *[" " * len(left)] * (len(parts) - 1)]
        lines += [
            f"{start}{lead} {body}" for start, (lead, body) in zip(starts, parts, strict=True)
        ]
    return lines or [f"{TEXT.delta}{TEXT.matrix['W']} = 0"]


def _side(rule: Rule, matrix: MatrixName, library: str) -> Side:
    terms = [term for term in rule.terms if term.matrix.name == matrix]
    used = {name for term in terms for name in signals(declared(term))}
    return Side(
        matrix,
        tuple(TermCode.of(term, library) for term in terms),
        tuple(name for name in Side.places if name in used),
        tuple(equation_lines(rule, (matrix,))),
    )


def _theta(rule: Rule, layers: Sequence[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return for each layer, or for all, the terms' names and coefficients."""
    names = [term.name for term in rule.terms]
    rows = [
        [(name, repr(float(v))) for name, v in zip(names, row, strict=True)] for row in rule.theta
    ]
    return list(zip(layers, rows, strict=False))


@dataclass(frozen=True)
class _Draw:
    """How weights are drawn: the standard deviation as code, empty for Xavier's uniform ones."""

    std: str

    @classmethod
    def of(cls, network: FullyConnected) -> _Draw:
        """Return how the network draws."""
        std = Init(network.init).std
        return cls("" if std is None else repr(std))

    @property
    def text(self) -> str:
        """The same in words."""
        if self.std:
            return f"normal with standard deviation {self.std}"
        return "uniform in ±√(6 / (rows + columns))"
