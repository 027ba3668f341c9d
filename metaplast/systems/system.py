"""The interface of a system: its matrices, the signals at its synapses, and its output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from metaplast.systems.constraint import NONE, Limits
from metaplast.systems.feedback import feedback_for
from metaplast.systems.objective import Objective
from metaplast.systems.state import State, View
from metaplast.systems.timing import Timing
from metaplast.terms.algebra import Matrix, Scalar, Signal
from metaplast.terms.change import LowRankUpdate
from metaplast.terms.synapses import Synapses
from metaplast.terms.term import Term


class Examples(NamedTuple):
    """Inputs and targets: one step's example [episode, …], or several, [episode, sample, …].

    The fully connected stack takes inputs [..., neuron]; the objective determines the targets.
    `noise` holds random numbers for systems that need them in a step. It is drawn in advance, so
    that a step can be repeated; most systems take none.
    """

    input: Tensor
    target: Tensor
    noise: Tensor | None = None


@dataclass(frozen=True)
class Group:
    """A matrix that a rule changes, and the signals that terms may read at its synapses.

    Attributes:
        name: the name of the matrix in `State.matrices`, such as "W1" or "recurrent".
        matrix: `algebra.W` if forward terms change it, `algebra.B` if backward terms do.
        site: its row of θ; the forward and the backward matrix of a layer share one.
        offers: the signals that terms may read here. A term that reads other signals does not act
            on this matrix; at least one group must offer everything that the term reads.
        scalars: names of the scalars that terms may read here, such as "reward".
        from_inputs: whether its columns are the system's inputs; else they are neurons. The
            neurons of a population have the same order in all matrices.
    """

    name: str
    matrix: Matrix
    site: int
    offers: frozenset[Signal]
    scalars: frozenset[str] = frozenset()
    from_inputs: bool = False

    @property
    def offered(self) -> str:
        """Everything that terms may read here, as users write it."""
        scalars = (Scalar(name) for name in self.scalars)
        return ", ".join(sorted(read.written for read in (*self.offers, *scalars)))

    def missing(self, term: Term) -> tuple[str, ...]:
        """Return what a term reads but the group does not offer, as users write it."""
        scalars = map(Scalar, term.scalars - self.scalars)
        return tuple(sorted(read.written for read in (*(term.signals - self.offers), *scalars)))

    def serves(self, term: Term) -> bool:
        """Return whether a term is for this matrix and reads only what the group offers."""
        return term.matrix == self.matrix and not self.missing(term)


@dataclass(frozen=True, eq=False)
class Presented:
    """The effects of one example.

    Attributes:
        synapses: the synapses of each group, by its name.
        own: low-rank changes that the system makes itself, by the matrix's name.
        carry: all vectors of `State.carry` for the next step.
    """

    synapses: Mapping[str, Synapses]
    own: Mapping[str, LowRankUpdate] = field(default_factory=dict)
    carry: Mapping[str, Tensor] = field(default_factory=dict)


class System(ABC):
    """A model that learns: its matrices, how it processes an example, and its output.

    Laws of every system, checked by one test suite:

    - a system is a frozen, hashable value, and equal systems behave identically;
    - `present` and `output` use a matrix only through its `Operator`: products with vectors,
      `constant` for products without gradient, `tensor` only for dense formulas;
    - all signals are computed before any weight changes, and `present` changes nothing;
    - episodes are independent: no operation mixes the first axis;
    - only `draw` and `complete` are random, through the given generator; noise comes with the
      example;
    - the synapses of a group hold every signal that is in `reads` and that the group offers, and
      every scalar that it offers.

    Every engine except the fused one supports a system that obeys these laws, with exact gradients;
    in `batched`, memory grows with the square root of the number of steps.

    Attributes:
        name: the text after `--system`.
        summary: one line for `--help`.
        input_axes: how many axes an input has after [episode, sample]: 1 for a vector, 2 for a
            sequence [time, feature].
        traceable: whether torch can compile `present`, because its control flow does not depend on
            the values of tensors.
        differentiable: whether the loss is a differentiable function of θ; it is not if the system
            draws actions.
        takes_batches: whether one step's example may be a mini-batch: an input [episode, sample, …]
            with a target for each sample, whose samples are occurrences of weight 1/samples.
        batch: number of support examples that a source joins into the mini-batch of one step.
    """

    name: str
    summary: str
    input_axes: ClassVar[int] = 1
    traceable: ClassVar[bool] = True
    differentiable: ClassVar[bool] = True
    takes_batches: ClassVar[bool] = False
    batch: int = 1

    @property
    @abstractmethod
    def objective(self) -> Objective:
        """The objective of the output."""

    @property
    @abstractmethod
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """Rows and columns of every matrix of the state, by name and in order."""

    @property
    def carried(self) -> Mapping[str, int]:
        """Length of every vector that is carried from step to step, by name."""
        return {}

    @property
    def own(self) -> tuple[str, ...]:
        """Matrices that the system changes by itself, by name."""
        return ()

    @property
    @abstractmethod
    def groups(self) -> tuple[Group, ...]:
        """The matrices that rules change, those on `algebra.W` first."""

    @property
    def limits(self) -> Mapping[str, Limits]:
        """The bounds of constrained matrices, by name; empty unless the system is `Constrained`."""
        return {}

    @property
    def weights(self) -> str:
        """The constraint on weights, as written after `--weights`."""
        return NONE

    @property
    def readout(self) -> str | None:
        """Name of the group whose post signals are the output's activity and error, or None.

        Its occurrences are the last ones of every other group.
        """
        return None

    @property
    @abstractmethod
    def sites(self) -> tuple[str, ...]:
        """Names of the rows of θ if each site has its own coefficients."""

    @property
    @abstractmethod
    def inputs(self) -> int:
        """Length of an input's last axis."""

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number of output neurons."""

    @property
    def sequence(self) -> Timing | None:
        """The timing of a system that reads sequences in frames; None for the others."""
        return None

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Axes of targets after [episode, sample], and of outputs before the neurons.

        (T,) if there is a target at each of T steps. The objective counts each step as a sample.
        """
        return ()

    def targets(
        self,
        given: object,
        samples: Sequence[int],
        *,
        what: str,
        dtype: torch.dtype,
        device: torch.device | str,
        online: bool = False,
    ) -> Tensor:
        """Return targets in the objective's format; `samples` are the axes that number the samples.

        The other arguments are those of `Objective.targets`.

        Raises:
            UserError: if the targets are invalid for the objective.
        """
        return self.objective.targets(
            given, (*samples, *self.target_shape), self.outputs,
            what=what, dtype=dtype, device=device, online=online,
        )  # fmt: skip

    @abstractmethod
    def draw(self, episodes: int, generator: torch.Generator, dtype: torch.dtype) -> State:
        """Return a fresh state for each of `episodes` episodes, on the generator's device."""

    def complete(
        self, initial: State, episodes: int, generator: torch.Generator, dtype: torch.dtype
    ) -> State:
        """Return a prescribed state; missing matrices are drawn, unknown ones left out."""
        drawn = self.draw(episodes, generator, dtype)
        found = {**drawn.matrices, **initial.matrices}
        return State({name: found[name] for name in self.shapes}, {**drawn.carry, **initial.carry})

    @abstractmethod
    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the effects of one example, before anything changes.

        Args:
            view: the state.
            example: one for each episode, [episode, …].
            reads: the signals that the rule's terms read; the system need not compute others.
        """

    @abstractmethod
    def output(self, view: View, inputs: Tensor) -> Tensor:
        """Return the net input of the output neurons, [episode, sample, *target_shape, neuron].

        Args:
            view: the state.
            inputs: [episode, sample, …].
        """

    def error_angles(self, view: View, query: Examples) -> Tensor:
        """Return the angles between the errors and the true gradient's, in degrees, [episode, …].

        They are only recorded. By default, there are none.
        """
        return query.input.new_zeros(len(query.input), 0)

    def with_feedback(self, feedback: str) -> System:
        """Return the same system with the feedback written as `name` or `name:argument`.

        By default, a system has no choice of feedbacks, and returns itself.

        Raises:
            UserError: if the feedback is unknown, or does not serve the system.
        """
        feedback_for(self.name, feedback)
        return self

    @property
    def description(self) -> str:
        """The system in a few words, for tables and messages."""
        parts = (f"{key} {value}" for key, value in self.spec().items() if key != "system")
        return ", ".join((self.name, *parts))

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """Return the system as plain data, for rule files, provenance and reports."""
