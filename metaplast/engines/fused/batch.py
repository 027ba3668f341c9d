"""Many episodes, one per thread; an episode is rerun until its gradient is exact."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metaplast.base.background import on_threads
from metaplast.base.errors import require
from metaplast.engines.contract import Outcome, Problem
from metaplast.engines.fused import unroll
from metaplast.engines.fused.arena import Arena, borrowed_arena
from metaplast.engines.fused.dropped import may_drop
from metaplast.engines.fused.engine import TOLERANCES, ReversalError, Settings
from metaplast.engines.fused.episode import Episode, Given, Matrices
from metaplast.engines.fused.jit import load
from metaplast.engines.fused.program import Program, build
from metaplast.engines.fused.served import (
    is_of_pixels,
    lowest_error,
    source_of,
    stack_of,
    traces_of,
)
from metaplast.systems.aging import AGE
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.tasks.batch import EpisodeBatch

_build = lru_cache(maxsize=64)(build)
# The kernels that this process has loaded; see `run_smallest`.
_ready: set[tuple[torch.dtype, bool]] = set()


def run_smallest(dtype: torch.dtype, relaxes: bool = False) -> None:
    """Unroll the smallest possible episode, so that numba compiles a kernel or loads it.

    Args:
        dtype: the dtype of its numbers.
        relaxes: whether activities relax, which needs another kernel.
    """
    stack = FullyConnected((1, 1))
    if relaxes:
        stack = FullyConnected((1, 1, 1), feedback_name="predictive-coding:strict,n=1")
    learner = Learner(stack, ())
    state = learner.draw(1, torch.Generator(), dtype)
    x = torch.zeros(1, 1, 1, dtype=dtype, device="cpu")
    label = torch.zeros(1, 1, dtype=torch.int64, device="cpu")
    problem = Problem(
        learner, torch.zeros(0, dtype=dtype, device="cpu"), state, EpisodeBatch(x, label, x, label)
    )
    Batch(problem, Settings(threads=1), True).run_all()


def _prepare(dtype: torch.dtype, relaxes: bool) -> None:
    """Prepare the kernel for a dtype, and for activities that relax or do not."""
    name, kind = str(dtype).removeprefix("torch."), ["relaxing"] if relaxes else []
    load(
        unroll.run_episode, partial(run_smallest, dtype, relaxes),
        "metaplast.engines.fused.compiling", name, *kind,
    )  # fmt: skip


class Batch:
    """One call of the engine.

    Args:
        problem: the episodes to unroll.
        settings: the settings of the engine.
        gradient: whether to compute the gradient.
    """

    def __init__(self, problem: Problem, settings: Settings, gradient: bool) -> None:
        require(
            problem.theta.dtype in TOLERANCES,
            f"the fused engine computes in float32 or float64, got {problem.theta.dtype}; convert "
            f"the data.",
        )
        self.problem, self.settings, self.gradient = problem, settings, gradient
        self.learner, self.episodes = problem.learner, problem.episodes
        self.traces = traces_of(self.learner)
        self.theta = problem.episode_theta.numpy()
        self.dtype = self.theta.dtype
        self.given = Given.of(problem)
        self.theta_bar = np.zeros_like(self.theta)
        self.results = np.zeros((self.episodes.episodes, 4), dtype=self.dtype)
        self.final = _unfilled(problem)
        self.learned = Matrices.of(self.final, [place.key for place in self.traces])
        self._programs: dict[int, Program] = {}
        self.drops = settings.drop_pixels and may_drop(self.learner)
        plastic = self.learner.forward_plasticity, self.learner.backward_plasticity
        decays = any(plasticity.decays for plasticity in plastic)
        self.spacing = min(settings.spacing, settings.decay_spacing if decays else settings.spacing)

    def run(self) -> Outcome:
        """Unroll all episodes."""
        kernel = self.problem.theta.dtype, source_of(stack_of(self.learner)) == "relaxed"
        if kernel not in _ready:
            _prepare(*kernel)
            _ready.add(kernel)
        self.run_all()
        loss, accuracy = (
            torch.from_numpy(self.results[:, i].copy()) for i in (unroll.LOSS, unroll.ACCURACY)
        )
        gradient = self.problem.reduce(torch.from_numpy(self.theta_bar)) if self.gradient else None
        return Outcome(loss, accuracy, gradient, self.final)

    def run_all(self) -> None:
        """Run every episode, one per thread at a time."""
        threads = self.settings.threads or torch.get_num_threads()
        on_threads(self._run_episode, range(self.episodes.episodes), threads)

    def _used(self, episode: int) -> npt.NDArray[np.bool_]:
        """Return which pixels are kept: those that are not zero in at least one image, [pixel].

        Pixels with a trace that does not begin at zero are kept, too. If pixels may not be dropped,
        all are kept.
        """
        if not self.drops:
            return np.ones(stack_of(self.learner).widths[0], dtype=np.bool_)
        sets = self.given.support_x[episode], self.given.query_x[episode]
        first, second = (images.any(axis=0) for images in sets)
        used = cast("npt.NDArray[np.bool_]", first | second)
        for place, begun in zip(self.traces, self.given.initial.traces, strict=True):
            if is_of_pixels(place):
                used |= begun[episode] != 0
        return used

    def gain(self, episode: int) -> Tensor | None:
        """Return σ' of an episode's images, [step, pixel]; None if e_0 is not read."""
        if lowest_error(self.learner) > 0:
            return None
        x = self.episodes.support_x[episode]
        # Computed in parts that fit in the cache, so that results between need no new memory.
        rows = max(1, 2**14 // x.shape[-1])
        if rows >= len(x):
            return stack_of(self.learner).nonlinearity.derivative(x)
        gain = torch.empty_like(x)
        for to, part in zip(torch.split(gain, rows), torch.split(x, rows), strict=True):
            to.copy_(stack_of(self.learner).nonlinearity.derivative(part))
        return gain

    def _run_episode(self, episode: int) -> None:
        with borrowed_arena() as arena:
            self._run_in(arena, episode)

    def _run_in(self, arena: Arena, episode: int) -> None:
        used = self._used(episode)
        pixels, lost = np.flatnonzero(used), np.flatnonzero(~used)
        program = self._program(len(pixels))
        spacing, slots = self.spacing, self._slots(self.spacing)
        while True:
            self.theta_bar[episode] = 0
            one = Episode(self, arena, episode, program, pixels, lost, slots, spacing)
            unroll.run_episode(program, one.memory, one.task, self.results[episode])
            if self.results[episode, unroll.FULL]:
                slots = min(self.episodes.steps, 4 * slots)
                continue
            if self._is_exact(episode):
                break
            # The weights grow or shrink by orders of magnitude, so undo fewer steps in a row.
            self._require_room(episode, program, spacing)
            spacing //= 8
            slots = max(slots, self._slots(spacing))
        one.read_final()

    def _program(self, inputs: int) -> Program:
        """Return the program after dropping pixels; cached, because hashing a learner is slow."""
        if inputs not in self._programs:
            self._programs[inputs] = _build(self.learner, inputs, self.dtype)
        return self._programs[inputs]

    def _slots(self, spacing: int) -> int:
        """Return for how many copies of the weights to reserve memory.

        This counts those at the first and the last step. If decay needs more copies, the kernel
        stops early, and the episode is rerun with more room.
        """
        return min(self.episodes.steps, 3 + self.episodes.steps // (spacing + 1))

    def _is_exact(self, episode: int) -> bool:
        deviation = float(self.results[episode, unroll.DEVIATION])
        return deviation <= TOLERANCES[self.problem.theta.dtype]

    def _require_room(self, episode: int, program: Program, spacing: int) -> None:
        """Raise `ReversalError` if intervals cannot be shorter, or would take too much memory."""
        size = self._slots(spacing // 8) * program.net.state * self.dtype.itemsize
        if spacing > 0 and size <= self.settings.most_kept:
            return
        raise ReversalError(
            f"episode {episode}: the weights rebuilt in the backward sweep are off by "
            f"{self.results[episode, unroll.DEVIATION]:.1e} of the largest, expected at most "
            f"{TOLERANCES[self.problem.theta.dtype]:.0e}; use --dtype float64 or --engine batched."
        )


def _unfilled(problem: Problem) -> State:
    """Return memory for the final state; arrays that never change are shared."""
    state, changes = problem.state, not problem.learner.backward_plasticity.is_empty
    # Not initialised: each episode's thread writes its own part, so that threads share the cost of
    # new memory pages.
    weights = [torch.empty_like(weight) for weight in state.weights]
    backward = [torch.empty_like(m) if changes else m.detach() for m in state.backward]
    read = {place.key for place in traces_of(problem.learner)}
    carry = {k: torch.empty_like(v) if k in read else v.detach() for k, v in state.carry.items()}
    if AGE in carry:
        carry[AGE] = carry[AGE] + problem.episodes.steps
    return State(State.stack(weights, backward).matrices, carry)
