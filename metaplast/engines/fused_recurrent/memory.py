"""The kernel's working memory for one episode; the kernel allocates nothing while it runs.

The padding of rows always stays zero.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metaplast.engines.fused.places import PAD
from metaplast.engines.fused_recurrent.program import Integers, Numbers, Program, Side
from metaplast.scans.activations import make_tools


class Memory(NamedTuple):
    """Everything that an episode reads and writes.

    Attributes:
        s, d: signals of the steps of a segment, and adjoints of one step; see `program`.
        w: the matrices before each step of a segment and after the last, one state after another.
        w_bar: the adjoint of the matrices after, then before, one step.
        final: the learned matrices.
        starts: the matrices before each segment, one state after another.
        turned: transposes of the matrices, and the matrices that carry errors.
        v, v_bar: column vectors V_a of a change [row, occurrence, number], and the adjoint of one.
        g, g_bar: cells of G, [occurrence · cells + cell], and their adjoint.
        gates, gates_bar: scalar products, [occurrence · gates + gate], and their adjoint.
        frames, frames_bar: W_x times each frame, [frame, n], and its adjoint.
        z, slope: the potentials of one time step, and σ' there, [n]; z is also scratch space.
        constants, work, bits: see `scans.activations.make_tools`.
        query_x: one frame of all queries, [query, m].
        query_frames: W_x times each frame, [frame, query, n].
        query_y: activities, [time, query, n].
        query_z, query_bar: potentials of one step or their adjoint, and an adjoint, [query, n].
        query_out: outputs or their adjoint, [read, query, o].
    """

    s: Numbers
    d: Numbers
    w: Numbers
    w_bar: Numbers
    final: Numbers
    starts: Numbers
    turned: Numbers
    v: Numbers
    v_bar: Numbers
    g: Numbers
    g_bar: Numbers
    gates: Numbers
    gates_bar: Numbers
    frames: Numbers
    frames_bar: Numbers
    z: Numbers
    slope: Numbers
    constants: Numbers
    work: Numbers
    bits: Integers
    query_x: Numbers
    query_frames: Numbers
    query_y: Numbers
    query_z: Numbers
    query_bar: Numbers
    query_out: Numbers


class Task(NamedTuple):
    """One episode's data.

    Attributes:
        x: support inputs, [step, frame, feature].
        gain: σ' of the support inputs if terms read errors at the inputs, else one number.
        rest_gain: σ' of an input of zero.
        label: class indices, [step, read].
        query_x, query_target: [query, frame, feature], and class probabilities
            [query, read, class].
        theta, theta_bar: [site, term], and its adjoint, to be filled.
        length: steps of a segment.
        gradient: whether to compute the gradient.
    """

    x: Numbers
    gain: Numbers
    rest_gain: Any
    label: Integers
    query_x: Numbers
    query_target: Numbers
    theta: Numbers
    theta_bar: Numbers
    length: int
    gradient: bool


def step_numbers(program: Program) -> int:
    """Return how many numbers of each step are kept."""
    return program.net.size + program.net.weights


def allocate(
    program: Program, dtype: npt.DTypeLike, beta: float, queries: int, length: int, segments: int
) -> Memory:
    """Return memory for one episode, whose segments have at most `length` steps."""
    net, dtype = program.net, np.dtype(dtype)
    sides = program.input, program.recurrent, program.readout
    widest = max(net.n, net.m, net.o)
    rank, cells, gates = (max(1, *(_most(side)[i] for side in sides)) for i in range(3))

    def room(*shape: int) -> Numbers:
        return _aligned(int(np.prod(shape)), dtype)

    constants, work, bits = make_tools(beta, net.neurons, dtype)
    return Memory(
        room(net.first + length * net.size), room(net.first + net.size),
        room(length + 1, net.weights), room(net.weights), room(net.weights),
        room(segments, net.weights),
        room(net.turned), room(rank, net.time, widest), room(net.time, widest),
        room(net.time, cells), room(net.time, cells), room(net.time, gates),
        room(net.time, gates), room(net.frames, net.n), room(net.frames, net.n), room(net.n),
        room(net.n), constants, work, bits, room(queries, net.m),
        room(net.frames, queries, net.n), room(net.time, queries, net.n), room(queries, net.n),
        room(queries, net.n), room(net.reads, queries, net.o),
    )  # fmt: skip


def _most(side: Side) -> tuple[int, int, int]:
    return len(side.rows), len(side.cells), len(side.gates)


def _aligned(count: int, dtype: np.dtype[Any]) -> Numbers:
    """Return zeros whose address is aligned for registers."""
    size = PAD * dtype.itemsize
    raw = np.zeros(count * dtype.itemsize + size, dtype=np.uint8)
    start = -raw.ctypes.data % size
    return raw[start : start + count * dtype.itemsize].view(dtype)
