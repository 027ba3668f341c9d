"""The backward sweep over the steps of a problem: it carries the adjoint from the end to the start.

Steps are undone in place where that is exact; otherwise the states before them are kept: see
`metaplast.engines.batched`. If weights have limits, the adjoint after a step is set to 0 wherever
the projection changed a weight, before it is carried back over the step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metaplast.engines.contract import Problem
from metaplast.engines.stepper import Before, Start, Stepper, StepRecord

# Largest error of undone steps, in units of the dtype's eps, relative to the norm of the weights.
ROUNDINGS = 32

# For each moving matrix, a mask of the weights that a step's projection left unchanged; None if the
# matrix has no limits.
Unchanged = list[Tensor | None]


class _Kept(NamedTuple):
    """The moving matrices and carried vectors before a step, and the step's products."""

    matrices: list[Tensor]
    carry: list[Tensor]
    products: list[Tensor]
    unchanged: Unchanged | None = None


# Called with the step, the adjoint of the moving matrices before it, and the step's part of
# ∂loss/∂θ.
Watch = Callable[[int, list[Tensor], Tensor], None]


class Steps:
    """The steps of a problem, each taken or carried back from a given state."""

    def __init__(self, stepper: Stepper, problem: Problem) -> None:
        self.stepper = stepper
        self.problem = problem
        self.theta = problem.episode_theta
        for group in problem.learner.changing:
            problem.learner.plasticity(group).prepare(self.theta.device, self.theta.dtype)
        self.fixed = [problem.state.matrices[name] for name in stepper.fixed]
        limits = problem.learner.system.limits
        self._limits = [limits.get(name) for name in stepper.moving]

    @property
    def can_be_undone(self) -> bool:
        """Whether a state can be computed from the next: no dense changes and no projections."""
        return not self.stepper.has_dense and not any(self._limits)

    def vjp(
        self, t: int, before: Before, adjoint: Before, products: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Carry the adjoint back over step t, its matrices in place; see `Stepper.vjp`."""
        return self.stepper.vjp(self._start(t, before), adjoint, products)

    def _start(self, t: int, before: Before) -> Start:
        """Return everything that step t depends on."""
        state = Before([*before.matrices, *self.fixed], before.carry)
        return Start(state, self.theta, self.problem.episodes.example(t))

    @torch.no_grad()
    def take(
        self,
        t: int,
        before: Before,
        after: list[Tensor] | None = None,
        unchanged: Unchanged | None = None,
    ) -> StepRecord:
        """Take step t from `before` to the matrices `after`; in place if `after` is not given.

        `unchanged`, if given, receives masks of the weights that the projection left unchanged.
        """
        taken: StepRecord = self.stepper.take(self._start(t, before))
        targets = before.matrices if after is None else after
        for matrix, change, target in zip(before.matrices, taken.changes, targets, strict=True):
            change.apply(matrix, out=target)
        if any(self._limits):
            self._project(targets, unchanged)
        return taken

    def _project(self, matrices: Sequence[Tensor], unchanged: Unchanged | None) -> None:
        """Bring matrices into their limits, in place."""
        for matrix, limits in zip(matrices, self._limits, strict=True):
            if unchanged is not None:
                unchanged.append(None if limits is None else limits.unchanged(matrix))
            if limits is not None:
                limits.project_(matrix)


class WayBack:
    """Carries an adjoint back over the segments of a problem's steps, from last to first.

    Args:
        steps: the problem's steps.
        adjoint: the adjoint of the moving state at the end; its matrices are changed in place.
        undoes: whether to undo steps in place, as long as that is exact. After the first segment in
            which it is not, the states of all earlier segments are kept, too.
    """

    def __init__(self, steps: Steps, adjoint: Before, *, undoes: bool) -> None:
        self._steps = steps
        self._adjoint, self._carry = list(adjoint.matrices), list(adjoint.carry)
        self._undoes = undoes
        # All segments use the same buffer: new memory pages would cost more than the arithmetic.
        self._states = [[torch.empty_like(m) for m in self._adjoint]]
        self._saved = [torch.empty_like(m) for m in self._adjoint] if undoes else []

    @property
    def carried(self) -> list[Tensor]:
        """The adjoint of the carried vectors before the steps carried back so far."""
        return self._carry

    def carry(
        self,
        start: Before,
        end: Before,
        segment: range,
        taken: list[StepRecord],
        watch: Watch | None = None,
    ) -> Tensor:
        """Carry the adjoint back from the end of a segment to its start.

        Args:
            start: the moving state before the segment.
            end: the moving state after it.
            segment: the steps of the segment.
            taken: the record of each step of the problem; empty if the steps must be taken again.
            watch: called after each backward step whose state was kept, not undone.

        Returns:
            The segment's part of ∂loss/∂θ, [episode, site, term].
        """
        if self._undoes:
            _copy(self._adjoint, self._saved)
            carry = self._carry
            steps = taken[segment.start : segment.stop] or self._repeat(start, segment)
            part = self._pull_back(self._undone(start, end, steps), segment)
            if _is_rebuilt(self._states[0], start.matrices):
                return part
            self._undoes = False
            self._carry = carry
            _copy(self._saved, self._adjoint)
        return self._pull_back(self._kept(start, segment), segment, watch)

    def _pull_back(
        self, states: Iterable[_Kept], segment: range, watch: Watch | None = None
    ) -> Tensor:
        total = torch.zeros_like(self._steps.theta)
        for t, kept in zip(reversed(segment), states, strict=True):
            for matrix, unchanged in zip(self._adjoint, kept.unchanged or (), strict=False):
                if unchanged is not None:
                    matrix.mul_(unchanged)
            adjoint = Before(self._adjoint, self._carry)
            before = Before(kept.matrices, kept.carry)
            part, self._carry = self._steps.vjp(t, before, adjoint, kept.products)
            total += part
            if watch is not None:
                watch(t, self._adjoint, part)
        return total

    def _repeat(self, start: Before, segment: range) -> list[StepRecord]:
        """Take the steps of a segment again, and return their records."""
        matrices, carry = self._states[0], start.carry
        _copy(start.matrices, matrices)
        steps = []
        for t in segment:
            steps.append(self._steps.take(t, Before(matrices, carry)))
            carry = steps[-1].carry
        return steps

    def _undone(self, start: Before, end: Before, steps: list[StepRecord]) -> Iterator[_Kept]:
        """Yield the state before each step, last step first; undo each step to get it."""
        matrices = self._states[0]
        _copy(end.matrices, matrices)
        carries = [list(start.carry), *(step.carry for step in steps)]
        for step, carry in zip(reversed(steps), reversed(carries[:-1]), strict=True):
            for matrix, change in zip(matrices, step.changes, strict=True):
                change.undo(matrix)
            yield _Kept(matrices, carry, step.products)

    def _kept(self, start: Before, segment: range) -> list[_Kept]:
        """Take the steps again, and return the state before each step, last step first."""
        while len(self._states) <= len(segment):
            self._states.append([torch.empty_like(m) for m in start.matrices])
        states, carry = self._states[: len(segment) + 1], list(start.carry)
        _copy(start.matrices, states[0])
        kept: list[_Kept] = []
        # The state after the last step is not needed, but its products are.
        for t, before, after in zip(segment, states, states[1:], strict=False):
            unchanged: Unchanged = []
            step = self._steps.take(t, Before(before, carry), after, unchanged)
            kept.append(_Kept(before, carry, step.products, unchanged))
            carry = step.carry
        return kept[::-1]


def _copy(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    for matrix, copy in zip(source, target, strict=True):
        copy.copy_(matrix)


def _is_rebuilt(rebuilt: list[Tensor], start: Sequence[Tensor]) -> bool:
    """Return whether matrices agree up to a few roundings, relative to each episode's norm.

    Overwrites `rebuilt`. If a matrix contains NaN, the result is False.
    """
    for matrix, kept in zip(rebuilt, start, strict=True):
        size = torch.linalg.vector_norm(kept.flatten(1), dim=1)
        error = torch.linalg.vector_norm(matrix.sub_(kept).flatten(1), dim=1)
        if not (error <= ROUNDINGS * torch.finfo(kept.dtype).eps * size).all():
            return False
    return True
