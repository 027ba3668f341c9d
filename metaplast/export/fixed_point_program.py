"""Generate programs for fixed-point networks: fill their template with a rule and a network."""

from __future__ import annotations

from typing import Any

from metaplast.export.objective import objective_of
from metaplast.export.program import output_context, rule_context
from metaplast.export.recurrent_program import term_lines
from metaplast.export.spelling import LINEAR, nonlinearity
from metaplast.export.template import fill, in_library
from metaplast.rules.rule import Rule
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.implicit import CHECKED

# Code of the signals that terms read.
SIGNALS = {
    "y_post": "r", "y_pre": "r", "e_post": "e", "e_pre": "e",
    "linearised_error_post": "linearised_error", "linearised_rate_pre": "linearised_rate",
    "ungated_error_post": "ungated_error", "ungated_rate_pre": "ungated_rate",
}  # fmt: skip


def fixed_point_program(rule: Rule, network: FixedPoint, library: str) -> str:
    """Return the program of plain functions for a rule in a fixed-point network.

    Text from a file enters it only through `literal`; everything else is numbers.

    Args:
        rule: a rule of declared terms.
        network: provides widths, activation and relaxation; linear systems are solved exactly.
        library: what the program calls its array library, "np" or "torch".

    Raises:
        UserError: if the rule's objective or a term cannot be written as code.
    """
    filters = {"xp": in_library(library)}
    return fill("fixed_point.py.jinja", _context(rule, network, library), filters)


def _context(rule: Rule, network: FixedPoint, library: str) -> dict[str, Any]:
    rule.require_sites(network)
    rule.learner(network)
    code = term_lines(rule.terms, library)
    objective = objective_of(rule, network)
    kind = network.nonlinearity.kind
    sigma = LINEAR if kind == "linear" else nonlinearity(kind)
    names = [term.name for term in rule.terms]
    return (
        rule_context(rule, library)
        | output_context(rule, network, library)
        | {
            "needs": {"np": "NumPy", "torch": "PyTorch"}[library],
            "widths": network.widths,
            "network": network,
            "checked": CHECKED,
            "fixed": [name for name in network.shapes if name != "W"],
            "coefficients": [
                (name, repr(float(value))) for name, value in zip(names, rule.theta[0], strict=True)
            ],
            "code": code,
            "signals": {name: value for name, value in SIGNALS.items() if name in code.used},
            "sigma": sigma,
            "apply": sigma.code(library),
            "beta": repr(network.nonlinearity.beta) if kind == "softplus" else "",
            "error_code": (objective.error_code or "").format(y="y", t="wanted", xp=library),
        }
    )
