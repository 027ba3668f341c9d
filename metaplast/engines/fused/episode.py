"""One episode in the kernel's memory: the data are copied in, and the results copied out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metaplast.engines.fused.arena import Arena, Sizes, allocate
from metaplast.engines.fused.memory import Task
from metaplast.engines.fused.places import NONE
from metaplast.engines.fused.program import PLASTIC, SIGNED, SYMMETRIC, Integers, Numbers, Program
from metaplast.engines.fused.served import fadings_of, is_of_pixels, stack_of, traces_of
from metaplast.systems.aging import AGE, faded_at
from metaplast.systems.objectives.cross_entropy import class_probabilities
from metaplast.systems.state import State

if TYPE_CHECKING:
    from metaplast.engines.contract import Problem
    from metaplast.engines.fused.batch import Batch


class Matrices(NamedTuple):
    """The matrices of a state as NumPy arrays that share its memory, [episode, row, column] each.

    The traces that the kernel updates, [episode, neuron], share it, too. A batch makes these views
    only once, because that takes longer than unrolling a small episode.
    """

    weights: tuple[Numbers, ...]
    backward: tuple[Numbers, ...]
    traces: tuple[Numbers, ...]

    @classmethod
    def of(cls, state: State, keys: Sequence[str]) -> Matrices:
        """Return the matrices of a state, and the traces with these names."""
        traces = [state.carry[key] for key in keys]
        return cls(*(tuple(map(_shared, x)) for x in (state.weights, state.backward, traces)))


class Given(NamedTuple):
    """The initial weights and the data of a batch's episodes, as NumPy arrays.

    Attributes:
        initial: the initial weights.
        support_x, support_y, query_x: the data of the episodes, as in `EpisodeBatch`.
        query_target: class probabilities, [episode, query, class].
        fadings: the fadings that terms read, [episode, step, fading].
        beta: the β of the softplus.
    """

    initial: Matrices
    support_x: Numbers
    support_y: Integers
    query_x: Numbers
    query_target: Numbers
    fadings: Numbers
    beta: Any

    @classmethod
    def of(cls, problem: Problem) -> Given:
        """Return the arrays of a problem."""
        network, episodes, dtype = stack_of(problem.learner), problem.episodes, problem.theta.dtype
        target = _shared(class_probabilities(episodes.query_y, network.widths[-1], dtype))
        inputs, labels, queries = map(
            _shared, (episodes.support_x, episodes.support_y, episodes.query_x)
        )
        beta = target.dtype.type(network.nonlinearity.beta)
        keys = [place.key for place in traces_of(problem.learner)]
        initial = Matrices.of(problem.state, keys)
        return cls(initial, inputs, labels, queries, target, _fadings(problem), beta)


class Episode:
    """One episode's memory, filled with its initial weights and data."""

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
        # Fancy indexing makes a copy, so use a slice if all pixels are kept.
        self.pixels = pixels if len(lost) else slice(None)
        followed = len(lost) if _moves_lost(program) else 0
        given = batch.given
        sizes = Sizes(given.support_x.shape[1], given.query_x.shape[1], slots, followed)
        self.memory = allocate(arena, program, batch.dtype, sizes, gradient=batch.gradient)
        self._fill(followed)
        self.task = self._task(pixels)

    def _task(self, pixels: Integers) -> Task:
        batch, given, episode = self.batch, self.batch.given, self.episode
        x, gain = np.ascontiguousarray(given.support_x[episode]), batch.gain(episode)
        return Task(
            x,
            x if gain is None else _shared(gain),
            np.ascontiguousarray(given.support_y[episode]),
            given.fadings[episode],
            pixels,
            np.ascontiguousarray(given.query_x[episode]),
            np.ascontiguousarray(given.query_target[episode]),
            batch.theta[episode],
            batch.theta_bar[episode],
            given.beta,
            self.spacing,
            batch.settings.limit,
        )

    def _fill(self, followed: int) -> None:
        """Copy in the initial weights, and set what stays constant."""
        net, memory, initial = self.program.net, self.memory, self.batch.given.initial
        memory.lost_scale[0] = 1
        for layer, weight in enumerate(initial.weights):
            matrix = weight[self.episode]
            kept = matrix[:, self.pixels] if layer == 0 else matrix
            _view(net.w, layer, net.pads[layer + 1], memory.w)[: kept.shape[0], : kept.shape[1]] = (
                kept
            )
        if followed:
            first = initial.weights[0][self.episode][:, self.lost]
            memory.lost.reshape(-1, len(memory.lost_p))[: len(first), :followed] = first
        for layer, weight in enumerate(initial.backward):
            matrix = weight[self.episode]
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
        # The first step has turn 0, so it reads the initial traces at turn 1.
        for at, inputs, given in self._traces(initial):
            kept = given[self.episode][inputs]
            memory.signals[net.signals + at :][: len(kept)] = kept

    def _traces(self, state: Matrices) -> Iterator[tuple[int, Any, Numbers]]:
        """Yield each trace's offset, which of its neurons are kept, and its vectors in a state."""
        rows = zip(self.program.traces.table[:, 0], self.batch.traces, state.traces, strict=True)
        for at, place, vectors in rows:
            yield int(at), self.pixels if is_of_pixels(place) else slice(None), vectors

    def read_final(self) -> None:
        """Copy out the learned weights and the final traces."""
        net, memory, final = self.program.net, self.memory, self.batch.learned
        initial = self.batch.given.initial
        if len(self.lost):
            final.weights[0][self.episode] = initial.weights[0][self.episode]
        for layer, weight in enumerate(final.weights):
            matrix = weight[self.episode]
            learned = _view(net.w, layer, net.pads[layer + 1], memory.final)
            if layer == 0:
                matrix[:, self.pixels] = learned[: len(matrix), : net.widths[0]]
            else:
                matrix[...] = learned[: matrix.shape[0], : matrix.shape[1]]
        if len(memory.lost_p):
            followed = memory.lost.reshape(-1, len(memory.lost_p))
            final.weights[0][self.episode][:, self.lost] = followed[
                : net.widths[1], : len(self.lost)
            ]
        self._read_traces()
        if net.source != PLASTIC:
            return
        for layer, weight in enumerate(final.backward):
            matrix = weight[self.episode]
            learned = _view(net.b, layer, net.pads[layer], memory.final_b)
            if layer == 0:
                first = initial.backward[0][self.episode]
                matrix[self.lost] = first[self.lost] * memory.lost_scale[0]
                matrix[self.pixels] = learned[: net.widths[0], : matrix.shape[1]]
            else:
                matrix[...] = learned[: matrix.shape[0], : matrix.shape[1]]

    def _read_traces(self) -> None:
        """Copy out the traces; at dropped pixels they are zero."""
        first, found = self.program.traces.first, self.memory.final_traces
        for at, inputs, vectors in self._traces(self.batch.learned):
            vector = vectors[self.episode]
            vector[:] = 0
            vector[inputs] = found[at - first :][: len(vector[inputs])]


def _fadings(problem: Problem) -> Numbers:
    """Return the fadings at each step, [episode, step, fading]."""
    count, steps = problem.episodes.episodes, problem.episodes.steps
    taus = fadings_of(problem.learner).values()
    if not taus:
        return np.zeros((count, steps, 0), dtype=_shared(problem.theta).dtype)
    age = problem.state.carry[AGE]
    ages = age + torch.arange(steps, device="cpu", dtype=age.dtype)
    return _shared(torch.stack([faded_at(ages, tau) for tau in taus], -1))


def _moves_lost(program: Program) -> bool:
    """Return whether the rule changes the weights of dropped pixels."""
    decays = len(program.forward.coefficients) > program.forward.filled
    return decays or bool((program.lost != NONE).any())


def _view(offsets: Integers, layer: int, height: int, flat: Numbers) -> Numbers:
    """Return one padded matrix [row, column] of several stored one after another."""
    return flat[offsets[layer] : offsets[layer + 1]].reshape(height, -1)


def _shared(tensor: Tensor) -> Numbers:
    """Return a tensor's numbers, without a copy."""
    return tensor.detach().numpy()
