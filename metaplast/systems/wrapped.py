"""The base of wrappers, which add signals to a system and carry more vectors between steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from metaplast.systems.constraint import Limits
from metaplast.systems.objective import Objective
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples, Group, System
from metaplast.systems.timing import Timing
from metaplast.terms.term import Term
from metaplast.terms.traces import trace_of


@dataclass(frozen=True)
class Wrapped(System):
    """A wrapper around a system, which behaves like it except for what it adds.

    Attributes:
        system: the inner system.
    """

    system: System

    @property
    @abstractmethod
    def added(self) -> Mapping[str, int]:
        """Lengths of the vectors that the wrapper carries in addition, by name."""

    @property
    def innermost(self) -> System:
        """The innermost system, without any wrapper."""
        inner = self.system
        return inner.innermost if isinstance(inner, Wrapped) else inner

    @property
    def carried(self) -> Mapping[str, int]:
        """Lengths of the inner system's vectors, then of those that are added."""
        return {**self.system.carried, **self.added}

    @property
    def name(self) -> str:  # type: ignore[override]
        """The name of the system itself."""
        return self.system.name

    @property
    def summary(self) -> str:  # type: ignore[override]
        """Its summary."""
        return self.system.summary

    @property
    def description(self) -> str:
        """The inner system in a few words."""
        return self.system.description

    @property
    def readout(self) -> str | None:
        """Its readout."""
        return self.system.readout

    @property
    def input_axes(self) -> int:  # type: ignore[override]
        """Axes of its inputs."""
        return self.system.input_axes

    @property
    def traceable(self) -> bool:  # type: ignore[override]
        """Whether torch can compile it."""
        return self.system.traceable

    @property
    def differentiable(self) -> bool:  # type: ignore[override]
        """Whether its loss has a gradient."""
        return self.system.differentiable

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
    def own(self) -> tuple[str, ...]:
        """Matrices that it changes by itself."""
        return self.system.own

    @property
    def limits(self) -> Mapping[str, Limits]:
        """Its limits."""
        return self.system.limits

    @property
    def weights(self) -> str:
        """The constraint on its weights."""
        return self.system.weights

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
        """Return targets in the objective's format; see `System.targets`."""
        return self.system.targets(given, samples, **options)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Its groups."""
        return self.system.groups

    def draw(self, episodes: int, generator: torch.Generator, dtype: torch.dtype) -> State:
        """Return a fresh state; the added vectors begin at zero."""
        return self._begun(self.system.draw(episodes, generator, dtype))

    def complete(
        self, initial: State, episodes: int, generator: torch.Generator, dtype: torch.dtype
    ) -> State:
        """Return a prescribed state, completed; see `System.complete`."""
        names = self.system.carried
        kept = State(initial.matrices, {k: v for k, v in initial.carry.items() if k in names})
        found = self._begun(self.system.complete(kept, episodes, generator, dtype))
        traces = {k: v for k, v in initial.carry.items() if k in self.carried and k not in names}
        return State(found.matrices, {**found.carry, **traces})

    def _begun(self, state: State) -> State:
        like = next(iter(state.matrices.values()))
        zeros = {key: like.new_zeros(state.episodes, length) for key, length in self.added.items()}
        return State(state.matrices, {**state.carry, **zeros})

    def output(self, view: View, inputs: Tensor) -> Tensor:
        """Return the net input of the output neurons."""
        return self.system.output(self._inner(view), inputs)

    def error_angles(self, view: View, query: Examples) -> Tensor:
        """Return the angles of its errors; see `System.error_angles`."""
        return self.system.error_angles(self._inner(view), query)

    def with_feedback(self, feedback: str) -> System:
        """Return the same system with another feedback."""
        return replace(self, system=self.system.with_feedback(feedback))

    def spec(self) -> dict[str, Any]:
        """Return the inner system as plain data; the added vectors belong to the rule."""
        return self.system.spec()

    def _inner(self, view: View) -> View:
        names = self.system.carried
        return View(view.matrices, {k: v for k, v in view.carry.items() if k in names})


def wrappers(system: System) -> Iterator[Wrapped]:
    """Yield the wrappers around a system, from the outermost to the innermost."""
    while isinstance(system, Wrapped):
        yield system
        system = system.system


def reads_more(term: Term) -> bool:
    """Return whether a term reads traces, eligibilities or scalars."""
    return bool(term.eligibilities or term.scalars) or any(map(trace_of, term.signals))
