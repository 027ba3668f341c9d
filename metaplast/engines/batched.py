"""Many episodes at once in torch, with memory that grows with √T.

The forward sweep keeps the state at the start of every segment of about 2 √T steps. The backward
sweep takes the segments from last to first: it repeats a segment, then carries the adjoint back
step by step. One step changes M by low-rank factors,

    M⁺ = (1 + g) M + Σ a ⊗ V_a,

so the states in between need not be kept: each step is undone in place, in cache. The rebuilt state
is compared with the kept start of the segment. If they differ by more than a few roundings (strong
decay, unbounded growth), the segment is repeated with all its states kept, and so are all earlier
segments.

The states of every segment are kept if steps cannot be undone, because a change is dense or weights
are projected into limits. They are also kept if the changes of a step hold more numbers than the
matrices, because that is faster.
"""

from __future__ import annotations

import contextlib
import math
import types
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from metaplast.base.errors import UserError, shown
from metaplast.base.torch_settings import exact_run, own_settings
from metaplast.engines.contract import Engine, Outcome, Problem
from metaplast.engines.fit import require_gradient
from metaplast.engines.parts import in_parts
from metaplast.engines.stepper import Before, Stepper, StepRecord
from metaplast.engines.way_back import Steps, Watch, WayBack
from metaplast.scans.operation import prepare_for_compiler
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.systems.timed import log_taus
from metaplast.systems.wrapped import wrappers


def are_large(step: StepRecord, matrices: Sequence[Tensor]) -> bool:
    """Return whether a step's changes hold more numbers than the matrices that they change."""
    changed = sum(change.numel() for change in step.changes)
    return changed > sum(m.numel() for m in matrices)


class BatchedEngine(Engine):
    """All episodes of a batch together: a few torch operations per layer."""

    name = "batched"
    summary = "many episodes at once in torch; CPU and CUDA; any term"
    takes_each = True
    # Whether large batches are split among threads.
    splits = True

    def __init__(self, *, scans: bool = True) -> None:
        """Make the engine.

        Args:
            scans: whether a loop over the time steps of a sequence is a single operation; see
                `metaplast.scans`.
        """
        self._scans = scans

    def stepper(self, problem: Problem) -> Stepper:
        """Return one step of the problem's learner, forward and backward."""
        return Stepper(problem.learner, scans=self._scans)

    @exact_run
    def run(self, problem: Problem, *, gradient: bool = True) -> Outcome:
        """Unroll all episodes; see `Engine.run`."""
        if gradient:
            require_gradient(problem.learner.system)

        @own_settings(grad=True)  # Each thread has settings of its own.
        def run(part: Problem) -> Outcome:
            sweep = _Sweep(self.stepper(part), part)
            return sweep.differentiate() if gradient else sweep.evaluate()

        return in_parts(problem, run) if self.splits else run(problem)


class CompiledEngine(BatchedEngine):
    """The batched engine with its step compiled by torch; pays off over many episodes."""

    name = "compiled"
    summary = "the batched engine, its step compiled by torch (needs a C++ compiler, or CUDA)"
    # torch compiles on one thread only.
    splits = False

    def __init__(self) -> None:
        super().__init__()
        self._steppers: dict[tuple[Learner, bool], Stepper] = {}

    def refusal(self, learner: Learner, device: torch.device) -> str | None:
        """Return why torch cannot compile the learner's step, or None if it can."""
        if learner.system.traceable:
            return None
        return (
            f"the compiled engine cannot compile the system {learner.system.name}, whose steps "
            f"depend on values of tensors; use --engine batched."
        )

    def run(self, problem: Problem, *, gradient: bool = True) -> Outcome:
        """Unroll all episodes; see `Engine.run`.

        Raises:
            UserError: if torch cannot compile the step.
        """
        from torch._dynamo.exc import TorchDynamoException

        try:
            return super().run(problem, gradient=gradient)
        except TorchDynamoException as failed:
            raise UserError(
                f"torch cannot compile the steps of the system {problem.learner.system.name} "
                f"({shown(str(failed))}); use --engine batched."
            ) from failed

    def stepper(self, problem: Problem) -> Stepper:
        """Return the compiled step; it is compiled once per learner, with and without noise."""
        # torch would not notice that noise is present or absent: the step guards only on tensors.
        key = problem.learner, problem.episodes.noise is None
        if key not in self._steppers:
            _evaluate_cached(problem.learner)
            system = problem.learner.system
            _evaluate_cached(system)
            for wrapper in wrappers(system):
                _evaluate_cached(wrapper.system)
            self._steppers[key] = Stepper(
                problem.learner, _compile, scans=prepare_for_compiler(), joint=False
            )
        return self._steppers[key]


def _evaluate_cached(value: object) -> None:
    """Evaluate every cached property before torch traces a step.

    Python takes a lock when it first evaluates a cached property, and torch cannot trace the lock.
    Most of these properties would be evaluated in the first step, which is the one that torch
    traces.
    """
    for kind in type(value).__mro__:
        for name, attribute in vars(kind).items():
            if isinstance(attribute, cached_property):
                getattr(value, name)


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method compiled, with guards only on the tensors.

    Everything else that a step reads belongs to its learner, which cannot change; guards on it
    would take a twentieth of the run time. torch looks up compiled steps by the method's code
    object. Without guards, one learner would therefore get another's step, so each learner gets a
    copy of the code object.
    """
    method: Any = function
    code = method.__func__.__code__.replace()
    own = types.FunctionType(code, method.__func__.__globals__, code.co_name)
    function = types.MethodType(own, method.__self__)
    options: dict[str, Any] = {
        # Loops over neurons are too short to split among threads. The math library computes large
        # products, with its own threads.
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
        self.steps = Steps(stepper, problem)
        self._has_large_changes = False

    def evaluate(self) -> Outcome:
        """Return loss and score without a gradient."""
        with torch.no_grad():
            _, _, final = self._forward()
            loss, score = self._query(final)
        return Outcome(loss, score, None, final)

    def differentiate(self, watch: Watch | None = None) -> Outcome:
        """Return loss, score and gradients; `watch` is called after every backward step."""
        steps = self.problem.episodes.steps
        # 2 √T rather than √T: every segment keeps its start, but only segments whose steps cannot
        # be undone keep their states.
        length = max(1, 2 * math.isqrt(steps))
        starts = range(0, steps, length)
        undoes = watch is None and self.steps.can_be_undone
        kept, taken, final = self._forward(starts, undoes=undoes)
        # If the changes are larger than the matrices, it is faster to keep a segment's states.
        undoes = undoes and not self._has_large_changes
        loss, score, adjoint = self._query_adjoint(final)
        theta_adjoint = torch.zeros_like(self.steps.theta)
        way_back = WayBack(self.steps, adjoint, undoes=undoes)
        end = self._moving(final)
        for start in reversed(starts):
            segment = range(start, min(start + length, steps))
            theta_adjoint += way_back.carry(kept[-1], end, segment, taken, watch)
            end = kept.pop()
        to_taus = self._to_taus(way_back.carried)
        return Outcome(loss, score, self.problem.reduce(theta_adjoint), final, to_taus)

    def _to_taus(self, carried: list[Tensor]) -> Tensor | None:
        """Return ∂loss/∂log τ, from the adjoint of the vectors carried at the start."""
        clocks = self.problem.learner.clocks
        adjoint = State({}, dict(zip(self.stepper.carried, carried, strict=True)))
        return torch.cat(log_taus(adjoint, clocks), 1) if clocks else None

    def _moving(self, state: State) -> Before:
        """Return the moving part of a state, in the stepper's order."""
        return Before(
            [state.matrices[name] for name in self.stepper.moving],
            [state.carry[name] for name in self.stepper.carried],
        )

    def _forward(
        self, keep: range = range(0), *, undoes: bool = False
    ) -> tuple[list[Before], list[StepRecord], State]:
        """Return the moving states before the steps in `keep`, step records, and the final state.

        Records are kept only to undo the steps, and only if they take no more than twice the memory
        of the kept matrices; otherwise the list is empty.
        """
        kept, taken = [], []
        initial = self._moving(self.problem.state)
        matrices = [m.detach().clone() for m in initial.matrices]
        carry = [vector.detach() for vector in initial.carry]
        for t in range(self.problem.episodes.steps):
            if t in keep:
                kept.append(Before([m.clone() for m in matrices], carry))
            step = self.steps.take(t, Before(matrices, carry))
            carry = step.carry
            if t == 0:
                self._has_large_changes = are_large(step, matrices)
            if undoes and t == 0:
                room = 2 * len(keep) * sum(m.numel() for m in matrices)
                undoes = step.numel() * self.problem.episodes.steps <= room
            if undoes:
                taken.append(step)
        return kept, taken, self._state(matrices, carry)

    def _state(self, matrices: list[Tensor], carry: list[Tensor]) -> State:
        names = (*self.stepper.moving, *self.stepper.fixed)
        found = dict(zip(names, [*matrices, *self.steps.fixed], strict=True))
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
        # Episodes are independent, so the gradient of the sum contains each episode's own gradient.
        adjoint = torch.autograd.grad(loss.sum(), flat, allow_unused=True, materialize_grads=True)
        # autograd may return transposed memory, which would slow down every later product.
        parts = [a.contiguous() for a in adjoint]
        count = len(moving.matrices)
        return loss.detach(), score.detach(), Before(parts[:count], parts[count:])


class _Found(Exception):  # noqa: N818 - a signal, not an error
    """Stops a backward sweep at the first step whose adjoint is not finite."""


def first_bad_adjoint(problem: Problem) -> tuple[int, str, Tensor]:
    """Return where an adjoint first becomes non-finite in the backward sweep.

    Returns:
        The step; the name of the first matrix whose adjoint is not finite, "" if only θ's gradient
        is not; and the step's part of ∂loss/∂θ, [episode, site, term]. If everything is finite,
        the step with the largest part, and "".
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
