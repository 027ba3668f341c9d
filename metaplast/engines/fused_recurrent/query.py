"""The query set: loss, accuracy, and the gradient of the loss with respect to the weights."""

from __future__ import annotations

import numpy as np

from metaplast.engines.fused.jit import ONE, ZERO, inlined
from metaplast.engines.fused.lanes import clear
from metaplast.engines.fused_recurrent.forward import set_activity, set_slope, turn_all
from metaplast.engines.fused_recurrent.jit import compiled
from metaplast.engines.fused_recurrent.memory import Memory, Task
from metaplast.engines.fused_recurrent.products import add_outer, add_product, multiply, set_product
from metaplast.engines.fused_recurrent.program import Net, Numbers, Program


@compiled
def _load_frame(net: Net, m: Memory, task: Task, frame: int) -> None:
    for q in range(task.query_x.shape[0]):
        for j in range(net.inputs):
            m.query_x[q * net.m + j] = task.query_x[q, frame, j]


@inlined
def _run(p: Program, m: Memory, task: Task) -> None:
    """Set the activities and the outputs of all queries."""
    net, queries, one = p.net, task.query_x.shape[0], m.s.dtype.type(1)
    span = queries * net.n
    for frame in range(net.frames):
        _load_frame(net, m, task, frame)
        set_product(
            m.query_x, ZERO, net.m, m.turned, p.input.turned, m.query_frames, frame * span, net.n,
            queries, net.inputs, net.lanes,
        )  # fmt: skip
    for t in range(net.time):
        frame = t // net.show * span if t < net.shown else 0
        multiply(
            m.query_y, (t - 1) * span, net.n, ONE, m.turned, p.recurrent.turned, m.query_frames,
            frame, m.query_z, ZERO, net.n, queries, net.neurons if t > 0 else 0, one,
            int(t < net.shown), net.lanes,
        )  # fmt: skip
        for q in range(queries):
            at = q * net.n
            set_activity(net, m, m.query_z, at, m.query_y, t * span + at)
    for k in range(net.reads):
        set_product(
            m.query_y, (net.time - net.reads + k) * span, net.n, m.turned, p.readout.turned,
            m.query_out, k * queries * net.o, net.o, queries, net.neurons, net.lanes,
        )  # fmt: skip


@compiled
def _judge_one(net: Net, z: Numbers, row: int, target: Numbers, share: float) -> tuple[float, bool]:
    """Return the loss of an output and whether its class is correct; write its adjoint over it."""
    zero = z.dtype.type(0)
    best, label, given, total = 0, 0, zero, zero
    for i in range(1, net.outputs):
        if z[row + i] > z[row + best]:
            best = i
        if target[i] > target[label]:
            label = i
    top = z[row + best]
    for i in range(net.outputs):
        if target[i] != 0:
            given += target[i] * (z[row + i] - top)
        z[row + i] = np.exp(z[row + i] - top)
        total += z[row + i]
    for i in range(net.outputs):
        z[row + i] = (z[row + i] / total - target[i]) * share
    return np.log(total) - given, best == label


@compiled
def _judge(net: Net, m: Memory, task: Task, result: Numbers) -> None:
    """Set loss and accuracy; overwrite the outputs with their adjoints."""
    queries = task.query_x.shape[0]
    count = m.s.dtype.type(queries * net.reads)
    loss, hits, share = m.s.dtype.type(0), 0, m.s.dtype.type(1) / count
    for k in range(net.reads):
        for q in range(queries):
            row = (k * queries + q) * net.o
            one, right = _judge_one(net, m.query_out, row, task.query_target[q, k], share)
            loss += one
            hits += right
    result[0], result[1] = loss / count, hits / count


@inlined
def _read_adjoint(p: Program, m: Memory, w: int, t: int, queries: int) -> None:
    """Carry the adjoint of the outputs at a time step to the activities and to W_o."""
    net = p.net
    at = (t - (net.time - net.reads)) * queries * net.o
    add_product(
        m.query_out, at, net.o, m.w, w + p.readout.w, m.query_bar, ZERO, net.n, queries,
        net.outputs, net.lanes,
    )  # fmt: skip
    add_outer(
        m.query_out, at, net.o, m.query_y, t * queries * net.n, m.w_bar, p.readout.w, net.n,
        net.outputs, queries, net.lanes,
    )  # fmt: skip


@inlined
def _run_adjoint(p: Program, m: Memory, task: Task, w: int) -> None:
    """Set the adjoint of the matrices."""
    net, queries = p.net, task.query_x.shape[0]
    span = queries * net.n
    clear(m.w_bar, ZERO, net.weights)
    clear(m.query_frames, ZERO, m.query_frames.shape[0])
    for t in range(net.time - 1, -1, -1):
        clear(m.query_bar, ZERO, span)
        if t < net.time - 1:  # The adjoint of the potentials of the next step is in query_z.
            add_product(
                m.query_z, ZERO, net.n, m.w, w + p.recurrent.w, m.query_bar, ZERO, net.n, queries,
                net.neurons, net.lanes,
            )  # fmt: skip
            add_outer(
                m.query_z, ZERO, net.n, m.query_y, t * span, m.w_bar, p.recurrent.w, net.n,
                net.neurons, queries, net.lanes,
            )  # fmt: skip
        if t >= net.time - net.reads:
            _read_adjoint(p, m, w, t, queries)
        _potential_adjoint(net, m, t, queries)
    for frame in range(net.frames):
        _load_frame(net, m, task, frame)
        add_outer(
            m.query_frames, frame * span, net.n, m.query_x, ZERO, m.w_bar, p.input.w, net.m,
            net.neurons, queries, net.lanes,
        )  # fmt: skip


@compiled
def _potential_adjoint(net: Net, m: Memory, t: int, queries: int) -> None:
    """z̄_t = ȳ_t ⊙ σ'(z_t), also added to the adjoint of the frame."""
    frame = t // net.show * queries * net.n
    for q in range(queries):
        at = q * net.n
        set_slope(net, m, m.query_y, t * queries * net.n + at)
        for i in range(net.neurons):
            m.query_z[at + i] = m.query_bar[at + i] * m.slope[i]
        if t < net.shown:
            for i in range(net.neurons):
                m.query_frames[frame + at + i] += m.query_z[at + i]


@compiled
def query(p: Program, m: Memory, task: Task, w: int, result: Numbers) -> None:
    """Set loss and accuracy (means over the query set) and, if requested, m.w_bar.

    The learned matrices are at offset `w`.
    """
    turn_all(p, m, w)
    _run(p, m, task)
    _judge(p.net, m, task, result)
    if task.gradient:
        _run_adjoint(p, m, task, w)
