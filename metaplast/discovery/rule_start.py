"""A rule file given as the terms: each term starts at its coefficient in the rule."""

from __future__ import annotations

from typing import NamedTuple

from metaplast.base.errors import UserError, require, shown
from metaplast.terms.clocks import differ_in_tau_alone
from metaplast.terms.library import get_term
from metaplast.terms.term import Term

# How the name of a rule file ends.
SUFFIX = ".json"


class RuleStart(NamedTuple):
    """The settings of a discovery that come from a rule file.

    Attributes:
        terms: the rule's terms with their coefficients, as written after `--terms`.
        feedback: the rule's feedback.
    """

    terms: str
    feedback: str


def read_start(path: str) -> RuleStart:
    """Return the terms, coefficients and feedback of a rule file.

    The text has all digits of the coefficients, so that the run does not depend on the file later.

    Raises:
        UserError: if the file is not a rule, the rule has no terms, its coefficients differ from
            layer to layer, or a term is not installed.
    """
    # Imported here, because torch is slow to load, and most commands do not read a rule.
    from metaplast.rules.rule import Rule

    rule = Rule.load(path)
    require(
        not rule.is_per_layer,
        f"--terms takes a rule with shared coefficients, but {shown(path)} has some for each layer "
        f"or matrix; write its terms with one initial coefficient each, such as F0=0.02,F2=-0.01.",
    )
    require(bool(rule.terms), f"--terms needs a rule with terms, but {shown(path)} has none.")
    for term in rule.terms:
        _require_installed(term, path)
    (row,) = rule.theta
    entries = (f"{term.name}={value!r}" for term, value in zip(rule.terms, row, strict=True))
    return RuleStart(",".join(entries), rule.feedback)


def _require_installed(term: Term, path: str) -> None:
    try:
        here = get_term(term.name)
    except UserError:
        here = None
    require(
        here is None or here.formula == term.formula or not differ_in_tau_alone(here, term),
        f"--terms {shown(path)} has a term {term.name!r} with a learned time constant, from which "
        f"a run cannot start; write its terms with one initial coefficient each, such as F0=0.02.",
    )
    require(
        here is not None and here.formula == term.formula,
        f"--terms {shown(path)} has a term {term.name!r} that is not installed with this meaning; "
        f"install its package, or write the other terms with one initial coefficient each, such as "
        f"F0=0.02.",
    )
