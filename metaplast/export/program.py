"""Generate programs: fill a template with a rule and a network."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from metaplast.base.errors import require
from metaplast.export.constraint import constraint_context
from metaplast.export.exporter import Network, declared
from metaplast.export.memory import SCALARS, Memory, read_scalars, require_code
from metaplast.export.objective import OutputCode, objective_of
from metaplast.export.python import LINE, literal, signals, statements, wrapped
from metaplast.export.spelling import coded_pathway, nonlinearity
from metaplast.export.template import fill, in_library
from metaplast.export.text import one_line, plain
from metaplast.rules.equation import MATRICES
from metaplast.rules.rule import Rule
from metaplast.systems.feedback import get_feedback
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.initialisation import Init
from metaplast.terms.algebra import MatrixName, pre
from metaplast.terms.faded import fades
from metaplast.terms.notation import TEXT
from metaplast.terms.term import Term


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
    def of(cls, term: Term, library: str, memory: Memory | None) -> TermCode:
        """Return the code of a declared term, which `require_code` accepts."""
        heading = f"{term.name} ({term.locality}): {term.spell()}"
        comment = [*comment_lines(heading), *comment_lines(term.citation)]
        kept = None if memory is None else memory.kept
        code = statements("change", f'theta["{term.name}"]', declared(term), library, kept)
        return cls(tuple(comment), tuple(code))


def comment_lines(text: str) -> list[str]:
    """Return a text as lines that fit in a comment of a program."""
    # Break only at spaces, so that a minus sign in a formula does not end a line.
    return textwrap.wrap(one_line(text), LINE - 2, break_on_hyphens=False)


@dataclass(frozen=True)
class Side:
    """The part of a rule that changes one kind of matrix.

    Attributes:
        matrix: "W" or "B".
        terms: the terms that change it.
        signals: names of the variables that the terms read.
        equation: the equation of the change, in lines.
        scalars: names of the output's scalars that the terms read.
        memory: what the synapses remember; None if nothing.
    """

    matrix: MatrixName
    terms: tuple[TermCode, ...]
    signals: tuple[str, ...]
    equation: tuple[str, ...]
    scalars: tuple[str, ...] = ()
    memory: Memory | None = None

    # How code that loops over the layers k writes each signal.
    places = {"y_post": "y[k + 1]", "e_post": "e[k + 1]", "y_pre": "y[k]", "e_pre": "e[k]"}  # noqa: RUF012

    @property
    def remembered(self) -> tuple[str, ...]:
        """The variables of the memory that the terms themselves read."""
        words = {w for term in self.terms for line in term.code for w in re.findall(r"\w+", line)}
        return tuple(name for name in self.memory.names if name in words) if self.memory else ()

    @property
    def group(self) -> str:
        """The name of the list that holds the matrices."""
        return "weights" if self.matrix == "W" else "feedback"

    @property
    def shape(self) -> str:
        """Rows and columns of the matrix."""
        return "[post, pre]" if self.matrix == "W" else "[pre, post]"


def program(template: str, rule: Rule, network: FullyConnected, library: str) -> str:
    """Return the program for a rule, filled into a template.

    Text from a file enters it only through `literal`; everything else is numbers.

    Args:
        template: file in `templates/`.
        rule: a rule of declared terms.
        network: provides layers and activation.
        library: what the program calls its array library.
    """
    filters = {"xp": in_library(library)}
    return fill(template, _context(rule, network, library), filters)


def _context(rule: Rule, network: FullyConnected, library: str) -> dict[str, Any]:
    refuse_other_systems(rule)
    softmax = objective_of(rule, network).activity_text == "softmax"
    for term in rule.terms:
        require_code(term, library, softmax=softmax)
    sides = [side for side in (_side(rule, name, library) for name in MATRICES) if side.terms]
    remembers = any(side.memory for side in sides)
    activation = network.nonlinearity
    names = layer_names(network)
    return (
        rule_context(rule, library)
        | output_context(rule, network, library)
        | _feedback_context(rule, network, remembers=remembers)
        | {
            "layers": list(zip(names, network.widths, strict=True)),
            "theta": _theta(rule, names[1:]),
            "per_layer": rule.is_per_layer,
            "terms": rule.terms,
            "sides": sides,
            "changes_weights": any(side.matrix == "W" for side in sides),
            "reads_input_error": any(term.reads(pre.error) for term in rule.terms),
            "sigma": nonlinearity(activation.kind),
            "beta": repr(activation.beta) if activation.kind == "softplus" else "",
            "remembers": remembers,
            "follows": any(side.memory and side.memory.follows for side in sides),
            "fades": any(map(fades, rule.terms)),
            "memory_argument": "memory, " if remembers else "",
            "scalars": [
                (name, SCALARS[name].format(xp=library)) for name in read_scalars(rule.terms)
            ],
            "init": _Draw.of(network),
            "activation_name": activation.kind,
        }
    )


def _feedback_context(rule: Rule, network: FullyConnected, *, remembers: bool) -> dict[str, Any]:
    """Return how errors are carried, and with which matrices a step begins and ends."""
    feedback = get_feedback(rule.feedback)
    own, relaxation = bool(feedback.shapes(network.widths)), feedback.relaxation
    backward = any(term.is_backward for term in rule.terms)
    return {
        "pathway": coded_pathway(rule.feedback),
        "relaxation": relaxation,
        "read": "y, e" if relaxation and relaxation.variant == "strict" else "e",
        "feedback": rule.feedback,
        "own_feedback": own,
        "direct": rule.feedback == "direct",
        "changes_feedback": backward,
        "feedback_argument": "feedback, " if own else "",
        "state": "weights, feedback" if own else "weights",
        "new_state": ("weights, feedback" if backward else "weights")
        + (", memory" if remembers else ""),
    }


def rule_context(rule: Rule, library: str) -> dict[str, Any]:
    """Return what every template needs of a rule: equation, provenance, constraint, library."""
    return {
        **constraint_context(rule, library),
        "version": version("metaplast"),
        "xp": library,
        "equation": equation_lines(rule),
        "provenance": [(literal(k), wrapped(v)) for k, v in plain(rule.provenance).items()],
    }


def output_context(rule: Rule, network: Network, library: str) -> dict[str, Any]:
    """Return what depends on the objective."""
    objective = objective_of(rule, network)
    code = OutputCode(objective, library)
    return {
        "target_kind": objective.target_kind,
        "activity_text": objective.activity_text,
        "loss_text": one_line(objective.loss_text) or f"the objective {one_line(objective.name)}",
        "error_text": one_line(objective.error_text),
        "activity_of": code.activity,
        "error_of": code.error,
        "objective": objective.name,
        "objective_literal": literal(objective.name),
    }


def layer_names(network: FullyConnected) -> list[str]:
    """Return a name for each layer: input, hidden_1 …, output."""
    hidden = [f"hidden_{k}" for k in range(1, network.layers)]
    return ["input", *hidden, "output"]


def equation_lines(rule: Rule, matrices: Sequence[MatrixName] = MATRICES) -> list[str]:
    """Return the rule's equations, each on one line if it fits, else one line per term."""
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
    memory = Memory.of(terms, library)
    used = {name for term in terms for name in signals(declared(term))}
    used |= memory.sources if memory else set()
    return Side(
        matrix,
        tuple(TermCode.of(term, library, memory) for term in terms),
        tuple(name for name in Side.places if name in used),
        tuple(equation_lines(rule, (matrix,))),
        read_scalars(terms),
        memory,
    )


def _theta(rule: Rule, layers: Sequence[str]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the names and coefficients of the terms, for each layer or for all."""
    names = [term.name for term in rule.terms]
    rows = [
        [(name, repr(float(v))) for name, v in zip(names, row, strict=True)] for row in rule.theta
    ]
    return list(zip(layers, rows, strict=False))


@dataclass(frozen=True)
class _Draw:
    """How weights are drawn: the standard deviation as code, empty for Xavier's uniform weights."""

    std: str

    @classmethod
    def of(cls, network: FullyConnected) -> _Draw:
        """Return how the network draws its weights."""
        std = Init(network.init).std
        return cls("" if std is None else repr(std))

    @property
    def text(self) -> str:
        """A description for comments and docstrings."""
        if self.std:
            return f"normal with standard deviation {self.std}"
        return "uniform in ±√(6 / (rows + columns))"


def refuse_other_systems(rule: Rule) -> None:
    """Raise `UserError` if the rule was found with a system that programs do not support."""
    own = "fully-connected"
    found = rule.provenance.get("system", own)
    require(
        found == own,
        f"programs support only the system {own}, but the rule was found with {found}; export it "
        f"as latex, markdown or json.",
    )
