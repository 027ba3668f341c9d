"""One online step backward: carry the adjoint of the matrices over it, and add its part of θ̄."""

from __future__ import annotations

from metaplast.engines.fused.jit import ONE, ZERO, inlined
from metaplast.engines.fused.lanes import add_multiple, clear
from metaplast.engines.fused_recurrent.change import change_adjoint
from metaplast.engines.fused_recurrent.forward import (
    gain_rows,
    load_input,
    set_slope,
    turn_all,
)
from metaplast.engines.fused_recurrent.jit import compiled
from metaplast.engines.fused_recurrent.memory import Memory, Task
from metaplast.engines.fused_recurrent.products import add_outer, add_product, carry
from metaplast.engines.fused_recurrent.program import Net, Program, Side
from metaplast.engines.fused_recurrent.sources import SYMMETRIC
from metaplast.scans.activations import SOFTPLUS, TANH


@inlined
def _add_to(net: Net, side: Side, m: Memory, u: int, bar: int, count: int) -> None:
    """M̄ += Σ u ⊗ p̄ for products p = Mᵀu, whose rows of u are in m.s and of p̄ in m.d."""
    add_outer(
        m.s, u, side.tall, m.d, bar, m.w_bar, side.w, side.wide, side.height, count, net.lanes
    )


@inlined
def _below_adjoint(p: Program, m: Memory, task: Task, base: int, t: int) -> None:
    """Carry the adjoint of the errors at the inputs to the errors."""
    net, at = p.net, p.net.first + p.net.below
    gain_rows(net, task, t, m.d, at)
    add_product(
        m.d, at, net.m, m.turned, net.up[0], m.d, net.first + net.e, net.n, net.time, net.inputs,
        net.lanes,
    )  # fmt: skip
    if net.source == SYMMETRIC:
        _add_to(net, p.input, m, base + net.e, at, net.time)


@compiled
def _gain_adjoint(net: Net, m: Memory, base: int, t: int) -> None:
    """e = c ⊙ σ': c̄ ← ē ⊙ σ',  ȳ += ē ⊙ c ⊙ dσ'/dy, at one time step."""
    at, d = t * net.n, net.first
    y, c, e = net.y + at, net.c + at, net.e + at
    set_slope(net, m, m.s, base + y)
    for i in range(net.neurons):
        m.d[d + c + i] = m.d[d + e + i] * m.slope[i]
    if net.sigma == TANH:
        two = m.constants[2]
        for i in range(net.neurons):
            m.d[d + y + i] -= two * m.s[base + y + i] * m.d[d + e + i] * m.s[base + c + i]
    elif net.sigma == SOFTPLUS:
        one, beta = m.constants[1], m.constants[4]
        for i in range(net.neurons):
            bend = beta * (one - m.slope[i])
            m.d[d + y + i] += bend * m.d[d + e + i] * m.s[base + c + i]


@inlined
def _errors_adjoint(p: Program, m: Memory, base: int) -> None:
    """Carry the adjoints of all errors to the output error and to the activities."""
    net, d = p.net, p.net.first
    e, c = d + net.e, d + net.c
    for t in range(net.reach, net.time):
        if t > net.reach:
            carry(
                m.d, c + (t - 1) * net.n, m.turned, net.up[1], m.d, e + t * net.n, m.d,
                e + t * net.n, net.n, net.neurons, ONE, t % 2 == 0, net.lanes,
            )  # fmt: skip
        _gain_adjoint(net, m, base, t)
    last = net.time - net.reads
    add_product(
        m.d, c + last * net.n, net.n, m.turned, net.up[2], m.d, d + net.error, net.o, net.reads,
        net.neurons, net.lanes,
    )  # fmt: skip
    if net.source == SYMMETRIC:
        count, first = net.time - 1 - net.reach, net.reach * net.n
        _add_to(net, p.recurrent, m, base + net.e + first + net.n, c + first, count)
        _add_to(net, p.readout, m, base + net.error, c + last * net.n, net.reads)


@inlined
def _read_adjoint(p: Program, m: Memory, base: int, w: int) -> None:
    """Carry the adjoints of softmax and output errors to the activities and to W_o."""
    net, d = p.net, p.net.first
    last = (net.time - net.reads) * net.n
    for k in range(net.reads):
        at, error = net.output + k * net.o, d + net.error + k * net.o
        total = m.d.dtype.type(0)
        for i in range(net.outputs):
            m.d[error + i] += m.d[d + at + i]
            total += m.d[error + i] * m.s[base + at + i]
        for i in range(net.outputs):
            m.d[error + i] = m.s[base + at + i] * (m.d[error + i] - total)
    if net.has_potential:
        add_multiple(m.d, d + net.error, m.d, d + net.logit, m.d.dtype.type(1), net.reads * net.o)
    add_product(
        m.d, d + net.error, net.o, m.w, w + p.readout.w, m.d, d + net.y + last,
        net.n, net.reads, net.outputs, net.lanes,
    )  # fmt: skip
    add_outer(
        m.d, d + net.error, net.o, m.s, base + net.y + last, m.w_bar, p.readout.w, net.n,
        net.outputs, net.reads, net.lanes,
    )  # fmt: skip


@inlined
def _advance_adjoint(p: Program, m: Memory, base: int, w: int) -> None:
    """Carry the adjoints of the activities back through time, and to W_h and W_x.

    z̄_t = σ'(z_t) ⊙ (ȳ_t + W_hᵀ ū_{t+1}) plus the terms' part, and ū_t = z̄_t plus the terms' part.
    ū_t overwrites ȳ_t, and the frames receive z̄_t.
    """
    net, one = p.net, m.d.dtype.type(1)
    y, z, u = net.first + net.y, net.first + net.z, net.first + net.u
    clear(m.frames_bar, ZERO, m.frames_bar.shape[0])
    for t in range(net.time - 1, -1, -1):
        at = y + t * net.n
        if t < net.time - 1:
            carry(
                m.d, at + net.n, m.w, w + p.recurrent.w, m.d, at, m.d, at, net.n, net.neurons, ONE,
                t % 2 == 0, net.lanes,
            )  # fmt: skip
        set_slope(net, m, m.s, base + net.y + t * net.n)
        for i in range(net.neurons):
            m.d[at + i] *= m.slope[i]
        if net.has_potential:
            add_multiple(m.d, at, m.d, z + t * net.n, one, net.n)
        if t < net.shown:
            frame = t // net.show * net.n
            for i in range(net.neurons):
                m.frames_bar[frame + i] += m.d[at + i]
        if net.has_drive:
            add_multiple(m.d, at, m.d, u + t * net.n, one, net.n)
    add_outer(
        m.d, y + net.n, net.n, m.s, base + net.y, m.w_bar, p.recurrent.w, net.n, net.neurons,
        net.time - 1, net.lanes,
    )  # fmt: skip
    for frame in range(net.frames):
        add_outer(
            m.frames_bar, frame * net.n, net.n, m.s, net.x + frame * net.show * net.m, m.w_bar,
            p.input.w, net.m, net.neurons, ONE, net.lanes,
        )  # fmt: skip


@compiled
def _present_adjoint(p: Program, m: Memory, task: Task, t: int, base: int, w: int) -> None:
    """Carry the adjoints of the signals of one example to the matrices."""
    if p.net.has_below:
        _below_adjoint(p, m, task, base, t)
    _errors_adjoint(p, m, base)
    _read_adjoint(p, m, base, w)
    _advance_adjoint(p, m, base, w)


@inlined
def step_adjoint(p: Program, m: Memory, task: Task, t: int, slot: int) -> None:
    """Carry the adjoint of the matrices back over a step whose signals are in a slot."""
    net, base, w = p.net, p.net.first + slot * p.net.size, slot * p.net.weights
    load_input(net, m, task, t)
    turn_all(p, m, w)
    clear(m.d, ZERO, m.d.shape[0])
    change_adjoint(net, p.input, m, task, base, w)
    change_adjoint(net, p.recurrent, m, task, base, w)
    change_adjoint(net, p.readout, m, task, base, w)
    _present_adjoint(p, m, task, t, base, w)
