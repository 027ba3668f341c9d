"""A system that also offers traces of its signals at the synapses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from metaplast.systems.state import View
from metaplast.systems.system import Examples, Group, Presented, System
from metaplast.systems.timed import log_tau_key, time_constant
from metaplast.systems.wrapped import Wrapped
from metaplast.terms.algebra import Scalar, Signal
from metaplast.terms.synapses import Synapses
from metaplast.terms.traces import Trace, scalar_trace_of, trace_of


class TracePlace(NamedTuple):
    """A trace at a group.

    Attributes:
        key: its name among the carried vectors.
        length: the length of the vector.
        group: the group whose synapses read it.
        signal: the trace, as terms name it.
        followed: the signal and function that it follows, and τ.
        log_tau: the name of log τ among the carried vectors, if τ is learned.
    """

    key: str
    length: int
    group: Group
    signal: Signal
    followed: Trace
    log_tau: str


@dataclass(frozen=True)
class Traced(Wrapped):
    """A system that also offers traces, which are carried from step to step.

    At each occurrence, x̄ ← (1 − 1/τ) x̄ + f(x)/τ, and terms read the updated x̄. The time steps of
    a sequence are occurrences in order. The samples of a mini-batch have no order: x̄ follows their
    mean. The gradient flows through the traces.

    Attributes:
        system: the system that learns.
        traces: the traces that terms read; each group has those of the signals that it offers.
        scalars: names of the traces of scalars that terms read; again, each group has those of the
            scalars that it offers.
    """

    traces: tuple[Signal, ...]
    scalars: tuple[str, ...] = ()

    @cached_property
    def added(self) -> Mapping[str, int]:
        """Lengths of the traces at each group."""
        lengths = {place.key: place.length for place in self.places}
        return lengths | {key: 1 for key, *_ in self._scalar_places}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """The system's groups, which also offer traces."""
        return tuple(
            replace(
                group,
                offers=group.offers | set(self._at(group)),
                scalars=group.scalars | {name for name in self.scalars if _serves(group, name)},
            )
            for group in self.system.groups
        )

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the effects of one example, with traces; see `System.present`."""
        wanted = reads & set(self._followed)
        sources = {self._followed[signal].signal for signal in wanted}
        presented = self.system.present(self._inner(view), example, (reads - wanted) | sources)
        synapses, carry = dict(presented.synapses), dict(presented.carry)
        for key, _, place, signal, followed, log_tau in self.places:
            if signal not in wanted:
                carry[key] = view.carry[key]
                continue
            ends, tau = synapses[place.name], time_constant(log_tau, followed.tau, view.carry)
            values, carry[key] = follow(followed, ends, _start(ends, view.carry[key]), tau)
            synapses[place.name] = replace(ends, signals={**ends.signals, signal: values})
        for key, log_tau, group, name, source, tau in self._scalar_places:
            ends = synapses[group]
            value = ends.scalars[source][..., None]
            start = _start(ends, view.carry[key])
            tau_now = time_constant(log_tau, tau, view.carry)
            values, carry[key] = _followed(value, tau_now, start, ends.weight)
            synapses[group] = replace(ends, scalars={**ends.scalars, name: values[..., 0]})
        return Presented(synapses, presented.own, carry)

    @cached_property
    def _followed(self) -> Mapping[Signal, Trace]:
        """What each trace follows; cached, because every step reads it."""
        found = {signal: trace_of(signal) for signal in self.traces}
        return {signal: followed for signal, followed in found.items() if followed is not None}

    def _at(self, group: Group) -> list[Signal]:
        return [signal for signal, t in self._followed.items() if t.signal in group.offers]

    @cached_property
    def places(self) -> tuple[TracePlace, ...]:
        """Each trace at each group that offers what it follows, in the order of the groups."""
        places = []
        for group in self.system.groups:
            for signal in self._at(group):
                axis = 0 if group.matrix.rows == signal.population else 1
                length = self.shapes[group.name][axis]
                key, followed = f"{group.name} {signal.written}", self._followed[signal]
                log_tau = log_tau_key(signal)
                places.append(TracePlace(key, length, group, signal, followed, log_tau))
        return tuple(places)

    @cached_property
    def _scalar_places(self) -> tuple[tuple[str, str, str, str, str, float], ...]:
        """For each trace of a scalar at each group: its key, that of log τ, group, name, what it
        follows, and τ."""
        places = []
        for group in self.system.groups:
            for name in self.scalars:
                found = scalar_trace_of(name)
                if found is not None and _serves(group, name):
                    key = f"{group.name} {Scalar(name).written}"
                    places.append((key, log_tau_key(Scalar(name)), group.name, name, *found))
        return tuple(places)


def _serves(group: Group, name: str) -> bool:
    found = scalar_trace_of(name)
    return found is not None and found[0] in group.scalars


def _start(synapses: Synapses, carried: Tensor) -> Tensor:
    return torch.zeros_like(carried) if synapses.restarts else carried


def follow(
    trace: Trace, synapses: Synapses, start: Tensor, tau: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Return a trace at each occurrence, [episode, occurrence, neuron], and its final value."""
    return _followed(synapses.signal(trace.followed), tau, start, synapses.weight)


def _followed(
    value: Tensor, tau: float | Tensor, start: Tensor, weight: float
) -> tuple[Tensor, Tensor]:
    """Return the trace of a value at each occurrence, and its final value."""
    keep = 1 - 1 / tau
    if weight != 1:  # A mini-batch.
        now = keep * start + value.mean(1) / tau
        return now[:, None].expand_as(value), now
    values, now = [], start
    for k in range(value.shape[1]):
        now = keep * now + value[:, k] / tau
        values.append(now)
    return torch.stack(values, 1), now


def traced(system: System, reads: Iterable[Signal], scalars: Iterable[str] = ()) -> System:
    """Return a system that also offers the traces in `reads` whose signals it offers.

    Args:
        system: the system that learns.
        reads: signals that terms read.
        scalars: names of the scalars that they read.
    """
    offered = {signal for group in system.groups for signal in group.offers}
    wanted = []
    for signal in set(reads) - offered:
        found = trace_of(signal)
        if found is not None and found.signal in offered:
            wanted.append(signal)
    names = {n for n in scalars for group in system.groups
             if n not in group.scalars and _serves(group, n)}  # fmt: skip
    if not wanted and not names:
        return system
    signals = sorted(wanted, key=lambda signal: signal.written)
    return Traced(system, tuple(signals), tuple(sorted(names)))
