"""Many episodes at once in torch, with memory that grows with √T.

The forward sweep keeps the state at the start of every segment of about 2 √T steps. The backward
sweep takes the segments from the last to the first: it repeats a segment, then carries the adjoint
back step by step. One step changes M by low-rank factors,

    M⁺ = (1 + g) M + Σ a ⊗ V_a,

so the states in between need not be kept: each step is undone in place, in cache. What is rebuilt
so is compared with the kept start of the segment; where it is off by more than a few roundings
(strong decay, growth without bound) the segment is done again with all its states kept.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from metaplast.learner import Learner, State
from metaplast.torch_settings import exact_run, own_settings
from metaplast.unroll.contract import Engine, Outcome, Problem
from metaplast.unroll.stepper import Stepper, Taken

# How far undone steps may be off, in roundings, by the norm of the weights.
ROUNDINGS = 32

# The moving matrices before a step, and the step's products.
_Before = tuple[list[Tensor], list[Tensor]]

# Called with the step, the adjoint of the state before it, and the step's part of θ's gradient.
Watch = Callable[[int, list[Tensor], Tensor], None]


class BatchedEngine(Engine):
    """All episodes of a batch together, a few torch operations for each layer."""

    name = "batched"
    summary = "many episodes at once in torch; CPU and CUDA; any term"

    def stepper(self, learner: Learner) -> Stepper:
        """Return one step of the learner, forward and backward."""
        return Stepper(learner)

    @exact_run
    def run(self, problem: Problem, *, gradient: bool = True) -> Outcome:
        """Unroll all episodes; see `Engine.run`."""
        sweep = _Sweep(self.stepper(problem.learner), problem)
        return sweep.differentiate() if gradient else sweep.evaluate()


class CompiledEngine(BatchedEngine):
    """The batched engine with its step compiled by torch; pays off over many episodes."""

    name = "compiled"
    summary = "the batched engine, its step compiled by torch (needs a C++ compiler, or CUDA)"

    def __init__(self) -> None:
        self._steppers: dict[Learner, Stepper] = {}

    def stepper(self, learner: Learner) -> Stepper:
        """Return the compiled step, compiled once for each learner."""
        if learner not in self._steppers:
            self._steppers[learner] = Stepper(learner, _compile)
        return self._steppers[learner]


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function` compiled, checking at each call the tensors alone.

    All else that a step reads belongs to its learner, which cannot change; checking it took a
    twentieth of the time.
    """
    options: dict[str, Any] = {
        # Loops over neurons are too short to share; large products are the library's anyway.
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
            # Made here, so that a compiled step finds it instead of making it each time.
            plasticity.layout(self.theta.device, self.theta.dtype)
        self.still = list(problem.matrices)[len(problem.matrices[stepper.moving]) :]

    def evaluate(self) -> Outcome:
        """Return loss and accuracy without a gradient."""
        with torch.no_grad():
            _, _, final = self._forward()
            loss, accuracy = self._query(final)
        return Outcome(loss, accuracy, None, final)

    def differentiate(self, watch: Watch | None = None) -> Outcome:
        """Return loss, accuracy and the gradient to θ; show `watch` every step of the way back."""
        steps = self.problem.episodes.steps
        # Twice √T: starts are kept for every segment, states only where steps cannot be undone.
        length = max(1, 2 * math.isqrt(steps))
        starts = range(0, steps, length)
        undoes = watch is None and not self.stepper.has_dense
        kept, taken, final = self._forward(starts, undoes=undoes)
        loss, accuracy, adjoint = self._query_adjoint(final)
        theta_adjoint = torch.zeros_like(self.theta)
        way_back = _WayBack(self, adjoint, undoes=undoes)
        end = [*final.weights, *final.backward][self.stepper.moving]
        for start in reversed(starts):
            segment = range(start, min(start + length, steps))
            theta_adjoint += way_back.carry(kept[-1], end, segment, taken, watch)
            end = kept.pop()
        return Outcome(loss, accuracy, self.problem.reduce(theta_adjoint), final)

    def pull_back(
        self,
        t: int,
        matrices: list[Tensor],
        adjoint: list[Tensor],
        products: list[Tensor],
    ) -> Tensor:
        """Carry the adjoint back over step t, in place; return θ's part."""
        return self.stepper.pull_back(
            [*matrices, *self.still], self.theta, self._example(t), adjoint, products
        )

    def _example(self, t: int) -> tuple[Tensor, Tensor]:
        return self.problem.episodes.support_x[:, t], self.problem.episodes.support_y[:, t]

    @torch.no_grad()
    def take(self, t: int, matrices: list[Tensor], after: list[Tensor] | None = None) -> Taken:
        """Take step t from the moving matrices to `after`, in place if that is not given."""
        taken: Taken = self.stepper.take([*matrices, *self.still], self.theta, *self._example(t))
        targets = matrices if after is None else after
        for matrix, change, target in zip(matrices, taken.changes, targets, strict=True):
            change.apply(matrix, out=target)
        return taken

    def _forward(
        self, keep: Sequence[int] = (), *, undoes: bool = False
    ) -> tuple[list[list[Tensor]], list[Taken], State]:
        """Return the moving matrices before each step in `keep`, what the steps did, and the final
        state.

        What steps did is kept only to undo them, and only where it takes no more than twice the
        memory of the kept matrices.
        """
        wanted = set(keep)
        kept, taken = [], []
        matrices = [m.detach().clone() for m in self.problem.matrices[self.stepper.moving]]
        for t in range(self.problem.episodes.steps):
            if t in wanted:
                kept.append([m.clone() for m in matrices])
            step = self.take(t, matrices)
            if undoes and t == 0:
                room = 2 * len(keep) * sum(m.numel() for m in matrices)
                undoes = step.numel() * self.problem.episodes.steps <= room
            if undoes:
                taken.append(step)
        layers = self.problem.learner.network.layers
        everything = [*matrices, *self.still]
        return kept, taken, State(tuple(everything[:layers]), tuple(everything[layers:]))

    def _query(self, final: State) -> tuple[Tensor, Tensor]:
        episodes = self.problem.episodes
        return self.problem.learner.query(final, episodes.query_x, episodes.query_y)

    def _query_adjoint(self, final: State) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return loss and accuracy per episode, and ∂loss/∂(moving matrices)."""
        leaves = State(*(tuple(m.detach().requires_grad_() for m in group) for group in final))
        loss, accuracy = self._query(leaves)
        moving = [*leaves.weights, *leaves.backward][self.stepper.moving]
        # Episodes are independent, so the gradient of the sum is each episode's own gradient.
        adjoint = torch.autograd.grad(loss.sum(), moving, allow_unused=True, materialize_grads=True)
        # autograd may hand back transposed memory, in which every later product is slow.
        return loss.detach(), accuracy.detach(), [a.contiguous() for a in adjoint]


class _WayBack:
    """Carries an adjoint back over the segments of a sweep, from the last to the first.

    Args:
        sweep: gives the steps.
        adjoint: of the final moving matrices; changed in place.
        undoes: whether steps may be undone in place, as long as that is exact.
    """

    def __init__(self, sweep: _Sweep, adjoint: list[Tensor], *, undoes: bool) -> None:
        self._sweep = sweep
        self._adjoint = adjoint
        self._undoes = undoes
        # Memory for all segments: fresh pages would cost more than the arithmetic.
        self._states = [[torch.empty_like(m) for m in adjoint]]
        self._saved = [torch.empty_like(m) for m in adjoint] if undoes else []

    def carry(
        self,
        start: list[Tensor],
        end: list[Tensor],
        segment: range,
        taken: list[Taken],
        watch: Watch | None = None,
    ) -> Tensor:
        """Carry the adjoint from the end of a segment to its start; return θ's part.

        Args:
            start: the moving matrices before the segment.
            end: after it.
            segment: its steps.
            taken: what each step of the sweep did; empty if that is to be found again.
            watch: sees every step.
        """
        if self._undoes:
            _copy(self._adjoint, self._saved)
            steps = taken[segment.start : segment.stop] or self._repeat(start, segment)
            part = self._pull_back(self._undone(end, steps), segment)
            if _is_rebuilt(self._states[0], start):
                return part
            self._undoes = False
            _copy(self._saved, self._adjoint)
        return self._pull_back(self._kept(start, segment), segment, watch)

    def _pull_back(
        self, states: Iterable[_Before], segment: range, watch: Watch | None = None
    ) -> Tensor:
        total = torch.zeros_like(self._sweep.theta)
        for t, (matrices, products) in zip(reversed(segment), states, strict=True):
            part = self._sweep.pull_back(t, matrices, self._adjoint, products)
            total += part
            if watch is not None:
                watch(t, self._adjoint, part)
        return total

    def _repeat(self, start: list[Tensor], segment: range) -> list[Taken]:
        """Return what each step of a segment does."""
        matrices = self._states[0]
        _copy(start, matrices)
        return [self._sweep.take(t, matrices) for t in segment]

    def _undone(self, end: list[Tensor], steps: list[Taken]) -> Iterator[_Before]:
        """Yield what was before each step, the last first, each undone from the next."""
        matrices = self._states[0]
        _copy(end, matrices)
        for step in reversed(steps):
            for matrix, change in zip(matrices, step.changes, strict=True):
                change.undo(matrix)
            yield matrices, step.products

    def _kept(self, start: list[Tensor], segment: range) -> list[_Before]:
        """Return what was before each step, the last first."""
        while len(self._states) <= len(segment):
            self._states.append([torch.empty_like(m) for m in start])
        states = self._states[: len(segment) + 1]
        _copy(start, states[0])
        # The state after the last step is of no use, its products are.
        pairs = zip(segment, states, states[1:], strict=False)
        steps = [self._sweep.take(t, *pair) for t, *pair in pairs]
        return [(m, step.products) for m, step in zip(states, steps, strict=False)][::-1]


def _copy(source: list[Tensor], target: list[Tensor]) -> None:
    for matrix, copy in zip(source, target, strict=True):
        copy.copy_(matrix)


def _is_rebuilt(rebuilt: list[Tensor], start: list[Tensor]) -> bool:
    """Return whether matrices agree to a few roundings, by the norm of each episode's.

    `rebuilt` is lost. A NaN is never close.
    """
    for matrix, kept in zip(rebuilt, start, strict=True):
        size = torch.linalg.vector_norm(kept.flatten(1), dim=1)
        error = torch.linalg.vector_norm(matrix.sub_(kept).flatten(1), dim=1)
        if not (error <= ROUNDINGS * torch.finfo(kept.dtype).eps * size).all():
            return False
    return True


class _Found(Exception):  # noqa: N818 - a signal, not an error
    """Ends a backward sweep at the first step worth reporting."""


def first_bad_adjoint(problem: Problem) -> tuple[int, int, Tensor]:
    """Return where the way back first meets a non-finite adjoint.

    Returns:
        The step, the index of the matrix (W's, then B's) and θ's part at that step,
        [episode, layer, term]; where all is finite, the step at which θ's part is largest.
    """
    worst: tuple[int, int, Tensor] | None = None

    def watch(step: int, adjoint: list[Tensor], part: Tensor) -> None:
        nonlocal worst
        bad = [i for i, matrix in enumerate(adjoint) if not torch.isfinite(matrix).all()]
        if bad or not torch.isfinite(part).all():
            worst = (step, bad[0] if bad else 0, part)
            raise _Found
        if worst is None or part.abs().max() > worst[2].abs().max():
            worst = (step, int(part.abs().amax((0, 2)).argmax()), part)

    with own_settings(grad=True), contextlib.suppress(_Found):
        _Sweep(Stepper(problem.learner), problem.ordinary).differentiate(watch)
    assert worst is not None, "an episode has at least one step"
    return worst
