"""Generate programs for recurrent networks: fill their template with a rule and a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from metaplast.base.errors import require
from metaplast.export.exporter import declared
from metaplast.export.objective import objective_of
from metaplast.export.program import comment_lines, output_context, rule_context
from metaplast.export.python import signals, statements
from metaplast.export.spelling import coded_pathway, nonlinearity
from metaplast.export.template import fill, in_library
from metaplast.rules.rule import Rule
from metaplast.systems.initialisation import Init
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.sequence_network import SITES
from metaplast.systems.system import Group
from metaplast.terms.algebra import Formula, pre
from metaplast.terms.term import Term

# Code of the lists of signals over the occurrences of each group. `read` are the steps at
# which the output is read.
PLACES = {
    "input": {
        "y_post": "y", "e_post": "e", "potential_post": "z", "y_pre": "x", "e_pre": "e_x",
    },
    "recurrent": {
        "y_post": "y[1:]", "e_post": "e[1:]", "potential_post": "z[1:]", "drive_post": "r",
        "y_pre": "y[:-1]", "e_pre": "e[:-1]", "potential_pre": "z[:-1]",
    },
    "readout": {
        "y_post": "y_out", "e_post": "e_out", "potential_post": "z_out",
        "y_pre": "y[read]", "e_pre": "e[read]", "potential_pre": "z[read]",
    },
}  # fmt: skip


@dataclass(frozen=True)
class GroupCode:
    """The part of a rule that changes one matrix.

    Attributes:
        site: "input", "recurrent" or "readout".
        index: the index of the matrix in its list.
        matrix: "W" or "B".
        signals: names of the variables that one time step's change reads.
        lists: code of the lists of these signals.
        terms: commented lines that add each term to one time step's change.
        decays: lines for ungated decays, which act once in an example.
    """

    site: str
    index: int
    matrix: str
    signals: tuple[str, ...]
    lists: tuple[str, ...]
    terms: tuple[str, ...]
    decays: tuple[str, ...]

    @property
    def name(self) -> str:
        """The end of the names of its functions."""
        return self.site if self.matrix == "W" else f"{self.site}_feedback"

    @property
    def group(self) -> str:
        """The name of the list that holds the matrix."""
        return "weights" if self.matrix == "W" else "feedback"

    @classmethod
    def of(cls, group: Group, terms: Sequence[Term], library: str) -> GroupCode:
        """Return the code of the terms that act on a group's matrix."""
        code, site = term_lines([t for t in terms if group.serves(t)], library), SITES[group.site]
        places = {name: list_ for name, list_ in PLACES[site].items() if name in code.used}
        return cls(site, group.site, group.matrix.name, tuple(places), tuple(places.values()),
                   code.terms, code.decays)  # fmt: skip


class TermLines(NamedTuple):
    """Code of the terms that change one matrix.

    Attributes:
        terms: commented lines that add each term to one occurrence's change.
        decays: lines for ungated decays, which act once in an example.
        used: names of the variables that `terms` read.
    """

    terms: tuple[str, ...]
    decays: tuple[str, ...]
    used: frozenset[str]


def term_lines(terms: Sequence[Term], library: str) -> TermLines:
    """Return the code of terms that change the same matrix.

    Args:
        terms: declared terms.
        library: what the program calls its array library.

    Raises:
        UserError: if a term reads a scalar or an eligibility, or is not declared.
    """
    steps, decays, used = list[str](), list[str](), set[str]()
    for term in terms:
        _refuse_scalars(term)
        formula = declared(term)
        once = tuple(m for m in formula.monomials if m.is_ungated_decay)
        rest = tuple(m for m in formula.monomials if not m.is_ungated_decay)
        heading = f"{term.name} ({term.locality}): {term.spell()}"
        comment = [f"# {line}" for text in (heading, term.citation) for line in comment_lines(text)]
        factor = f'theta["{term.name}"]'
        for lines, monomials in ((decays, once), (steps, rest)):
            if monomials:
                part = Formula(formula.matrix, monomials)
                lines += [*comment, *statements("change", factor, part, library)]
        used |= signals(Formula(formula.matrix, rest)) if rest else set()
    return TermLines(tuple(steps), tuple(decays), frozenset(used))


def recurrent_program(rule: Rule, network: Recurrent, library: str) -> str:
    """Return the program of plain functions for a rule in a recurrent network.

    Text from a file enters it only through `literal`; everything else is numbers.

    Args:
        rule: a rule of declared terms.
        network: provides widths, timing and activation.
        library: what the program calls its array library, "np" or "torch".

    Raises:
        UserError: if the rule's feedback, objective or a term cannot be written as code.
    """
    filters = {"xp": in_library(library)}
    return fill("recurrent.py.jinja", _context(rule, network, library), filters)


def _context(rule: Rule, network: Recurrent, library: str) -> dict[str, Any]:
    rule.require_sites(network)
    learner = rule.learner(network)
    groups = [GroupCode.of(group, rule.terms, library) for group in learner.system.groups]
    groups = [group for group in groups if group.terms or group.decays]
    objective = objective_of(rule, network)
    activation, timing, pathway = network.nonlinearity, network.timing, coded_pathway(rule.feedback)
    names, reads = [term.name for term in rule.terms], {n for g in groups for n in g.signals}
    rows = [[(n, repr(float(v))) for n, v in zip(names, row, strict=True)] for row in rule.theta]
    changed = {group.group for group in groups}
    own = len(learner.system.shapes) > len(SITES)
    return (
        rule_context(rule, library)
        | output_context(rule, network, library)
        | {
            "needs": {"np": "NumPy", "torch": "PyTorch"}[library],
            "widths": network.widths,
            "timing": timing,
            "sites": SITES,
            "coefficients": rows,
            "per_layer": rule.is_per_layer,
            "groups": groups,
            "sigma": nonlinearity(activation.kind),
            "beta": repr(activation.beta) if activation.kind == "softplus" else "",
            "back": pathway.carry.replace("e[k + 1]", "error"),
            "note": pathway.note,
            "own_feedback": own,
            "feedback_argument": "feedback, " if own else "",
            "changes_feedback": "feedback" in changed,
            "reads_input_error": any(term.reads(pre.error) for term in rule.terms),
            "reads": reads,
            "error_code": (objective.error_code or "").format(y="y", t="wanted", xp=library),
            "std": Init(network.init).std,
        }
    )


def _refuse_scalars(term: Term) -> None:
    require(
        not term.scalars,
        f"programs compute no scalars, but the term {term.name} reads "
        f"{', '.join(sorted(term.scalars))}; export the rule as latex, markdown or json.",
    )
    require(
        not term.eligibilities,
        f"programs keep no eligibilities, but the term {term.name} reads one; export the rule as "
        f"latex, markdown or json.",
    )
