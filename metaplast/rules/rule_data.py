"""A rule as plain data: the contents of a rule's file, written and read strictly."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from metaplast.base.coerce import as_json
from metaplast.base.errors import UserError, require
from metaplast.base.plain_data import DataError, check, entry
from metaplast.terms.algebra import Formula
from metaplast.terms.clocks import differ_in_tau_alone
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.library import all_terms, get_term
from metaplast.terms.term import Term
from metaplast.terms.term_data import (
    is_declared,
    means_the_same,
    read_term,
    refuse_function,
    term_data,
)

if TYPE_CHECKING:
    from metaplast.rules.rule import Rule

FORMAT = "metaplast-rule"
# Formulas are stored in fields that earlier versions ignore, so they need no new version.
VERSION = 1

# Far above any sensible rule.
MOST_TERMS = 1000


class RuleData(NamedTuple):
    """The parts of a rule; see `Rule`."""

    terms: tuple[Term, ...]
    theta: tuple[tuple[float, ...], ...]
    feedback: str
    provenance: dict[str, Any]
    per_layer: bool


def rule_data(rule: Rule) -> dict[str, Any]:
    """Return plain data from which `read_rule` restores the rule."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "feedback": rule.feedback,
        "equation": rule.equation(),
        "theta": rule.coefficients,
        "terms": {term.name: term_data(term) for term in rule.terms},
        "provenance": as_json(rule.provenance),
    }


def read_rule(data: Any, own: Iterable[Term] = (), *, to_print: bool = False) -> RuleData:
    """Return the parts of a rule in data that `rule_data` wrote.

    Args:
        data: the data.
        own: the caller's terms; each replaces the term of the same name.
        to_print: whether terms that are torch functions may be missing, because the rule will not
            be run.

    Raises:
        DataError: if the data have another format.
        UserError: if a term is unknown here, or was given with another meaning.
    """
    theta = entry(data, "theta", dict, "the rule")
    written = entry(data, "terms", dict, "the rule")
    check(len(theta) <= MOST_TERMS, f"the rule has more than {MOST_TERMS} terms")
    given = {term.name: term for term in own}
    terms = tuple(_term(name, written, given, to_print=to_print) for name in theta)
    found = Coefficients.from_plain(theta)
    rows = tuple(map(tuple, found.rows.tolist()))
    feedback = entry(data, "feedback", str, "the rule")
    provenance = entry(data, "provenance", dict, "the rule")
    return RuleData(terms, rows, feedback, dict(provenance), found.is_per_layer)


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Prefix errors in a rule's data with the name of the data.

    Args:
        name: the name of the data, such as the path of a file.

    Raises:
        UserError: instead of any `DataError` or `UserError` inside.
    """
    try:
        yield
    except DataError as error:
        raise UserError(f"{name} is damaged ({error}); write it again from its run.") from error
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _term(
    name: str, written: Mapping[str, Any], given: Mapping[str, Term], *, to_print: bool
) -> Term:
    """Return the term of a rule's file: the given one, the installed one, or the file's own."""
    here = given.get(name) or all_terms().get(name)
    if here is None and name not in written:
        # The name is an alias, or misspelt.
        here = get_term(name)
    data = entry(written, name if here is None else here.name, dict, "the list of its terms")
    if here is not None and means_the_same(here, data):
        return here
    term = read_term(name, data) if is_declared(data) else None
    if here is not None and term is not None and differ_in_tau_alone(here, term):
        return term  # The discovery learned the time constants of this term.
    if here is not None and (name in given or term is None):
        raise _other_meaning(here, data, is_given=name in given)
    if term is not None:
        if here is not None:
            warnings.warn(
                f"in this rule {name} means {term.spell()!r}, as its file says; the installed term "
                f"of that name means {here.spell()!r}.",
                stacklevel=6,
            )
        return term
    if "function" in data:
        return read_term(name, data) if to_print else refuse_function(name)
    return get_term(name)


def _other_meaning(term: Term, data: Mapping[str, Any], *, is_given: bool) -> UserError:
    written = data["formula"]
    if written == term.spell() and not isinstance(term.formula, Formula):
        return UserError(
            f"the function of the term {term.name} gives other values than when the rule was "
            f"written; give the function that the rule was found with."
        )
    remedy = (
        "give the term that the rule was found with"
        if is_given
        else "use the version of the term library that wrote it"
    )
    return UserError(
        f"the rule was written when {term.name} meant {written[:200]!r}, here it means "
        f"{term.spell()!r}; {remedy}."
    )


def require_rule(data: Any, name: str) -> None:
    """Check that data are a rule of a version that can be read.

    Raises:
        UserError: if the data are not such a rule.
    """
    require(
        isinstance(data, dict) and data.get("format") == FORMAT,
        f"{name} is not a metaplast rule; give the rule.json of a run folder.",
    )
    version = data.get("version")
    require(
        version == VERSION and not isinstance(version, bool),
        f"{name} has rule version {str(version)[:40]}, this metaplast reads version {VERSION}; "
        f"install a newer metaplast.",
    )
