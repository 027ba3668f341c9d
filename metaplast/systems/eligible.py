"""A system whose synapses keep eligibilities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch

from metaplast.systems.state import View
from metaplast.systems.system import Examples, Presented, System
from metaplast.systems.timed import log_tau_key, time_constant
from metaplast.systems.wrapped import Wrapped
from metaplast.terms.algebra import Eligibility, Signal
from metaplast.terms.collected import held
from metaplast.terms.layout import CompiledTerms, inner_terms
from metaplast.terms.term import Term


class _Place(NamedTuple):
    """An eligibility at a group.

    `key` is its name among the carried vectors, `inner` the terms that it collects, and `log_tau`
    the name of log τ among the carried vectors, if τ is learned.
    """

    key: str
    group: str
    eligibility: Eligibility
    inner: tuple[tuple[int, CompiledTerms], ...]
    log_tau: str


@dataclass(frozen=True)
class Eligible(Wrapped):
    """A system whose synapses keep eligibilities, which are carried from step to step.

    At each occurrence, E ← (1 − 1/τ) E + F, and terms read the updated E; see
    `metaplast.terms.eligibility.eligible`. E is carried as one long vector. The gradient flows
    through it.

    Attributes:
        system: the system that learns.
        held: each eligibility with the names of the groups at which terms read it.
    """

    held: tuple[tuple[Eligibility, tuple[str, ...]], ...]

    @cached_property
    def added(self) -> Mapping[str, int]:
        """The length of each eligibility as a vector: its number of synapses."""
        sizes = {name: rows * columns for name, (rows, columns) in self.shapes.items()}
        return {place.key: sizes[place.group] for place in self._places}

    @cached_property
    def _places(self) -> tuple[_Place, ...]:
        return tuple(
            _Place(
                f"{group} eligibility {index}", group, kept, inner_terms(kept), log_tau_key(kept)
            )
            for index, (kept, groups) in enumerate(self.held, 1)
            for group in groups
        )

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the effects of one example, with eligibilities; see `System.present`."""
        shown = self.system.present(self._inner(view), example, reads)
        synapses, carry = dict(shown.synapses), dict(shown.carry)
        for key, group, kept, inner, log_tau in self._places:
            ends, vector = synapses[group], view.carry[key]
            vector = torch.zeros_like(vector) if ends.restarts else vector
            before = vector.view(len(vector), *self.shapes[group])
            found = held(time_constant(log_tau, kept.tau, view.carry), inner, ends, before)
            carry[key] = found.after.flatten(1)
            synapses[group] = replace(ends, held={**ends.held, kept: found})
        return Presented(synapses, shown.own, carry)


def with_eligibilities(system: System, terms: Iterable[Term]) -> System:
    """Return a system that keeps the eligibilities of some terms, at the groups where they act."""
    places: dict[Eligibility, dict[str, None]] = {}
    for term in terms:
        served = [group.name for group in system.groups if group.serves(term)]
        for eligibility in term.eligibilities:
            places.setdefault(eligibility, {}).update(dict.fromkeys(served))
    if not places:
        return system
    return Eligible(system, tuple((kept, tuple(names)) for kept, names in places.items()))
