"""One episode in the kernel's memory: filled from torch, and read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from metaplast.engines.fused.memory import Arena, Sizes, Task, allocate
from metaplast.engines.fused.places import NONE
from metaplast.engines.fused.program import PLASTIC, SIGNED, SYMMETRIC, Integers, Numbers, Program
from metaplast.systems.objectives.cross_entropy import class_probabilities

if TYPE_CHECKING:
    from metaplast.engines.fused.batch import Batch


class Episode:
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
            as_numpy(x),
            as_numpy(batch.gain(x)),
            as_numpy(episodes.support_y[episode]),
            pixels,
            as_numpy(episodes.query_x[episode]),
            as_numpy(class_probabilities(episodes.query_y[episode], classes, dtype)),
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


def _moves_lost(program: Program) -> bool:
    """Return whether the rule changes the weights of dropped pixels."""
    decays = len(program.forward.coefficients) > program.forward.filled
    return decays or bool((program.lost != NONE).any())


def _view(offsets: Integers, layer: int, height: int, flat: Numbers) -> Numbers:
    """Return one padded matrix [row, column] of several stored one after another."""
    return flat[offsets[layer] : offsets[layer + 1]].reshape(height, -1)


def as_numpy(tensor: Tensor) -> Numbers:
    """Return a tensor's numbers, rows first."""
    return tensor.detach().contiguous().numpy()
