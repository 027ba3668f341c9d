"""A system in which the time constants of rules are learned.

A learned τ is one more carried vector, log τ, [episode, 1], which no step changes. Engines compute
the gradient with respect to the initial carried vectors anyway; for this vector, it is
∂loss/∂log τ.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from metaplast.systems.state import State, View
from metaplast.systems.system import Examples, Presented, System
from metaplast.systems.wrapped import Wrapped
from metaplast.terms.algebra import Signal
from metaplast.terms.clocks import Clock, Remembered, Taus, clocks_of
from metaplast.terms.term import Term


def log_tau_key(of: Remembered) -> str:
    """Return the name that log τ of a trace or an eligibility has among the carried vectors."""
    return f"log tau of {Clock(of).name}"


def time_constant(key: str, tau: float, carry: Mapping[str, Tensor]) -> float | Tensor:
    """Return τ of a trace or an eligibility; [episode, 1] if it is learned.

    Args:
        key: see `log_tau_key`.
        tau: τ as written in the terms.
        carry: the vectors that the system carries.
    """
    log_tau = carry.get(key)
    return tau if log_tau is None else log_tau.exp()


@dataclass(frozen=True)
class Timed(Wrapped):
    """A system that carries log τ of time constants; wrappers for traces and eligibilities read it.

    Attributes:
        system: the system that learns.
        taus: the learned time constants, each with its initial τ.
    """

    taus: tuple[tuple[Clock, float], ...]

    @property
    def clocks(self) -> tuple[Clock, ...]:
        """The learned time constants."""
        return tuple(clock for clock, _ in self.taus)

    @property
    def added(self) -> Mapping[str, int]:
        """A number for each time constant."""
        return {log_tau_key(clock.of): 1 for clock, _ in self.taus}

    def _begun(self, state: State) -> State:
        logs = {log_tau_key(clock.of): math.log(tau) for clock, tau in self.taus}
        like = next(iter(state.matrices.values()))
        found = {key: like.new_full((state.episodes, 1), value) for key, value in logs.items()}
        return State(state.matrices, {**state.carry, **found})

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the effects of one example, as the system itself does; τ does not change."""
        shown = self.system.present(self._inner(view), example, reads)
        kept = {key: view.carry[key] for key in self.added}
        return replace(shown, carry={**shown.carry, **kept})


def timed(system: System, terms: Iterable[Term], taus: Taus | None = None) -> System:
    """Return a system in which the time constants of some terms are learned.

    `Learner.clocks` lists them, and engines return ∂loss/∂log τ.

    Args:
        system: the system that learns; it is returned unchanged if no term has a time constant.
        terms: the terms of the learner.
        taus: initial values that differ from the τ written in the terms.
    """
    start = taus or {}
    found = tuple((clock, start.get(clock, clock.tau)) for clock in clocks_of(terms))
    return Timed(system, found) if found else system


def timed_in(system: System) -> Timed | None:
    """Return the wrapper that carries a system's time constants; None if none is learned."""
    while isinstance(system, Wrapped):
        if isinstance(system, Timed):
            return system
        system = system.system
    return None


def log_taus(state: State, clocks: Iterable[Clock]) -> list[Tensor]:
    """Return log τ of each time constant in a state, or its adjoint in an adjoint, [episode, 1]."""
    return [state.carry[log_tau_key(clock.of)] for clock in clocks]


def with_log_taus(state: State, clocks: Iterable[Clock], values: Tensor) -> State:
    """Return a state with other time constants.

    Args:
        state: the state.
        clocks: the time constants that are learned.
        values: log τ of each, [clock] or [episode, clock].
    """
    rows = values.detach().expand(state.episodes, values.shape[-1])
    found = {log_tau_key(clock.of): rows[:, k : k + 1].clone() for k, clock in enumerate(clocks)}
    return State(state.matrices, {**state.carry, **found})
