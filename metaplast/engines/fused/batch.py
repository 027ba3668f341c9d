"""Many episodes, one per thread: from torch to the kernel's memory and back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.base.threads import torch_on_one_thread
from metaplast.engines.contract import Outcome, Problem
from metaplast.engines.fused import unroll
from metaplast.engines.fused.dropped import may_drop
from metaplast.engines.fused.engine import TOLERANCES, ReversalError, Settings
from metaplast.engines.fused.jit import load
from metaplast.engines.fused.memory import Arena, Sizes, Task, allocate, borrowed_arena
from metaplast.engines.fused.places import NONE
from metaplast.engines.fused.program import (
    PLASTIC,
    SIGNED,
    SYMMETRIC,
    Integers,
    Numbers,
    Program,
    build,
)
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.objectives.cross_entropy import class_probabilities
from metaplast.systems.state import State
from metaplast.tasks.batch import EpisodeBatch
from metaplast.terms.algebra import pre

_build = lru_cache(maxsize=64)(build)
_ready: set[np.dtype] = set()


def run_smallest(dtype: torch.dtype) -> None:
    """Unroll the smallest possible episode, so that numba compiles the kernel or loads it."""
    learner = Learner(FullyConnected((1, 1)), ())
    state = learner.draw(1, torch.Generator(), dtype)
    x = torch.zeros(1, 1, 1, dtype=dtype, device="cpu")
    label = torch.zeros(1, 1, dtype=torch.int64, device="cpu")
    problem = Problem(
        learner, torch.zeros(0, dtype=dtype, device="cpu"), state, EpisodeBatch(x, label, x, label)
    )
    Batch(problem, Settings(threads=1), True).run_all()


def _prepare(dtype: torch.dtype) -> None:
    """Prepare the kernel for a number type."""
    name = str(dtype).removeprefix("torch.")
    load(
        unroll.run_episode, partial(run_smallest, dtype), "metaplast.engines.fused.compiling", name
    )


class Batch:
    """One call of the engine.

    Args:
        problem: what to unroll.
        settings: of the engine.
        gradient: whether to differentiate.
    """

    def __init__(self, problem: Problem, settings: Settings, gradient: bool) -> None:
        require(
            problem.theta.dtype in TOLERANCES,
            f"the fused engine takes float32 or float64, got {problem.theta.dtype}; convert.",
        )
        self.problem, self.settings, self.gradient = problem, settings, gradient
        self.learner, self.episodes = problem.learner, problem.episodes
        self.theta = problem.episode_theta.numpy()
        self.dtype = self.theta.dtype
        self.theta_bar = np.zeros_like(self.theta)
        self.results = np.zeros((self.episodes.episodes, 4), dtype=self.dtype)
        self.final = _unfilled(problem)
        self.drops = settings.drop_pixels and may_drop(self.learner)
        plastic = self.learner.forward_plasticity, self.learner.backward_plasticity
        decays = any(plasticity.decays for plasticity in plastic)
        self.spacing = min(settings.spacing, settings.decay_spacing if decays else settings.spacing)

    def run(self) -> Outcome:
        """Unroll all episodes."""
        if self.dtype not in _ready:
            _prepare(self.problem.theta.dtype)
            _ready.add(self.dtype)
        self.run_all()
        loss, accuracy = (
            torch.from_numpy(self.results[:, i].copy()) for i in (unroll.LOSS, unroll.ACCURACY)
        )
        gradient = self.problem.reduce(torch.from_numpy(self.theta_bar)) if self.gradient else None
        return Outcome(loss, accuracy, gradient, self.final)

    def run_all(self) -> None:
        """Run every episode, one per thread at a time."""
        count = self.episodes.episodes
        threads = min(self.settings.threads or torch.get_num_threads(), count)
        if threads <= 1:
            for episode in range(count):
                self._run_episode(episode)
            return
        with torch_on_one_thread():
            try:
                with ThreadPoolExecutor(threads) as pool:
                    list(pool.map(self._run_episode, range(count)))
            except RuntimeError as error:
                if "start new thread" not in str(error):
                    raise
                # The system allows no more threads: that must not end a long run.
                for episode in range(count):
                    self._run_episode(episode)

    def _used(self, episode: int) -> npt.NDArray[np.bool_]:
        """Return which pixels are kept: those that are not zero in every image of an episode."""
        if not self.drops:
            return np.ones(self.learner.network.widths[0], dtype=np.bool_)
        sets = (self.episodes.support_x[episode], self.episodes.query_x[episode])
        first, second = ((_numpy(images) != 0).any(axis=0) for images in sets)
        return cast("npt.NDArray[np.bool_]", first | second)

    def gain(self, x: Tensor) -> Tensor:
        """Return σ' of the images [step, pixel] if a term reads the error at the input."""
        if pre.error not in self.learner.reads:
            return x
        # In parts that fit in the cache and need no fresh memory.
        gain, rows = torch.empty_like(x), max(1, 2**14 // x.shape[-1])
        for to, part in zip(torch.split(gain, rows), torch.split(x, rows), strict=True):
            to.copy_(self.learner.network.nonlinearity.derivative(part))
        return gain

    def _run_episode(self, episode: int) -> None:
        with borrowed_arena() as arena:
            self._run_in(arena, episode)

    def _run_in(self, arena: Arena, episode: int) -> None:
        used = self._used(episode)
        pixels, lost = np.flatnonzero(used), np.flatnonzero(~used)
        program = _build(self.learner, len(pixels), self.dtype)
        spacing, slots = self.spacing, self._slots(self.spacing)
        while True:
            self.theta_bar[episode] = 0
            one = _Episode(self, arena, episode, program, pixels, lost, slots, spacing)
            unroll.run_episode(program, one.memory, one.task, self.results[episode])
            if self.results[episode, unroll.FULL]:
                slots = min(self.episodes.steps, 4 * slots)
                continue
            if self._is_exact(episode):
                break
            # Weights that grow and shrink by orders of magnitude: undo fewer steps in a row.
            self._require_room(episode, program, spacing)
            spacing //= 8
            slots = max(slots, self._slots(spacing))
        one.read_final()

    def _slots(self, spacing: int) -> int:
        """Return how many copies of the weights are kept, including first and last step."""
        return min(self.episodes.steps, 3 + self.episodes.steps // (spacing + 1))

    def _is_exact(self, episode: int) -> bool:
        deviation = float(self.results[episode, unroll.DEVIATION])
        return deviation <= TOLERANCES[self.problem.theta.dtype]

    def _require_room(self, episode: int, program: Program, spacing: int) -> None:
        """Raise `ReversalError` if shorter intervals would take too much memory."""
        size = self._slots(spacing // 8) * program.net.state * self.dtype.itemsize
        if spacing > 0 and size <= self.settings.most_kept:
            return
        raise ReversalError(
            f"episode {episode}: the weights rebuilt in the backward sweep are off by "
            f"{self.results[episode, unroll.DEVIATION]:.1e} of the largest, expected at most "
            f"{TOLERANCES[self.problem.theta.dtype]:.0e}; use --dtype float64 or --engine batched."
        )


class _Episode:
    """One episode's memory, filled."""

    def __init__(
        self,
        batch: Batch,
        arena: Arena,
        episode: int,
        program: Program,
        pixels: Integers,
        lost: Integers,
        slots: int,
        spacing: int,
    ) -> None:
        self.batch, self.episode, self.program = batch, episode, program
        self.lost, self.spacing = lost, spacing
        # Fancy indexing copies, so skip it if all pixels are kept.
        self.pixels = pixels if len(lost) else slice(None)
        followed = len(lost) if _moves_lost(program) else 0
        episodes = batch.episodes
        sizes = Sizes(episodes.steps, episodes.query_x.shape[1], slots, followed)
        self.memory = allocate(arena, program, batch.dtype, sizes, gradient=batch.gradient)
        self._fill(followed)
        self.task = self._task(pixels)

    def _task(self, pixels: Integers) -> Task:
        batch, episode = self.batch, self.episode
        episodes, settings = batch.episodes, batch.settings
        x, dtype = episodes.support_x[episode], batch.problem.theta.dtype
        classes = batch.learner.network.widths[-1]
        return Task(
            _numpy(x),
            _numpy(batch.gain(x)),
            _numpy(episodes.support_y[episode]),
            pixels,
            _numpy(episodes.query_x[episode]),
            _numpy(class_probabilities(episodes.query_y[episode], classes, dtype)),
            batch.theta[episode],
            batch.theta_bar[episode],
            batch.dtype.type(batch.learner.network.nonlinearity.beta),
            self.spacing,
            settings.limit,
        )

    def _fill(self, followed: int) -> None:
        """Copy in the initial weights, and set what stays constant."""
        net, memory, state = self.program.net, self.memory, self.batch.problem.state
        memory.lost_scale[0] = 1
        for layer, weight in enumerate(state.weights):
            matrix = weight[self.episode].detach().numpy()
            kept = matrix[:, self.pixels] if layer == 0 else matrix
            _view(net.w, layer, net.pads[layer + 1], memory.w)[: kept.shape[0], : kept.shape[1]] = (
                kept
            )
        if followed:
            first = state.weights[0][self.episode].detach().numpy()[:, self.lost]
            memory.lost.reshape(-1, len(memory.lost_p))[: len(first), :followed] = first
        for layer, weight in enumerate(state.backward):
            matrix = weight[self.episode].detach().numpy()
            kept = matrix[self.pixels] if layer == 0 else matrix
            height = net.pads[layer]
            if net.source != PLASTIC:
                kept, height = kept.T, net.pads[-1] if net.direct else net.pads[layer + 1]
            if net.source == SIGNED:
                kept = np.abs(kept)
            if net.source != SYMMETRIC:
                _view(net.b, layer, height, memory.b)[: kept.shape[0], : kept.shape[1]] = kept
        for level, place in enumerate(net.ones):
            for base in (0, net.signals):
                memory.signals[base + place : base + place + net.widths[level]] = 1

    def read_final(self) -> None:
        """Copy out the learned weights."""
        net, memory, final = self.program.net, self.memory, self.batch.final
        initial = self.batch.problem.state
        if len(self.lost):
            final.weights[0][self.episode] = initial.weights[0][self.episode].detach()
        for layer, weight in enumerate(final.weights):
            matrix = weight[self.episode].numpy()
            learned = _view(net.w, layer, net.pads[layer + 1], memory.final)
            if layer == 0:
                matrix[:, self.pixels] = learned[: len(matrix), : net.widths[0]]
            else:
                matrix[...] = learned[: matrix.shape[0], : matrix.shape[1]]
        if len(memory.lost_p):
            followed = memory.lost.reshape(-1, len(memory.lost_p))
            final.weights[0][self.episode].numpy()[:, self.lost] = followed[
                : net.widths[1], : len(self.lost)
            ]
        if net.source != PLASTIC:
            return
        for layer, weight in enumerate(final.backward):
            matrix = weight[self.episode].numpy()
            learned = _view(net.b, layer, net.pads[layer], memory.final_b)
            if layer == 0:
                first = initial.backward[0][self.episode].detach().numpy()
                matrix[self.lost] = first[self.lost] * memory.lost_scale[0]
                matrix[self.pixels] = learned[: net.widths[0], : matrix.shape[1]]
            else:
                matrix[...] = learned[: matrix.shape[0], : matrix.shape[1]]


def _unfilled(problem: Problem) -> State:
    """Return the final state, still to be filled; backward weights that never change are shared."""
    state, changes = problem.state, not problem.learner.backward_plasticity.is_empty
    # Left empty: each episode's thread fills its own part and pays for the fresh memory.
    weights = [torch.empty_like(weight) for weight in state.weights]
    backward = [torch.empty_like(m) if changes else m.detach() for m in state.backward]
    return State.stack(weights, backward)


def _moves_lost(program: Program) -> bool:
    """Return whether the rule changes the weights of dropped pixels."""
    decays = len(program.forward.coefficients) > program.forward.filled
    return decays or bool((program.lost != NONE).any())


def _view(offsets: Integers, layer: int, height: int, flat: Numbers) -> Numbers:
    """Return one padded matrix [row, column] of several stored one after another."""
    return flat[offsets[layer] : offsets[layer + 1]].reshape(height, -1)


def _numpy(tensor: Tensor) -> Numbers:
    return tensor.detach().contiguous().numpy()
