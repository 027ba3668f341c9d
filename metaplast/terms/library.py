"""The terms, pools and known rules of all installed packages, by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from metaplast.base.errors import UserError, require, shown, unknown_name
from metaplast.base.registry import find, match
from metaplast.base.words import words
from metaplast.terms.faded import faded, fades, split_faded
from metaplast.terms.formula import Formula
from metaplast.terms.pool import Pool, terms_of, waiting_of
from metaplast.terms.term import Term
from metaplast.terms.time_constants import MOST_TAU

TERMS = "metaplast.terms"
# What `--only` keeps of a pool: any term, or the local ones.
Only = Literal["any", "local"]
# What follows a choice of terms, before τ, to add the faded form of each term.
FADING = "*fading:"


@dataclass(frozen=True)
class KnownRule:
    """A published rule, as the names of its terms.

    Attributes:
        name: as written after `--terms`.
        terms: names of its terms.
        feedback: the feedbacks with which the rule makes sense, the usual one first.
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
        is_named: False if the terms come from a pool: the user did not name them one by one.
        grows: whether candidates enter the rule a few at a time, see `Pool.grows`.
        waiting: names of terms that enter a growing rule only after the others.
        starts: the initial coefficients that the user gave, by name of the term.
    """

    text: str
    terms: tuple[Term, ...]
    feedback: tuple[str, ...] = ()
    is_pool: bool = True
    is_named: bool = True
    grows: bool = False
    waiting: frozenset[str] = frozenset()
    starts: Mapping[str, float] = field(default_factory=dict)

    def begin(self, term: Term) -> Term:
        """Return a term with the initial coefficient that the user gave, if any.

        Raises:
            UserError: if the term may not have this coefficient.
        """
        return replace(term, initial=self.starts.get(term.name, term.initial))

    def extended(self, terms: Sequence[Term]) -> TermChoice:
        """Return the choice with more candidates; a known rule then becomes a pool."""
        if not terms:
            return self
        return replace(self, terms=(*self.terms, *terms), is_pool=True)

    def usable(self, is_usable: Callable[[Term], bool]) -> TermChoice:
        """Return the choice with only the usable terms of its pool.

        Terms that the user named stay: if the system does not offer what they read, the learner
        refuses them.
        """
        if self.is_named:
            return self
        return replace(self, terms=tuple(filter(is_usable, self.terms)))

    def limited(self, only: Only) -> TermChoice:
        """Return the choice with only the local terms of its pool if `only` is "local".

        Raises:
            UserError: if the user named a term that is not local, or the pool has no local term.
        """
        if only == "any":
            return self
        others = [term.name for term in self.terms if not term.is_local]
        require(
            not self.is_named or not others,
            f"--only {only} selects from a pool, but --terms {self.text} names "
            f"{', '.join(others)}, not local; leave one of the two out.",
        )
        require(
            len(others) < len(self.terms),
            f"--terms {self.text} has no local term; leave --only {only} out.",
        )
        return replace(self, terms=tuple(term for term in self.terms if term.is_local))

    def choose_feedback(self, wanted: str | None) -> str:
        """Return the feedback to use in a stack: the requested one, or the choice's usual one.

        Only the name of the feedback is compared, not what follows a colon.

        Raises:
            UserError: if the requested feedback contradicts a known rule.
        """
        if wanted is None:
            return self.feedback[0] if self.feedback else "fixed"
        require(
            not self.feedback or goes_with(wanted, self.feedback),
            f"--terms {self.text} goes with feedback {' or '.join(self.feedback)}, got "
            f"{shown(wanted)}; leave --feedback out or name the terms one by one.",
        )
        return wanted


def goes_with(feedback: str, allowed: Iterable[str]) -> bool:
    """Return whether a feedback is among the allowed ones; a name allows any argument after it."""
    return bool({feedback, feedback.partition(":")[0]} & set(allowed))


def all_terms() -> Mapping[str, Term]:
    """Return every installed term by name."""
    return find(TERMS, Term)


def pools() -> Mapping[str, Pool]:
    """Return every installed pool by name."""
    return find(TERMS, Pool)  # type: ignore[type-abstract]


def pool_terms(pool: Pool) -> tuple[Term, ...]:
    """Return the terms of a pool.

    Raises:
        UserError: if the pool fails, has no terms, or returns anything but terms.
    """
    return terms_of(pool, tuple(all_terms()))


def candidate_terms() -> Mapping[str, Term]:
    """Return every installed term, then every other term of an installed pool, by name.

    Raises:
        UserError: if a name has two meanings.
    """
    found = dict(all_terms())
    for pool in pools().values():
        for term in pool_terms(pool):
            require(
                found.setdefault(term.name, term) == term,
                f"the pool {pool.name!r} has a term {term.name!r}, but another term has that name; "
                f"rename one, or uninstall its package.",
            )
    return found


def get_term(name: str) -> Term:
    """Return the term with this name or alias, which may be installed, from a pool, or faded.

    Raises:
        UserError: if there is no such term; suggests the nearest.
    """
    installed = all_terms()
    term = match(name, installed) or match(name, candidate_terms())
    if term is not None:
        return term
    parts = split_faded(name)
    if parts is None:
        raise _unknown(name)
    return faded(get_term(parts[0]), parts[1])


def known_rules() -> Mapping[str, KnownRule]:
    """Return every installed known rule by name."""
    return find(TERMS, KnownRule)


def baselines(feedbacks: Collection[str]) -> tuple[KnownRule, ...]:
    """Return the rules with which every discovery in a system with these feedbacks is compared."""
    return tuple(rule for rule in _with(feedbacks) if rule.is_baseline)


def online_baselines(feedbacks: Collection[str]) -> tuple[KnownRule, ...]:
    """Return the rules with which online training with these feedbacks is compared."""
    return tuple(r for r in _with(feedbacks) if r.is_baseline or r.is_online_baseline)


def _with(feedbacks: Collection[str]) -> Iterable[KnownRule]:
    return (rule for rule in known_rules().values() if set(rule.feedback) & set(feedbacks))


def find_known_rule(name: str) -> KnownRule | None:
    """Return the known rule with this name or alias, in any case; None if there is none."""
    return match(name, known_rules())


def choose_terms(text: str) -> TermChoice:
    """Return the terms of a pool, of a known rule, or of a list of names.

    Args:
        text: what follows `--terms`; names in a list are separated by commas, and each may have an
            initial coefficient after it, such as `F0=0.02`. With `*fading:TAU` after a pool, a
            rule or a term, each term has a faded form beside it.

    Raises:
        UserError: if a name is unknown; suggests the nearest. Or if a coefficient is invalid.
    """
    plain, mark, tau = text.rpartition(FADING) if isinstance(text, str) else ("", "", text)
    if mark:
        return _with_faded(text, plain, tau)
    pool = match(text, pools())
    if pool is not None:
        candidate_terms()  # Check that names are unique: files and reports name the pool's terms.
        terms = pool_terms(pool)
        return TermChoice(
            text, terms, pool.feedback, is_named=False, grows=pool.grows,
            waiting=waiting_of(pool, terms),
        )  # fmt: skip
    rule = find_known_rule(text)
    if rule is not None:
        return TermChoice(text, tuple(map(get_term, rule.terms)), rule.feedback, is_pool=False)
    entries = words("--terms", text, "term")
    if len(entries) == 1 and "=" not in text:
        return TermChoice(text, (_term_or_rule_error(entries[0]),))
    found = dict(map(_started, entries))
    require(
        len(found) == len(entries),
        f"each term may occur once, got {shown(text)}; remove the repeats.",
    )
    starts = {term.name: initial for term, initial in found.items() if initial is not None}
    choice = TermChoice(text, tuple(found), starts=starts)
    for term in found:
        choice.begin(term)
    return choice


def _started(entry: str) -> tuple[Term, float | None]:
    """Return the term of an entry such as `F0` or `F0=0.02`, and its initial coefficient, if any.

    Raises:
        UserError: if there is no such term, or what follows `=` is not a number.
    """
    name, mark, number = entry.partition("=")
    if not mark:
        return get_term(name), None
    require(
        bool(name),
        f"--terms takes the name of a term before =, got {shown(entry)}; write F0=0.02 without "
        f"spaces.",
    )
    several = match(name, pools()) or match(name, known_rules())
    require(
        several is None or match(name, all_terms()) is not None,
        f"an initial coefficient goes with one term, got {shown(entry)}; name the terms of {name} "
        f"one by one, each with its own.",
    )
    term = get_term(name)
    try:
        initial = float(number)
    except ValueError:
        initial = math.nan
    require(
        math.isfinite(initial),
        f"--terms takes a number after {name}=, as in {name}=0.02, got {shown(number)}.",
    )
    return term, initial


def _with_faded(text: str, plain: str, tau: str) -> TermChoice:
    """Return a pool, a known rule or a term, with the faded form of each of its terms added.

    Torch functions, which cannot fade, and terms that already fade get no faded form.

    Raises:
        UserError: if the text is a list of names, the time constant is invalid, or no term can
            fade.
    """
    require(
        not {" ", "="} & set(plain.strip())
        and not plain.strip().endswith(".json")
        and "," not in text,
        f"{FADING}TAU goes with the name of one pool, rule or term, got --terms {shown(text)}; in "
        f"a list, name the faded terms too, such as oja,oja_fading_250.",
    )
    try:
        number = float(tau)
    except ValueError:
        number = 0.0
    require(
        1 <= number <= MOST_TAU,
        f"--terms {text} must end in a number of examples from 1 to 1e9, got {shown(tau)}; write "
        f"{plain}{FADING}250.",
    )
    choice = choose_terms(plain)
    able = [t for t in choice.terms if isinstance(t.formula, Formula) and not fades(t)]
    require(
        bool(able), f"no term of {plain} can fade, or all fade already; leave {FADING}{tau} out."
    )
    added = [faded(term, number) for term in able]
    waiting = choice.waiting.union(term.name for term in added)
    return replace(choice, text=text, terms=(*choice.terms, *added), is_pool=True, waiting=waiting)


def _term_or_rule_error(name: str) -> Term:
    """Return the term with this name; if it is unknown, the error also suggests rules and pools."""
    try:
        return get_term(name)
    except UserError:
        raise _unknown(name, {*pools(), *known_rules()}) from None


def _unknown(name: str, more: Collection[str] = ()) -> UserError:
    """Return the error for an unknown term; it may suggest an alias or a generated term."""
    candidates = candidate_terms()
    aliases = {alias.lower() for term in candidates.values() for alias in term.aliases}
    if not more:
        return unknown_name("term", name, all_terms(), {*candidates, *aliases})
    others = ", or any term that discover --list-terms shows"
    return unknown_name("term", name, more, {*candidates, *aliases}, others)
