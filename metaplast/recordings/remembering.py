"""Candidates with memory, made from other candidates over a grid of time constants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from metaplast.base.errors import require, shown
from metaplast.base.words import words
from metaplast.recordings.memory import Clock, Memory
from metaplast.recordings.monomial import MonomialTerm
from metaplast.terms.time_constants import MOST_TAU


def with_memory(
    pool: Sequence[MonomialTerm], traces: Sequence[float], eligibilities: Sequence[float]
) -> tuple[MonomialTerm, ...]:
    """Return the candidates, and versions of them with memory.

    For each candidate with x to the power 1 and each τ, add a version with a trace instead of x,
    and likewise for y. For each candidate with r to the power 1 and a factor x, y or W, and each τ,
    add a version with an eligibility of its factors x, y and W.

    Args:
        pool: the candidates.
        traces: time constants of traces.
        eligibilities: time constants of eligibilities.
    """
    plain = [term for term in pool if not term.memory.clocks]
    found: list[MonomialTerm] = list(pool)
    for tau in traces:
        found += [replace(t, pre=0, memory=Memory(pre=tau)) for t in plain if t.pre == 1]
        found += [replace(t, post=0, memory=Memory(post=tau)) for t in plain if t.post == 1]
    for tau in eligibilities:
        found += [
            replace(t, memory=Memory(eligible=tau)) for t in plain if t.reward == 1 and t.degree > 1
        ]
    return tuple(dict.fromkeys(found))


def time_constants(flag: str, text: str) -> tuple[float, ...]:
    """Return the time constants in a list such as 5,20,80.

    Raises:
        UserError: if an item is not a number above 1, or occurs twice.
    """
    if not text.strip():
        return ()
    found = []
    for word in words(flag, text, "time constant"):
        try:
            found.append(float(word))
        except ValueError:
            found.append(0.0)
        require(
            1 < found[-1] <= MOST_TAU,
            f"{flag} takes time constants above 1 step, such as 5,20,80, got {shown(word)}.",
        )
    require(len(set(found)) == len(found), f"{flag} takes each time constant once, got {text}.")
    return tuple(found)


def clocks_of(terms: Iterable[MonomialTerm]) -> tuple[Clock, ...]:
    """Return the distinct time constants of some terms."""
    return tuple(dict.fromkeys(clock for term in terms for clock in term.memory.clocks))
