"""One online step forward: the signals of all time steps, and the change of the matrices.

z_t = W_h σ(z_{t-1}) + W_x x_t,     ε = softmax(W_o σ(z)) − label,
e_t = c_t ⊙ σ'(z_t),                c_t = B_o ε_t + B_h e_{t+1}.
"""

from __future__ import annotations

import numpy as np

from metaplast.engines.fused.jit import ZERO, inlined
from metaplast.engines.fused.lanes import clear, copy
from metaplast.engines.fused_recurrent.change import change
from metaplast.engines.fused_recurrent.jit import compiled
from metaplast.engines.fused_recurrent.memory import Memory, Task
from metaplast.engines.fused_recurrent.products import carry, set_product, turn
from metaplast.engines.fused_recurrent.program import Net, Numbers, Program, Side
from metaplast.engines.fused_recurrent.sources import SIGNED, STILL
from metaplast.scans.activations import activate, slope


@compiled
def set_activity(net: Net, m: Memory, z: Numbers, z_at: int, y: Numbers, y_at: int) -> None:
    """y ← σ(z) of one vector."""
    n = net.neurons
    activate(net.sigma, z[z_at : z_at + n], y[y_at : y_at + n], m.constants, m.work, m.bits)


@compiled
def set_slope(net: Net, m: Memory, y: Numbers, y_at: int) -> None:
    """m.slope ← σ' of one vector, from its activities."""
    n = net.neurons
    slope(net.sigma, y[y_at : y_at + n], m.slope[:n], m.constants, m.work, m.bits)


@compiled
def load_input(net: Net, m: Memory, task: Task, t: int) -> None:
    """Write the input of a step, one row for each time step that shows a frame."""
    for k in range(net.shown):
        at, frame = net.x + k * net.m, k // net.show
        for j in range(net.inputs):
            m.s[at + j] = task.x[t, frame, j]


@compiled
def _turn_errors(net: Net, side: Side, m: Memory, w: int, index: int) -> None:
    """Form the matrix that carries errors down through a side, and its transpose."""
    size, down, up = side.tall * side.wide, net.down[index], net.up[index]
    if net.source != SIGNED:
        copy(m.w, w + side.w, m.turned, down, size)
        return
    for cell in range(size):
        sign = np.sign(m.w[w + side.w + cell])
        m.turned[down + cell] = m.turned[net.sizes[index] + cell] * sign
    turn(m.turned, down, side.tall, side.wide, m.turned, up, net.lanes)


@compiled
def turn_all(p: Program, m: Memory, w: int) -> None:
    """Set the transposes of the matrices at `w`, and the matrices that carry errors."""
    net = p.net
    for index in range(3):
        side = p.input if index == 0 else (p.recurrent if index == 1 else p.readout)
        turn(m.w, w + side.w, side.tall, side.wide, m.turned, side.turned, net.lanes)
        if net.source != STILL:
            _turn_errors(net, side, m, w, index)


@inlined
def _form_drive(p: Program, m: Memory, base: int, t: int) -> None:
    """Set u_t = W_h σ(z_{t-1})."""
    net, at = p.net, base + p.net.u + t * p.net.n
    carry(
        m.s, base + net.y + (t - 1) * net.n, m.turned, p.recurrent.turned, m.s, at, m.s, at, net.n,
        net.neurons if t > 0 else 0, 0, t % 2 == 0, net.lanes,
    )  # fmt: skip


@compiled
def _add_frame(net: Net, m: Memory, at: int, t: int, frame: int) -> None:
    """z_t = u_t + W_x x_t, with the drive u_t at `at`."""
    for i in range(net.neurons):
        m.z[i] = m.s[at + i]
    if t < net.shown:
        for i in range(net.neurons):
            m.z[i] += m.frames[frame + i]


@inlined
def _advance(p: Program, m: Memory, base: int) -> None:
    """Set the activities of all time steps, and their drives and potentials if terms read them."""
    net, y = p.net, base + p.net.y
    set_product(
        m.s, net.x, net.show * net.m, m.turned, p.input.turned, m.frames, ZERO, net.n, net.frames,
        net.inputs, net.lanes,
    )  # fmt: skip
    for t in range(net.time):
        frame = t // net.show * net.n if t < net.shown else 0
        if net.has_drive:
            _form_drive(p, m, base, t)
            _add_frame(net, m, base + net.u + t * net.n, t, frame)
        else:
            carry(
                m.s, y + (t - 1) * net.n, m.turned, p.recurrent.turned, m.frames, frame, m.z, ZERO,
                net.n, net.neurons if t > 0 else 0, int(t < net.shown), t % 2 == 0, net.lanes,
            )  # fmt: skip
        if net.has_potential:
            copy(m.z, ZERO, m.s, base + net.z + t * net.n, net.n)
        set_activity(net, m, m.z, ZERO, m.s, y + t * net.n)


@inlined
def _read(p: Program, m: Memory, task: Task, base: int, t: int) -> None:
    """Set softmax and output errors at the steps with a target."""
    net, output, error = p.net, base + p.net.output, base + p.net.error
    last = base + net.y + (net.time - net.reads) * net.n
    set_product(
        m.s, last, net.n, m.turned, p.readout.turned, m.s, output, net.o, net.reads, net.neurons,
        net.lanes,
    )  # fmt: skip
    if net.has_potential:
        copy(m.s, output, m.s, base + net.logit, net.reads * net.o)
    for k in range(net.reads):
        at, to = output + k * net.o, error + k * net.o
        top, total = m.s[at], m.s.dtype.type(0)
        for i in range(1, net.outputs):
            top = max(top, m.s[at + i])
        for i in range(net.outputs):
            m.s[at + i] = np.exp(m.s[at + i] - top)
            total += m.s[at + i]
        for i in range(net.outputs):
            m.s[at + i] /= total
            m.s[to + i] = m.s[at + i]
        m.s[to + task.label[t, k]] -= m.s.dtype.type(1)


@inlined
def _carry_back(p: Program, m: Memory, base: int) -> None:
    """Set the errors of all time steps."""
    net, c, e, y = p.net, base + p.net.c, base + p.net.e, base + p.net.y
    first = net.time - net.reads
    set_product(
        m.s, base + net.error, net.o, m.turned, net.down[2], m.s, c + first * net.n, net.n,
        net.reads, net.outputs, net.lanes,
    )  # fmt: skip
    clear(m.s, c, net.reach * net.n)
    clear(m.s, e, net.reach * net.n)
    for t in range(net.time - 1, net.reach - 1, -1):
        at = c + t * net.n
        if t < net.time - 1:
            carry(
                m.s, e + (t + 1) * net.n, m.turned, net.down[1], m.s, at, m.s, at, net.n,
                net.neurons, int(t >= first), t % 2 == 0, net.lanes,
            )  # fmt: skip
        set_slope(net, m, m.s, y + t * net.n)
        for i in range(net.neurons):
            m.s[e + t * net.n + i] = m.s[at + i] * m.slope[i]


@compiled
def gain_rows(net: Net, task: Task, t: int, s: Numbers, at: int) -> None:
    """Multiply the rows of each time step by σ' of its input; without an input, by σ'(0)."""
    for k in range(net.time):
        row = at + k * net.m
        if k < net.shown:
            for j in range(net.inputs):
                s[row + j] *= task.gain[t, k // net.show, j]
        elif task.rest_gain != 1:
            for j in range(net.inputs):
                s[row + j] *= task.rest_gain


@inlined
def _below(p: Program, m: Memory, task: Task, base: int, t: int) -> None:
    """Set the errors at the inputs, (B_x e_t) ⊙ σ'(x_t)."""
    net = p.net
    set_product(
        m.s, base + net.e, net.n, m.turned, net.down[0], m.s, base + net.below, net.m, net.time,
        net.neurons, net.lanes,
    )  # fmt: skip
    gain_rows(net, task, t, m.s, base + net.below)


@compiled
def _present(p: Program, m: Memory, task: Task, t: int, base: int, w: int) -> None:
    """Set the signals of one example."""
    load_input(p.net, m, task, t)
    turn_all(p, m, w)
    _advance(p, m, base)
    _read(p, m, task, base, t)
    _carry_back(p, m, base)
    if p.net.has_below:
        _below(p, m, task, base, t)


@inlined
def step(p: Program, m: Memory, task: Task, t: int, slot: int) -> None:
    """Learn one example: read the matrices in a slot, and write those after it to the next slot."""
    net, base, w = p.net, p.net.first + slot * p.net.size, slot * p.net.weights
    _present(p, m, task, t, base, w)
    change(net, p.input, m, task, base, w)
    change(net, p.recurrent, m, task, base, w)
    change(net, p.readout, m, task, base, w)
