"""The terms and known rules of all installed packages, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from metaplast.base.errors import UserError, require, shown, unknown_name
from metaplast.base.registry import find, lookup, match
from metaplast.base.words import words
from metaplast.terms.algebra import Signal
from metaplast.terms.term import Term

TERMS = "metaplast.terms"
POOL = "all"
POOL_WITH_BACKWARD = "all+backward"


@dataclass(frozen=True)
class KnownRule:
    """A published rule, as the names of its terms.

    Attributes:
        name: as written after `--terms`.
        terms: names of its terms.
        feedback: the feedbacks with which it makes sense, the usual one first.
        summary: one line for `--help`.
        citation: publication.
        is_baseline: whether it is a baseline for every discovery.
        is_online_baseline: whether it is also a baseline for online training.
    """

    name: str
    terms: tuple[str, ...]
    feedback: tuple[str, ...]
    summary: str
    citation: str
    is_baseline: bool = False
    is_online_baseline: bool = False
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class TermChoice:
    """The choice made by `--terms`.

    Attributes:
        text: as the user wrote it.
        terms: the candidate terms.
        feedback: the feedbacks that the choice allows, the usual one first; empty if any is valid.
        is_pool: False if the terms are a known rule, which needs no selection.
    """

    text: str
    terms: tuple[Term, ...]
    feedback: tuple[str, ...] = ()
    is_pool: bool = True

    def extended(self, terms: Sequence[Term]) -> TermChoice:
        """Return the choice with more candidates; a known rule then becomes a pool."""
        if not terms:
            return self
        return replace(self, terms=(*self.terms, *terms), is_pool=True)

    def served(
        self, offered: frozenset[Signal], scalars: frozenset[str] = frozenset()
    ) -> TermChoice:
        """Return the choice without the pool's terms that read what is not offered.

        Terms that the user named stay: if their signals or scalars are missing, the learner refuses
        them.
        """
        if self.text not in (POOL, POOL_WITH_BACKWARD):
            return self
        kept = (t for t in self.terms if t.signals <= offered and t.scalars <= scalars)
        return replace(self, terms=tuple(kept))

    def choose_feedback(self, wanted: str | None) -> str:
        """Return the feedback to use: the requested one, or the choice's usual one.

        Raises:
            UserError: if the requested feedback contradicts a known rule.
        """
        if wanted is None:
            return self.feedback[0] if self.feedback else "fixed"
        require(
            not self.feedback or wanted in self.feedback,
            f"--terms {self.text} goes with feedback {' or '.join(self.feedback)}, got "
            f"{shown(wanted)}; leave --feedback out or name the terms one by one.",
        )
        return wanted


def all_terms() -> Mapping[str, Term]:
    """Return every installed term by name."""
    return find(TERMS, Term)


def get_term(name: str) -> Term:
    """Return the term with this name or alias.

    Raises:
        UserError: if there is no such term; suggests the nearest.
    """
    return lookup("term", name, all_terms())


def known_rules() -> Mapping[str, KnownRule]:
    """Return every installed known rule by name."""
    return find(TERMS, KnownRule)


def baselines() -> tuple[KnownRule, ...]:
    """Return the rules that every discovery is compared with."""
    return tuple(rule for rule in known_rules().values() if rule.is_baseline)


def online_baselines() -> tuple[KnownRule, ...]:
    """Return the rules that online training is compared with."""
    rules = known_rules().values()
    return tuple(rule for rule in rules if rule.is_baseline or rule.is_online_baseline)


def find_known_rule(name: str) -> KnownRule | None:
    """Return the known rule with this name or alias, in any case; None if no rule has it."""
    return match(name, known_rules())


def choose_terms(text: str) -> TermChoice:
    """Return the terms named by `all`, `all+backward`, a known rule, or a list of names.

    Args:
        text: what follows `--terms`; names in a list are separated by commas.

    Raises:
        UserError: if a name is unknown; suggests the nearest.
    """
    pool = [term for term in all_terms().values() if term.in_pool]
    forward = tuple(term for term in pool if not term.is_backward)
    if text == POOL:
        return TermChoice(text, forward)
    if text == POOL_WITH_BACKWARD:
        backward = tuple(term for term in pool if term.is_backward)
        return TermChoice(text, forward + backward, ("plastic",))
    rule = find_known_rule(text)
    if rule is not None:
        return TermChoice(text, tuple(map(get_term, rule.terms)), rule.feedback, is_pool=False)
    names = words("--terms", text, "term")
    if len(names) == 1:
        return TermChoice(text, (_term_or_rule_error(names[0]),))
    terms = tuple(map(get_term, names))
    require(
        len(set(terms)) == len(terms),
        f"each term may occur once, got {shown(text)}; remove the repeats.",
    )
    return TermChoice(text, terms)


def _term_or_rule_error(name: str) -> Term:
    """Return the term with this name; if it is unknown, the error also suggests rules and pools."""
    try:
        return get_term(name)
    except UserError:
        known = {POOL, POOL_WITH_BACKWARD, *known_rules(), *all_terms()}
        known |= {alias.lower() for term in all_terms().values() for alias in term.aliases}
        raise unknown_name("term", name, known) from None
