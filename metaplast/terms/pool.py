"""A pool: a named set of candidate terms, from which a discovery selects."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import ClassVar

from metaplast.base.errors import UserError, require, sentence, shown
from metaplast.terms.term import Term


class Pool(ABC):
    """A named set of candidate terms.

    An instance in a module of the entry-point group `metaplast.terms` is found by its name. So are
    its terms, which therefore need not be registered one by one.

    Attributes:
        name: as written after `--terms`.
        summary: one line for `--list-terms`.
        aliases: other names accepted on input.
        feedback: the feedbacks with which it makes sense, the usual one first; empty if any is
            valid.
        grows: whether candidates enter the rule a few at a time, unless the user says otherwise.
            This suits a pool that was not curated by hand: many of its terms harm a rule until
            other terms balance them.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    feedback: ClassVar[tuple[str, ...]] = ()
    grows: ClassVar[bool] = False

    @abstractmethod
    def terms(self) -> tuple[Term, ...]:
        """Return the candidates, always the same ones in the same order.

        Their names must differ. A candidate with the name of an installed term must equal it.
        """

    def waiting(self) -> frozenset[str]:
        """Return the names of the candidates that enter a growing rule only after the others.

        They are tried once no other candidate helps. This suits a large number of terms that refine
        others, such as each of them times each gate: the rule without them comes first.
        """
        return frozenset()


_MEND = "fix or uninstall its package."


@cache
def terms_of(pool: Pool, _installed: tuple[str, ...]) -> tuple[Term, ...]:
    """Return the terms of a pool.

    Args:
        pool: the pool.
        _installed: the names of the installed terms, on which the terms of `all` depend.

    Raises:
        UserError: if the pool fails, has no terms, or returns anything but terms.
    """
    with _failing(pool, "return its terms"):
        found = tuple(pool.terms())
    wrong = [each for each in found if not isinstance(each, Term)]
    require(
        bool(found) and not wrong,
        f"the pool {pool.name!r} must return terms, got {shown(wrong[0]) if wrong else 'none'}; "
        f"{_MEND}",
    )
    return found


def waiting_of(pool: Pool, terms: tuple[Term, ...]) -> frozenset[str]:
    """Return the names of a pool's terms that enter a growing rule only after the others.

    Args:
        pool: the pool.
        terms: its terms.

    Raises:
        UserError: if the pool fails, or names anything but its terms.
    """
    with _failing(pool, "name the terms that wait"):
        found = frozenset(pool.waiting())
    unknown = found - {term.name for term in terms}
    require(
        not unknown,
        f"the pool {pool.name!r} must name terms of its own that wait, got "
        f"{', '.join(sorted(map(shown, unknown)))}; {_MEND}",
    )
    return found


@contextmanager
def _failing(pool: Pool, task: str) -> Iterator[None]:
    """Turn any error of a pool's own code into a `UserError` that says what the pool must do."""
    try:
        yield
    except Exception as error:
        raise UserError(
            f"the pool {pool.name!r} must {task}, but failed ({sentence(error)}); {_MEND}"
        ) from error
