"""A learner: a system and the terms of a rule, as one differentiable online step.

Engines and the outer loop use only this interface: `draw` returns a state, `step` learns one
example, `query` evaluates the state. The contents of the state are up to the system.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.base.tensors import require_count, type_name
from metaplast.base.torch_settings import own_settings
from metaplast.systems.constrained import unconstrained
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.served_terms import feedback_name_of, require_served, serving_terms
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples, Group, Presented, System
from metaplast.systems.timed import timed_in
from metaplast.systems.wrapped import Wrapped, reads_more
from metaplast.terms.algebra import B, Signal, W
from metaplast.terms.change import LowRankUpdate
from metaplast.terms.clocks import Clock
from metaplast.terms.compiled import CompiledTerms, change, compile_terms
from metaplast.terms.term import Term, checked_terms, full_update


class Step(NamedTuple):
    """The effect of one example: low-rank changes by matrix name, and all carried vectors."""

    changes: Mapping[str, LowRankUpdate]
    carry: Mapping[str, Tensor]


@dataclass(frozen=True)
class Learner:
    """A system that learns online by a rule made of `terms`.

    Attributes:
        system: provides the signals.
        terms: the candidate terms; each call takes θ, [episode, site, term].
    """

    system: System
    terms: tuple[Term, ...]

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            UserError: if a term occurs twice, or the system does not offer what a term reads or
                changes.
        """
        require(
            isinstance(self.system, System),
            f"a learner takes a system and terms, got {type_name(self.system)}; write "
            f"Learner(FullyConnected((784, 100, 10)), terms).",
        )
        object.__setattr__(self, "terms", checked_terms(self.terms))
        names = [term.name for term in self.terms]
        require(
            len(set(names)) == len(names),
            f"each term may occur once in a rule, got {', '.join(names)}; remove the repeats.",
        )
        object.__setattr__(self, "system", serving_terms(self.system, self.terms))
        require_served(self.system, self.terms)

    @classmethod
    def on_stack(cls, network: FullyConnected, feedback: str, terms: Iterable[Term]) -> Learner:
        """Return the learner of a fully connected stack with errors from `feedback`."""
        require(
            isinstance(network, FullyConnected) and isinstance(feedback, str),
            f"a learner takes a FullyConnected network, the name of a feedback and terms, got "
            f"{type(network).__name__} and {feedback!r}.",
        )
        return cls(replace(network, feedback_name=feedback), tuple(terms))

    @property
    def network(self) -> FullyConnected:
        """The system, which must be a fully connected stack, without its weight constraint.

        Raises:
            UserError: if the system is not such a stack, or terms have memory, read scalars, or
                fade.
        """
        system = unconstrained(self.system)
        require(
            not isinstance(system, Wrapped),
            "this needs a rule without memory and third factors, got terms that read traces, "
            "eligibilities or scalars, or fade "
            f"({', '.join(t.name for t in self.terms if reads_more(t))}); "
            "run it with a Learner and metaplast.unroll, or train_online.",
        )
        require(
            isinstance(system, FullyConnected),
            f"this needs a fully connected network, got the system {system.name}.",
        )
        assert isinstance(system, FullyConnected)
        return system

    @property
    def feedback_name(self) -> str:
        """Name of the system's feedback; "" if it has none."""
        return feedback_name_of(self.system)

    @property
    def sites(self) -> int:
        """Number of rows of θ if each site has its own coefficients."""
        return len(self.system.sites)

    @cached_property
    def forward_plasticity(self) -> CompiledTerms:
        """The compiled terms on the forward weights."""
        return compile_terms(self.terms, W)

    @cached_property
    def backward_plasticity(self) -> CompiledTerms:
        """The compiled terms on the backward weights."""
        return compile_terms(self.terms, B)

    def acting(self, group: Group) -> tuple[int, ...]:
        """Return the positions of the terms that change a group's matrix."""
        return tuple(k for k, term in enumerate(self.terms) if group.serves(term))

    @cached_property
    def _plasticities(self) -> Mapping[str, CompiledTerms]:
        """The compiled terms on each group's matrix; groups with the same terms share them."""
        made: dict[tuple[int, ...], CompiledTerms] = {}
        found = {}
        for matrix, whole in ((W, self.forward_plasticity), (B, self.backward_plasticity)):
            made[tuple(k for k, t in enumerate(self.terms) if t.matrix == matrix)] = whole
            for group in (g for g in self.system.groups if g.matrix == matrix):
                acting = self.acting(group)
                if acting not in made:
                    made[acting] = compile_terms(self.terms, matrix, acting)
                found[group.name] = made[acting]
        return found

    def plasticity(self, group: Group) -> CompiledTerms:
        """Return the compiled terms on a group's matrix."""
        return self._plasticities[group.name]

    @cached_property
    def changing(self) -> tuple[Group, ...]:
        """The groups that at least one term changes."""
        return tuple(g for g in self.system.groups if not self.plasticity(g).is_empty)

    @cached_property
    def moving(self) -> tuple[str, ...]:
        """Names of all matrices that a step changes, through the rule or the system itself."""
        names = {*(group.name for group in self.changing), *self.system.own}
        return tuple(name for name in self.system.shapes if name in names)

    @cached_property
    def reads(self) -> frozenset[Signal]:
        """The signals that the terms read."""
        return frozenset(signal for term in self.terms for signal in term.signals)

    @property
    def clocks(self) -> tuple[Clock, ...]:
        """The time constants that are learned; none unless the system is `timed`."""
        found = timed_in(self.system)
        return () if found is None else found.clocks

    def draw(
        self, episodes: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> State:
        """Return a fresh state for each of `episodes` episodes.

        Raises:
            UserError: if the number is below 1.
        """
        return self.system.draw(require_count(episodes, "episodes"), generator, dtype)

    def begin(
        self,
        episodes: int,
        initial: State | None,
        generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> State:
        """Return the state in which episodes start: prescribed, or freshly drawn.

        Matrices that `initial` lacks, such as the feedback's own, are drawn; matrices that the
        system does not have are left out.
        """
        if initial is None:
            return self.system.draw(episodes, generator, dtype)
        return self.system.complete(initial, episodes, generator, dtype)

    def changes(self, view: View, theta: Tensor, example: Examples) -> Step:
        """Return the changes from one example; all signals are computed before any weight changes.

        Args:
            view: the state before the step.
            theta: [episode, site, term].
            example: one for each episode.
        """
        return self.changes_of(theta, self.system.present(view, example, self.reads))

    def changes_of(self, theta: Tensor, presented: Presented) -> Step:
        """Return the changes from an example that the system has already presented."""
        changes = {
            group.name: change(
                self.plasticity(group), theta[:, group.site], presented.synapses[group.name]
            )
            for group in self.changing
        }
        return Step(changes | dict(presented.own), presented.carry)

    def step(self, state: State, theta: Tensor, example: Examples) -> State:
        """Return the state after learning one example per episode; arguments as in `changes`.

        The example may be a mini-batch, [episode, sample, …], if the system takes one.

        Raises:
            UserError: if the objective does not accept the targets.
        """
        return self.moved(state, self.changes(View.of(state), theta, self._checked(example)))

    def moved(self, state: State, step: Step) -> State:
        """Return the state after a step, within the limits of the system's weights."""
        limits, matrices = self.system.limits, dict(state.matrices)
        for name, found in step.changes.items():
            after = found.apply(matrices[name])
            matrices[name] = limits[name].project(after) if name in limits else after
        return State(matrices, step.carry)

    def _checked(self, examples: Examples, axes: int = 0) -> Examples:
        """Return examples with their targets in the objective's format.

        The first `axes` axes number the samples. 0 means the axes of one step: 1, or 2 in a
        mini-batch.
        """
        inputs = examples.input
        if not axes:
            batched = self.system.takes_batches and inputs.dim() == 2 + self.system.input_axes
            axes = 2 if batched else 1
        targets = self.system.targets(
            examples.target, tuple(inputs.shape[:axes]),
            what="labels", dtype=inputs.dtype, device=inputs.device,
        )  # fmt: skip
        return examples._replace(target=targets)

    def updates(self, state: State, example: Examples) -> dict[str, Iterator[Tensor]]:
        """Return the updates F^k of the terms on each group, computed one by one on demand.

        Each is a full matrix, [episode, row, column], for the terms that act on the group's matrix
        (`acting`), in the order of `terms`. This is for diagnosis: it shares no code with the
        compiled terms.

        Raises:
            UserError: if the objective does not accept the targets.
        """
        example = self._checked(example)
        presented = self.system.present(View.of(state), example, self.reads)
        return {group.name: self._updates(group, presented) for group in self.system.groups}

    def _updates(self, group: Group, presented: Presented) -> Iterator[Tensor]:
        for k in self.acting(group):
            yield full_update(self.terms[k], presented.synapses[group.name])

    def query(self, state: State, query: Examples) -> tuple[Tensor, Tensor]:
        """Return loss and score, means over the query set, [episode] each.

        Raises:
            UserError: if the objective does not accept the targets.
        """
        objective, query = self.system.objective, self._checked(query, 2)
        output = self.system.output(View.of(state), query.input)
        # If each step has a target, every step of a sequence counts as a sample.
        last = 1 + len(self.system.target_shape)
        loss, score = objective.checked_quality(
            output.flatten(1, last), query.target.flatten(1, last)
        )
        return loss.mean(-1), score.mean(-1)

    def error_angles(self, state: State, query: Examples) -> Tensor:
        """Return the system's error angles, in degrees; see `System.error_angles`."""
        with own_settings(), torch.no_grad():
            return self.system.error_angles(View.of(state), self._checked(query, 2))
