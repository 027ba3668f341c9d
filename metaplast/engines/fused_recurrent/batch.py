"""Many episodes of a recurrent network, one per thread."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metaplast.base.background import on_threads
from metaplast.engines.contract import Outcome, Problem
from metaplast.engines.fused.jit import load
from metaplast.engines.fused_recurrent import unroll
from metaplast.engines.fused_recurrent.layout import build
from metaplast.engines.fused_recurrent.memory import Memory, Task, allocate, step_numbers
from metaplast.engines.fused_recurrent.program import Numbers, Program
from metaplast.engines.fused_recurrent.served import MOST_KEPT, recurrent_of
from metaplast.engines.fused_recurrent.sources import SIGNED, STILL
from metaplast.systems.learner import Learner
from metaplast.systems.objectives.cross_entropy import class_probabilities
from metaplast.systems.recurrent import FEEDBACK, Recurrent
from metaplast.systems.sequence_network import SITES
from metaplast.systems.state import State
from metaplast.systems.timing import Timing
from metaplast.tasks.batch import EpisodeBatch

# Largest number of bytes of all spare memory.
_MOST_SPARE = 2**29
_build = lru_cache(maxsize=64)(build)
_ready: set[np.dtype[Any]] = set()


class _Sizes(NamedTuple):
    """Everything that the layout of an episode's memory depends on."""

    program: Program
    dtype: np.dtype[Any]
    beta: float
    queries: int
    length: int
    segments: int

    def are_those_of(self, other: _Sizes) -> bool:
        return self.program is other.program and self[1:] == other[1:]


_spare: deque[tuple[_Sizes, Memory]] = deque()


@contextmanager
def _borrowed(sizes: _Sizes) -> Iterator[Memory]:
    """Lend spare memory that no other thread uses: new pages would take a fifth of the run time."""
    try:
        found, memory = _spare.pop()
        fits = sizes.are_those_of(found)
    except IndexError:
        fits = False
    if not fits:
        memory = allocate(*sizes)
    try:
        yield memory
    finally:
        _spare.append((sizes, memory))
        _shrink()


def _shrink() -> None:
    """Free the oldest spare memory while there is too much."""
    with suppress(IndexError):  # Other threads take spare memory at the same time.
        while sum(memory.s.nbytes + memory.w.nbytes for _, memory in tuple(_spare)) > _MOST_SPARE:
            _spare.popleft()


def run_smallest(dtype: torch.dtype) -> None:
    """Unroll the smallest possible episode, so that numba compiles the kernel or loads it."""
    learner = Learner(Recurrent((1, 1, 2), Timing(1, 1, 2)), ())
    state = learner.draw(1, torch.Generator(), dtype)
    x = torch.zeros(1, 1, 1, 1, dtype=dtype, device="cpu")
    label = torch.zeros(1, 1, dtype=torch.int64, device="cpu")
    problem = Problem(
        learner, torch.zeros(0, dtype=dtype, device="cpu"), state, EpisodeBatch(x, label, x, label)
    )
    Batch(problem, 1, True).run_all()


def _prepare(dtype: torch.dtype) -> None:
    """Prepare the kernel for a dtype."""
    name, module = str(dtype).removeprefix("torch."), "metaplast.engines.fused_recurrent.compiling"
    load(unroll.run_episode, partial(run_smallest, dtype), module, name)


class Batch:
    """One call of the engine.

    Args:
        problem: the episodes to unroll.
        threads: number of episodes in parallel.
        gradient: whether to compute the gradient.
        most_kept: largest number of bytes that an episode keeps for the backward sweep, not
            counting the starts of segments. It is exceeded only if √T steps need more.
    """

    def __init__(
        self, problem: Problem, threads: int, gradient: bool, most_kept: int = MOST_KEPT
    ) -> None:
        self.problem, self.threads, self.gradient = problem, threads, gradient
        self.system, self.episodes = recurrent_of(problem.learner), problem.episodes
        self.theta = problem.episode_theta.numpy()
        self.dtype = self.theta.dtype
        self.theta_bar = np.zeros_like(self.theta)
        self.results = np.zeros((self.episodes.episodes, 2), dtype=self.dtype)
        self.program = _build(problem.learner, self.system, self.dtype)
        outputs = self.system.widths[2]
        self.target = class_probabilities(self.episodes.query_y, outputs, problem.theta.dtype)
        self.final = _unfilled(problem)
        steps = self.episodes.steps
        length = _length(steps, step_numbers(self.program) * self.dtype.itemsize, most_kept)
        self.sizes = _Sizes(
            self.program, self.dtype, self.system.nonlinearity.beta,
            self.episodes.query_x.shape[1], length if gradient else 1,
            -(-steps // (length if gradient else 1)),
        )  # fmt: skip

    def run(self) -> Outcome:
        """Unroll all episodes."""
        if self.dtype not in _ready:
            _prepare(self.problem.theta.dtype)
            _ready.add(self.dtype)
        self.run_all()
        loss, accuracy = (torch.from_numpy(self.results[:, i].copy()) for i in range(2))
        gradient = self.problem.reduce(torch.from_numpy(self.theta_bar)) if self.gradient else None
        return Outcome(loss, accuracy, gradient, self.final)

    def run_all(self) -> None:
        """Run every episode, one per thread at a time."""
        on_threads(self._run_episode, range(self.episodes.episodes), self.threads)

    def _run_episode(self, episode: int) -> None:
        with _borrowed(self.sizes) as memory:
            self._fill(memory, episode)
            self.theta_bar[episode] = 0
            unroll.run_episode(self.program, memory, self._task(episode), self.results[episode])
            for index, name in enumerate(SITES):
                if name in self.problem.learner.moving:
                    matrix = self.final.matrices[name][episode].numpy()
                    found = self._view(memory.final, self._side(index).w, index)
                    matrix[...] = found[: matrix.shape[0], : matrix.shape[1]]

    def _side(self, index: int) -> Any:
        return (self.program.input, self.program.recurrent, self.program.readout)[index]

    def _view(self, flat: Numbers, at: int, index: int, *, turned: bool = False) -> Numbers:
        """Return one padded matrix of several stored one after another."""
        shape = (self._side(index).tall, self._side(index).wide)
        part = flat[at : at + shape[0] * shape[1]]
        return part.reshape(shape[::-1] if turned else shape)

    def _fill(self, memory: Memory, episode: int) -> None:
        """Copy in the initial matrices, and set what stays constant."""
        net, state = self.program.net, self.problem.state.matrices
        memory.w[: net.weights] = 0
        for index, name in enumerate(SITES):
            weights = state[name][episode].detach().numpy()
            _put(weights, self._view(memory.w, self._side(index).w, index))
            own = state.get(name + FEEDBACK)
            if own is None:
                continue
            matrix = own[episode].detach().numpy()
            if net.source == STILL:
                _put(matrix.T, self._view(memory.turned, net.down[index], index))
                _put(matrix, self._view(memory.turned, net.up[index], index, turned=True))
            elif net.source == SIGNED:
                _put(np.abs(matrix.T), self._view(memory.turned, net.sizes[index], index))
        for at, rows, width, wide in self.program.ones.tolist():
            memory.s[at : at + rows * wide].reshape(rows, wide)[:, :width] = 1

    def _task(self, episode: int) -> Task:
        data, net = self.episodes, self.program.net
        x = data.support_x[episode]
        derivative = self.system.nonlinearity.derivative
        gain = derivative(x) if net.has_below else x.new_zeros(1, 1, 1)
        rest = derivative(x.new_zeros(1)).numpy()[0]
        target = self.target[episode].reshape(data.query_x.shape[1], net.reads, net.outputs)
        label = data.support_y[episode].reshape(-1, net.reads)
        return Task(
            _shared(x), _shared(gain), rest, _shared(label), _shared(data.query_x[episode]),
            _shared(target), self.theta[episode], self.theta_bar[episode], self.sizes.length,
            self.gradient,
        )  # fmt: skip


def _length(steps: int, each: int, most: int) -> int:
    """Return the length of a segment: as many steps as fit into `most` bytes, at least √steps."""
    return max(1, min(steps, max(most // each, math.isqrt(steps))))


def _put(matrix: Numbers, to: Numbers) -> None:
    to[: matrix.shape[0], : matrix.shape[1]] = matrix


def _shared(tensor: Tensor) -> Numbers:
    """Return a tensor as a contiguous array, without a copy if possible."""
    return np.ascontiguousarray(tensor.detach().numpy())


def _unfilled(problem: Problem) -> State:
    """Return memory for the final state; matrices that never change are shared."""
    moving = problem.learner.moving
    return State(
        {
            name: torch.empty_like(matrix, memory_format=torch.contiguous_format)
            if name in moving
            else matrix.detach()
            for name, matrix in problem.state.matrices.items()
        },
        {},
    )
