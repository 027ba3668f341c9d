"""A system whose synapses also see traces of their signals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from metaplast.systems.objective import Objective
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples, Group, Presented, System
from metaplast.systems.timing import Timing
from metaplast.terms.algebra import Signal
from metaplast.terms.synapses import Synapses
from metaplast.terms.traces import Trace, trace_of


@dataclass(frozen=True)
class Traced(System):
    """A system that also offers traces, which are carried from step to step.

    At each occurrence, x̄ ← (1 − 1/τ) x̄ + f(x)/τ, and terms read x̄ after this. Time steps of a
    sequence are occurrences in order. The samples of a mini-batch have no order: x̄ follows their
    mean. The gradient runs through the traces.

    Attributes:
        system: what learns.
        traces: the traces that terms read; at each group, those of signals that it offers.
    """

    system: System
    traces: tuple[Signal, ...]

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the system itself."""
        return self.system.name

    @property
    def summary(self) -> str:  # type: ignore[override]
        """Its summary."""
        return self.system.summary

    @property
    def input_axes(self) -> int:  # type: ignore[override]
        """Axes of its inputs."""
        return self.system.input_axes

    @property
    def traceable(self) -> bool:  # type: ignore[override]
        """Whether torch can compile it."""
        return self.system.traceable

    @property
    def takes_batches(self) -> bool:  # type: ignore[override]
        """Whether it takes mini-batches."""
        return self.system.takes_batches

    @property
    def batch(self) -> int:  # type: ignore[override]
        """Examples of a mini-batch."""
        return self.system.batch

    @property
    def feedback_name(self) -> str:
        """Name of its feedback; "" if it has none."""
        return str(getattr(self.system, "feedback_name", ""))

    @property
    def objective(self) -> Objective:
        """Its objective."""
        return self.system.objective

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """Rows and columns of its matrices."""
        return self.system.shapes

    @property
    def carried(self) -> Mapping[str, int]:
        """Lengths of its own vectors, then of the traces at each group."""
        return {**self.system.carried, **{key: length for key, length, *_ in self._places}}

    @property
    def own(self) -> tuple[str, ...]:
        """Matrices that it changes by itself."""
        return self.system.own

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Its groups, which also offer traces."""
        return tuple(
            replace(group, offers=group.offers | set(self._at(group)))
            for group in self.system.groups
        )

    @property
    def sites(self) -> tuple[str, ...]:
        """Its sites."""
        return self.system.sites

    @property
    def inputs(self) -> int:
        """Length of an input's last axis."""
        return self.system.inputs

    @property
    def outputs(self) -> int:
        """Number of its output neurons."""
        return self.system.outputs

    @property
    def sequence(self) -> Timing | None:
        """Its timing."""
        return self.system.sequence

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Axes of its targets."""
        return self.system.target_shape

    def targets(self, given: object, samples: Sequence[int], **options: Any) -> Tensor:
        """Return targets as the objective has them; see `System.targets`."""
        return self.system.targets(given, samples, **options)

    def draw(self, episodes: int, generator: torch.Generator, dtype: torch.dtype) -> State:
        """Return a fresh state; the traces begin at zero."""
        return self._begun(self.system.draw(episodes, generator, dtype))

    def complete(
        self, initial: State, episodes: int, generator: torch.Generator, dtype: torch.dtype
    ) -> State:
        """Return a prescribed state, with what is missing; see `System.complete`."""
        names = self.system.carried
        kept = State(initial.matrices, {k: v for k, v in initial.carry.items() if k in names})
        found = self._begun(self.system.complete(kept, episodes, generator, dtype))
        traces = {k: v for k, v in initial.carry.items() if k in self.carried and k not in names}
        return State(found.matrices, {**found.carry, **traces})

    def _begun(self, state: State) -> State:
        like = next(iter(state.matrices.values()))
        zeros = {key: like.new_zeros(state.episodes, length) for key, length, *_ in self._places}
        return State(state.matrices, {**state.carry, **zeros})

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the effects of one example, with traces; see `System.present`."""
        wanted = reads & set(self._followed)
        sources = {self._followed[signal].signal for signal in wanted}
        presented = self.system.present(self._inner(view), example, (reads - wanted) | sources)
        synapses, carry = dict(presented.synapses), dict(presented.carry)
        for key, _, group, signal, followed in self._places:
            if signal not in wanted:
                carry[key] = view.carry[key]
                continue
            values, carry[key] = follow(followed, synapses[group], view.carry[key])
            ends = synapses[group]
            synapses[group] = replace(ends, signals={**ends.signals, signal: values})
        return Presented(synapses, presented.own, carry)

    def output(self, view: View, inputs: Tensor) -> Tensor:
        """Return the net input of the output neurons."""
        return self.system.output(self._inner(view), inputs)

    def error_angles(self, view: View, query: Examples) -> Tensor:
        """Return the angles of its errors; see `System.error_angles`."""
        return self.system.error_angles(self._inner(view), query)

    def with_feedback(self, feedback: str) -> System:
        """Return the same system with another feedback."""
        return Traced(self.system.with_feedback(feedback), self.traces)

    def spec(self) -> dict[str, Any]:
        """Return the system as plain data; its traces belong to the rule."""
        return self.system.spec()

    def _inner(self, view: View) -> View:
        names = self.system.carried
        return View(view.matrices, {k: v for k, v in view.carry.items() if k in names})

    @cached_property
    def _followed(self) -> Mapping[Signal, Trace]:
        """What each trace follows; kept, because steps read it."""
        found = {signal: trace_of(signal) for signal in self.traces}
        return {signal: followed for signal, followed in found.items() if followed is not None}

    def _at(self, group: Group) -> list[Signal]:
        return [signal for signal, t in self._followed.items() if t.signal in group.offers]

    @cached_property
    def _places(self) -> tuple[tuple[str, int, str, Signal, Trace], ...]:
        """For each trace at each group: key and length of the vector, group, signal and trace."""
        places = []
        for group in self.system.groups:
            for signal in self._at(group):
                axis = 0 if group.matrix.rows == signal.population else 1
                length = self.shapes[group.name][axis]
                key, followed = f"{group.name} {signal.written}", self._followed[signal]
                places.append((key, length, group.name, signal, followed))
        return tuple(places)


def follow(trace: Trace, synapses: Synapses, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return a trace at each occurrence, [episode, occurrence, neuron], and after the last."""
    value = synapses.signal(trace.followed)
    count, keep = value.shape[1], 1 - 1 / trace.tau
    if synapses.weight != 1:  # A mini-batch.
        now = keep * start + value.mean(1) / trace.tau
        return now[:, None].expand_as(value), now
    values, now = [], start
    for k in range(count):
        now = keep * now + value[:, k] / trace.tau
        values.append(now)
    return torch.stack(values, 1), now


def traced(system: System, reads: Iterable[Signal]) -> System:
    """Return a system that offers every trace among some signals that it can follow."""
    offered = {signal for group in system.groups for signal in group.offers}
    wanted = []
    for signal in set(reads) - offered:
        found = trace_of(signal)
        if found is not None and found.signal in offered:
            wanted.append(signal)
    if not wanted:
        return system
    return Traced(system, tuple(sorted(wanted, key=lambda signal: signal.written)))
