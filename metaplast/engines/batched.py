"""Many episodes at once in torch, with memory that grows with √T.

The forward sweep keeps the state at the start of every segment of about 2 √T steps. The backward
sweep takes the segments from last to first: it repeats a segment, then carries the adjoint back
step by step. One step changes M by low-rank factors,

    M⁺ = (1 + g) M + Σ a ⊗ V_a,

so the states in between need not be kept: each step is undone in place, in cache. The rebuilt state
is compared with the kept start of the segment. If it is off by more than a few roundings (strong
decay, unbounded growth), the segment is repeated with all its states kept.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from metaplast.base.torch_settings import exact_run, own_settings
from metaplast.engines.contract import Engine, Outcome, Problem
from metaplast.engines.stepper import Before, Start, Stepper, StepRecord
from metaplast.systems.learner import Learner
from metaplast.systems.state import State

# Largest error of undone steps, in roundings, relative to the norm of the weights.
ROUNDINGS = 32

# The moving matrices and carried vectors before a step, and the step's products.
_Kept = tuple[list[Tensor], list[Tensor], list[Tensor]]

# Called with the step, the adjoint of the moving matrices before it, and the step's part of the
# gradient to θ.
Watch = Callable[[int, list[Tensor], Tensor], None]


class BatchedEngine(Engine):
    """All episodes of a batch together: a few torch operations per layer."""

    name = "batched"
    summary = "many episodes at once in torch; CPU and CUDA; any term"

    def stepper(self, problem: Problem) -> Stepper:
        """Return one step of the problem's learner, forward and backward."""
        return Stepper(problem.learner)

    @exact_run
    def run(self, problem: Problem, *, gradient: bool = True) -> Outcome:
        """Unroll all episodes; see `Engine.run`."""
        sweep = _Sweep(self.stepper(problem), problem)
        return sweep.differentiate() if gradient else sweep.evaluate()


class CompiledEngine(BatchedEngine):
    """The batched engine with its step compiled by torch; pays off over many episodes."""

    name = "compiled"
    summary = "the batched engine, its step compiled by torch (needs a C++ compiler, or CUDA)"

    def __init__(self) -> None:
        self._steppers: dict[tuple[Learner, bool], Stepper] = {}

    def stepper(self, problem: Problem) -> Stepper:
        """Return the compiled step, compiled once for each learner, with and without noise."""
        # No guard notices whether there is noise.
        key = problem.learner, problem.episodes.noise is None
        if key not in self._steppers:
            self._steppers[key] = Stepper(problem.learner, _compile)
        return self._steppers[key]


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` compiled, with guards only on the tensors.

    Everything else that a step reads belongs to its learner, which cannot change. Guards on it
    would take a twentieth of the time.
    """
    options: dict[str, Any] = {
        # Loops over neurons are too short to split among threads. The library, with threads of its
        # own, computes large products.
        "cpp.threads": 1,
        "guard_filter_fn": lambda guards: [g.guard_type == "TENSOR_MATCH" for g in guards],
    }
    compiled: Callable[..., Any] = torch.compile(
        function, dynamic=False, fullgraph=True, options=options
    )
    return compiled


class _Sweep:
    """All steps of a problem, forward and backward."""

    def __init__(self, stepper: Stepper, problem: Problem) -> None:
        self.stepper = stepper
        self.problem = problem
        self.theta = problem.episode_theta
        for plasticity in (problem.learner.forward_plasticity, problem.learner.backward_plasticity):
            # Make it here: a compiled step would make it again at every call.
            plasticity.layout(self.theta.device, self.theta.dtype)
        self.fixed = [problem.state.matrices[name] for name in stepper.fixed]

    def evaluate(self) -> Outcome:
        """Return loss and score without a gradient."""
        with torch.no_grad():
            _, _, final = self._forward()
            loss, score = self._query(final)
        return Outcome(loss, score, None, final)

    def differentiate(self, watch: Watch | None = None) -> Outcome:
        """Return loss, score and the gradient to θ; `watch` sees every step backward."""
        steps = self.problem.episodes.steps
        # Twice √T: every segment keeps its start, but states are kept only where steps cannot be
        # undone.
        length = max(1, 2 * math.isqrt(steps))
        starts = range(0, steps, length)
        undoes = watch is None and not self.stepper.has_dense
        kept, taken, final = self._forward(starts, undoes=undoes)
        loss, score, adjoint = self._query_adjoint(final)
        theta_adjoint = torch.zeros_like(self.theta)
        way_back = _WayBack(self, adjoint, undoes=undoes)
        end = self._moving(final)
        for start in reversed(starts):
            segment = range(start, min(start + length, steps))
            theta_adjoint += way_back.carry(kept[-1], end, segment, taken, watch)
            end = kept.pop()
        return Outcome(loss, score, self.problem.reduce(theta_adjoint), final)

    def _moving(self, state: State) -> Before:
        """Return the moving part of a state, in the stepper's order."""
        return Before(
            [state.matrices[name] for name in self.stepper.moving],
            [state.carry[name] for name in self.stepper.carried],
        )

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
    def take(self, t: int, before: Before, after: list[Tensor] | None = None) -> StepRecord:
        """Take step t from `before` to the matrices `after`; in place if `after` is not given."""
        taken: StepRecord = self.stepper.take(self._start(t, before))
        targets = before.matrices if after is None else after
        for matrix, change, target in zip(before.matrices, taken.changes, targets, strict=True):
            change.apply(matrix, out=target)
        return taken

    def _forward(
        self, keep: range = range(0), *, undoes: bool = False
    ) -> tuple[list[Before], list[StepRecord], State]:
        """Return the moving states before the steps in `keep`, all changes, and the final state.

        Changes are kept only to undo the steps, and only if they take no more than twice the memory
        of the kept matrices.
        """
        kept, taken = [], []
        initial = self._moving(self.problem.state)
        matrices = [m.detach().clone() for m in initial.matrices]
        carry = [vector.detach() for vector in initial.carry]
        for t in range(self.problem.episodes.steps):
            if t in keep:
                kept.append(Before([m.clone() for m in matrices], carry))
            step = self.take(t, Before(matrices, carry))
            carry = step.carry
            if undoes and t == 0:
                room = 2 * len(keep) * sum(m.numel() for m in matrices)
                undoes = step.numel() * self.problem.episodes.steps <= room
            if undoes:
                taken.append(step)
        return kept, taken, self._state(matrices, carry)

    def _state(self, matrices: list[Tensor], carry: list[Tensor]) -> State:
        names = (*self.stepper.moving, *self.stepper.fixed)
        found = dict(zip(names, [*matrices, *self.fixed], strict=True))
        shapes = self.problem.learner.system.shapes
        return State(
            {name: found[name] for name in shapes},
            dict(zip(self.stepper.carried, carry, strict=True)),
        )

    def _query(self, final: State) -> tuple[Tensor, Tensor]:
        return self.problem.learner.query(final, self.problem.episodes.query)

    def _query_adjoint(self, final: State) -> tuple[Tensor, Tensor, Before]:
        """Return loss and score per episode, and ∂loss/∂(moving state)."""
        leaves = final.map(lambda tensor: tensor.detach().requires_grad_())
        loss, score = self._query(leaves)
        moving = self._moving(leaves)
        flat = [*moving.matrices, *moving.carry]
        if not flat:
            return loss.detach(), score.detach(), Before([], [])
        # Episodes are independent, so the gradient of the sum holds each episode's own gradient.
        adjoint = torch.autograd.grad(loss.sum(), flat, allow_unused=True, materialize_grads=True)
        # autograd may return transposed memory, which would slow down every later product.
        parts = [a.contiguous() for a in adjoint]
        count = len(moving.matrices)
        return loss.detach(), score.detach(), Before(parts[:count], parts[count:])


class _WayBack:
    """Carries an adjoint back over the segments of a sweep, from the last to the first.

    Args:
        sweep: provides the steps.
        adjoint: of the moving state at the end; its matrices are changed in place.
        undoes: whether steps may be undone in place, as long as that is exact.
    """

    def __init__(self, sweep: _Sweep, adjoint: Before, *, undoes: bool) -> None:
        self._sweep = sweep
        self._adjoint, self._carry = list(adjoint.matrices), list(adjoint.carry)
        self._undoes = undoes
        # One buffer for all segments: fresh pages would cost more than the arithmetic.
        self._states = [[torch.empty_like(m) for m in self._adjoint]]
        self._saved = [torch.empty_like(m) for m in self._adjoint] if undoes else []

    def carry(
        self,
        start: Before,
        end: Before,
        segment: range,
        taken: list[StepRecord],
        watch: Watch | None = None,
    ) -> Tensor:
        """Carry the adjoint from the end of a segment to its start; return θ's part.

        Args:
            start: the moving state before the segment.
            end: after it.
            segment: its steps.
            taken: the change of each step of the sweep; empty if it must be computed again.
            watch: sees every step.
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
        total = torch.zeros_like(self._sweep.theta)
        for t, (matrices, carry, products) in zip(reversed(segment), states, strict=True):
            adjoint = Before(self._adjoint, self._carry)
            part, self._carry = self._sweep.vjp(t, Before(matrices, carry), adjoint, products)
            total += part
            if watch is not None:
                watch(t, self._adjoint, part)
        return total

    def _repeat(self, start: Before, segment: range) -> list[StepRecord]:
        """Return the change of each step of a segment."""
        matrices, carry = self._states[0], start.carry
        _copy(start.matrices, matrices)
        steps = []
        for t in segment:
            steps.append(self._sweep.take(t, Before(matrices, carry)))
            carry = steps[-1].carry
        return steps

    def _undone(self, start: Before, end: Before, steps: list[StepRecord]) -> Iterator[_Kept]:
        """Yield the state before each step, last step first, each undone from the next."""
        matrices = self._states[0]
        _copy(end.matrices, matrices)
        carries = [list(start.carry), *(step.carry for step in steps)]
        for step, carry in zip(reversed(steps), reversed(carries[:-1]), strict=True):
            for matrix, change in zip(matrices, step.changes, strict=True):
                change.undo(matrix)
            yield matrices, carry, step.products

    def _kept(self, start: Before, segment: range) -> list[_Kept]:
        """Return the state before each step, last step first."""
        while len(self._states) <= len(segment):
            self._states.append([torch.empty_like(m) for m in start.matrices])
        states, carry = self._states[: len(segment) + 1], list(start.carry)
        _copy(start.matrices, states[0])
        kept: list[_Kept] = []
        # The state after the last step is not needed, but its products are.
        for t, before, after in zip(segment, states, states[1:], strict=False):
            step = self._sweep.take(t, Before(before, carry), after)
            kept.append((before, carry, step.products))
            carry = step.carry
        return kept[::-1]


def _copy(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    for matrix, copy in zip(source, target, strict=True):
        copy.copy_(matrix)


def _is_rebuilt(rebuilt: list[Tensor], start: Sequence[Tensor]) -> bool:
    """Return whether matrices agree to a few roundings, relative to each episode's norm.

    Overwrites `rebuilt`. NaN never counts as close.
    """
    for matrix, kept in zip(rebuilt, start, strict=True):
        size = torch.linalg.vector_norm(kept.flatten(1), dim=1)
        error = torch.linalg.vector_norm(matrix.sub_(kept).flatten(1), dim=1)
        if not (error <= ROUNDINGS * torch.finfo(kept.dtype).eps * size).all():
            return False
    return True


class _Found(Exception):  # noqa: N818 - a signal, not an error
    """Ends a backward sweep at the first step worth reporting."""


def first_bad_adjoint(problem: Problem) -> tuple[int, str, Tensor]:
    """Return where an adjoint first becomes non-finite on the way back.

    Returns:
        The step, the name of the matrix ("" if θ's own gradient is not finite) and θ's part of the
        gradient at that step, [episode, site, term]; if everything is finite, the step at which
        that part is largest.
    """
    worst: tuple[int, str, Tensor] | None = None
    names = problem.learner.moving

    def watch(step: int, adjoint: list[Tensor], part: Tensor) -> None:
        nonlocal worst
        bad = [i for i, matrix in enumerate(adjoint) if not torch.isfinite(matrix).all()]
        if bad or not torch.isfinite(part).all():
            worst = (step, names[bad[0]] if bad else "", part)
            raise _Found
        if worst is None or part.abs().max() > worst[2].abs().max():
            worst = (step, "", part)

    with own_settings(grad=True), contextlib.suppress(_Found):
        _Sweep(Stepper(problem.learner), problem.ordinary).differentiate(watch)
    assert worst is not None, "an episode has at least one step"
    return worst
