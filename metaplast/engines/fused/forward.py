"""One online step forward: signals, errors, and the change that the next sweep will apply.

A step's change is not applied at once. The next step's pass over the matrix applies it row by row
and also forms the next net input: one pass per step.
"""

from __future__ import annotations

import numpy as np

from metaplast.engines.fused.functions import form_functions
from metaplast.engines.fused.jit import compiled, inlined
from metaplast.engines.fused.lanes import clear, multiply
from metaplast.engines.fused.memory import Memory, Pending, Task
from metaplast.engines.fused.program import (
    ERROR,
    NOTHING,
    PLASTIC,
    SIGNED,
    SOFTMAX,
    SYMMETRIC,
    Net,
    Numbers,
    Program,
    Side,
)
from metaplast.engines.fused.relaxing import relax
from metaplast.engines.fused.sweeps import advance, project, project_jobs, update_rows
from metaplast.engines.fused.tensor import form_change
from metaplast.engines.fused.traces import follow


@compiled
def load_image(net: Net, task: Task, t: int, s: Numbers, base: int) -> None:
    """Set the step's fadings, y_0 = x without dropped pixels, and σ'(x) if e_0 is in use."""
    for k in range(net.fadings.shape[0]):
        s[base + net.fadings[k]] = task.fadings[t, k]
    for j in range(task.pixels.shape[0]):
        s[base + net.y[0] + j] = task.x[t, task.pixels[j]]
    if net.lowest == 0:
        for j in range(task.pixels.shape[0]):
            s[base + net.k[0] + j] = task.gain[t, task.pixels[j]]


@compiled
def softmax(s: Numbers, z: int, y: int, count: int) -> None:
    """Set y = softmax(z)."""
    largest = s[z]
    for i in range(1, count):
        largest = max(largest, s[z + i])
    total = s.dtype.type(0)
    for i in range(count):
        s[y + i] = np.exp(s[z + i] - largest)
        total += s[y + i]
    for i in range(count):
        s[y + i] /= total


@inlined
def _activities(p: Program, m: Memory, task: Task, turn: int, pending: bool) -> None:
    """Form y_1 … y_L and the projections that need no error."""
    net, s, base = p.net, m.signals, turn * p.net.signals
    layers = net.w.shape[0] - 1
    rank, one = p.forward.rows.shape[1], m.w.dtype.type(1)
    for layer in range(layers):
        slot = (1 - turn) * layers + layer
        mode = SOFTMAX if layer == layers - 1 else net.activation
        scale = one + m.forward.growth[slot]
        advance(
            m.w, net.w[layer], net.widths[layer + 1], net.pads[layer + 1], net.pads[layer], rank,
            m.forward.a, m.forward.v, slot * m.forward.span, scale,
            pending and p.forward.changes, s, base, net.f[layer], net.z[layer + 1], mode,
            net.f[layer + 1], net.k[layer + 1], task.beta, p.forward.early[layer],
        )  # fmt: skip
    softmax(s, base + net.z[layers], base + net.y[layers], net.widths[layers])
    project_jobs(
        m.w, net.w[layers - 1], net.pads[layers], net.pads[layers - 1], s, base,
        p.forward.early[layers - 1],
    )  # fmt: skip


@compiled
def signed_project(m: Memory, net: Net, layer: int, s: Numbers, u_at: int, p_at: int) -> None:
    """Add (|M|ᵀ ⊙ sign W)ᵀ u to p; m.b holds |M| transposed."""
    width, at = net.pads[layer], net.w[layer]
    for i in range(net.widths[layer + 1]):
        u = s[u_at + i]
        for j in range(width):
            cell = at + i * width + j
            s[p_at + j] += u * m.b[cell] * np.sign(m.w[cell])


@compiled
def output_error(net: Net, label: int, s: Numbers, base: int) -> None:
    """Set e_L = y_L − onehot."""
    last = net.widths.shape[0] - 1
    for i in range(net.widths[last]):
        s[base + net.e[last] + i] = s[base + net.y[last] + i]
    s[base + net.e[last] + label] -= s.dtype.type(1)


@inlined
def _carry_error(p: Program, m: Memory, layer: int, base: int) -> None:
    """Form the carried error of level `layer` through a matrix that no backward term changes."""
    net, s = p.net, m.signals
    width, height = net.pads[layer], net.pads[layer + 1]
    u, to = base + net.e[layer + 1], base + net.c[layer]
    clear(s, to, width)
    if net.source == SYMMETRIC:
        project(m.w, net.w[layer], height, width, s, u, s, to)
    elif net.source == SIGNED:
        signed_project(m, net, layer, s, u, to)
    else:
        last = net.widths.shape[0] - 1
        if net.direct:
            u, height = base + net.e[last], net.pads[last]
        project(m.b, net.b[layer], height, width, s, u, s, to)
    multiply(s, base + net.e[layer], s, to, s, base + net.k[layer], width)


@inlined
def _errors(p: Program, m: Memory, label: int, turn: int, pending: bool) -> None:
    """Form e_L … e_lowest and the projections that need them."""
    net, s, base = p.net, m.signals, turn * p.net.signals
    layers = net.w.shape[0] - 1
    rank, one = p.backward.rows.shape[1], m.w.dtype.type(1)
    if net.relaxes:
        relax(p, m, label, base)
    else:
        output_error(net, label, s, base)
    for layer in range(layers - 1, -1, -1):
        jobs = p.forward.late[layer]
        project_jobs(m.w, net.w[layer], net.pads[layer + 1], net.pads[layer], s, base, jobs)
        if net.source == PLASTIC:
            slot = (1 - turn) * layers + layer
            mode = ERROR if layer >= net.lowest else NOTHING
            advance(
                m.b, net.b[layer], net.widths[layer], net.pads[layer], net.pads[layer + 1], rank,
                m.backward.a, m.backward.v, slot * m.backward.span,
                one + m.backward.growth[slot], pending, s, base, net.e[layer + 1], net.c[layer],
                mode, net.e[layer], net.k[layer], one, p.backward.early[layer],
            )  # fmt: skip
        elif net.lowest <= layer < net.carried:
            _carry_error(p, m, layer, base)


@inlined
def form_changes(p: Program, m: Memory, task: Task, turn: int) -> None:
    """Form the change of every matrix from the signals of a step."""
    net, base = p.net, turn * p.net.signals
    form_functions(p.maps, m.signals, base)
    for layer in range(net.w.shape[0] - 1):
        pre, post = net.pads[layer], net.pads[layer + 1]
        form_change(p.forward, layer, m.signals, base, task.theta, m.forward, turn, post, pre)
        if net.source == PLASTIC:
            form_change(p.backward, layer, m.signals, base, task.theta, m.backward, turn, pre, post)


@compiled
def step(p: Program, m: Memory, task: Task, t: int, turn: int, pending: bool) -> None:
    """Learn example t. On return, m.w holds the weights before the step, its change is pending."""
    load_image(p.net, task, t, m.signals, turn * p.net.signals)
    _activities(p, m, task, turn, pending)
    _errors(p, m, task.label[t], turn, pending)
    follow(p, m, turn)
    form_changes(p, m, task, turn)


@inlined
def _apply(
    matrix: Numbers, at: int, height: int, width: int, side: Side, change: Pending, slot: int,
    m: Memory,
) -> None:  # fmt: skip
    place = slot * change.span
    scale = matrix.dtype.type(1) + change.growth[slot]
    update_rows(
        matrix, at, change.a, place, change.v, place, m.zeros, 0, m.left, 0, height, width, scale,
        side.rows.shape[1], 0, height,
    )  # fmt: skip


@compiled
def apply_pending(p: Program, m: Memory, turn: int) -> None:
    """Apply the last step's change."""
    net = p.net
    layers = net.w.shape[0] - 1
    for layer in range(layers):
        pre, post, slot = net.pads[layer], net.pads[layer + 1], turn * layers + layer
        if p.forward.changes:
            _apply(m.w, net.w[layer], post, pre, p.forward, m.forward, slot, m)
        if net.source == PLASTIC:
            _apply(m.b, net.b[layer], pre, post, p.backward, m.backward, slot, m)
