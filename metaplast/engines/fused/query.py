"""The query set: loss, accuracy, and the gradient of the loss with respect to the weights."""

from __future__ import annotations

import numpy as np

from metaplast.engines.fused import lanes
from metaplast.engines.fused.jit import ZERO, compiled
from metaplast.engines.fused.lanes import clear
from metaplast.engines.fused.memory import Memory, Task
from metaplast.engines.fused.places import PAD
from metaplast.engines.fused.program import Net, Numbers, Program
from metaplast.engines.fused.sweeps import activate

_dot = lanes.dot(4, add=False)
_project = lanes.project(8)


@compiled
def _start(net: Net, level: int, queries: int) -> int:
    """Return where a level's [query, neuron] block begins."""
    before = 0
    for below in range(level):
        before += net.pads[below]
    return before * (-(-queries // PAD) * PAD)


@compiled
def _load(net: Net, m: Memory, task: Task) -> None:
    clear(m.query_y, 0, m.query_y.shape[0])
    clear(m.query_bar, 0, m.query_bar.shape[0])
    for q in range(task.query_x.shape[0]):
        for j in range(task.pixels.shape[0]):
            m.query_y[q * net.pads[0] + j] = task.query_x[q, task.pixels[j]]


@compiled
def _layer_forward(p: Program, m: Memory, task: Task, layer: int) -> None:
    """Form z = W y and its activation for all query images; z lies where its adjoint will be."""
    net, queries = p.net, task.query_x.shape[0]
    pre, post = net.pads[layer], net.pads[layer + 1]
    from_, to = _start(net, layer, queries), _start(net, layer + 1, queries)
    for i in range(0, net.widths[layer + 1], 4):
        for q in range(queries):
            _dot(m.w, net.w[layer] + i * pre, m.query_y, from_ + q * pre, m.query_bar,
                 to + q * post + i, pre)  # fmt: skip


@compiled
def _activate(net: Net, m: Memory, task: Task, layer: int) -> None:
    """Set activities and gains of a hidden level from its net inputs, image by image."""
    queries, post, count = task.query_x.shape[0], net.pads[layer + 1], net.widths[layer + 1]
    to = _start(net, layer + 1, queries)
    s = m.left
    for q in range(queries):
        at = to + q * post
        for i in range(count):
            s[i] = m.query_bar[at + i]
        activate(net.activation, s, ZERO, post, 2 * post, count, task.beta)
        for i in range(count):
            m.query_y[at + i] = s[post + i]
            m.query_k[at + i] = s[2 * post + i]


@compiled
def _judge(net: Net, m: Memory, task: Task, result: Numbers) -> None:
    """Set loss and accuracy, and z̄_L = (softmax − target) / queries in place of z_L."""
    queries, last = task.query_x.shape[0], net.widths.shape[0] - 1
    at, count, pad = _start(net, last, queries), net.widths[last], net.pads[last]
    z, one = m.query_bar, m.w.dtype.type(1)
    loss, hits, share = m.w.dtype.type(0), 0, one / m.w.dtype.type(queries)
    for q in range(queries):
        row, best, label = at + q * pad, 0, 0
        target = task.query_target[q]
        for i in range(1, count):
            if z[row + i] > z[row + best]:
                best = i
            if target[i] > target[label]:
                label = i
        hits += best == label
        top, given, total = z[row + best], one - one, one - one
        for i in range(count):
            if target[i] != 0:
                given += target[i] * (z[row + i] - top)
            z[row + i] = np.exp(z[row + i] - top)
            total += z[row + i]
        loss += (np.log(total) - given) * share
        for i in range(count):
            z[row + i] = (z[row + i] / total - target[i]) * share
    result[0], result[1] = loss, hits / queries


@compiled
def _layer_backward(p: Program, m: Memory, task: Task, layer: int) -> None:
    """W̄ = Σ_q z̄_q ⊗ y_q, and ȳ_q = Wᵀ z̄_q turned into the level below's z̄."""
    net, queries = p.net, task.query_x.shape[0]
    pre, post = net.pads[layer], net.pads[layer + 1]
    lower, upper = _start(net, layer, queries), _start(net, layer + 1, queries)
    padded = -(-queries // PAD) * PAD
    for q in range(padded):
        for i in range(post):
            m.query_t[i * padded + q] = m.query_bar[upper + q * post + i]
    for i in range(0, post):
        row = net.w[layer] + i * pre
        clear(m.w_bar, row, pre)
        for q in range(0, padded, 8):
            _project(m.query_y, lower + q * pre, m.query_t, i * padded + q, m.w_bar, row, pre)
    if layer == 0:
        return
    clear(m.query_bar, lower, padded * pre)
    for i in range(0, post, 8):
        for q in range(queries):
            _project(
                m.w, net.w[layer] + i * pre, m.query_bar, upper + q * post + i, m.query_bar,
                lower + q * pre, pre,
            )  # fmt: skip
    for q in range(queries):
        for j in range(net.widths[layer]):
            m.query_bar[lower + q * pre + j] *= m.query_k[lower + q * pre + j]


@compiled
def query(p: Program, m: Memory, task: Task, result: Numbers, gradient: bool) -> None:
    """Set loss and accuracy (means over the query set) and, with `gradient`, m.w_bar."""
    net = p.net
    layers = net.w.shape[0] - 1
    _load(net, m, task)
    for layer in range(layers):
        _layer_forward(p, m, task, layer)
        if layer < layers - 1:
            _activate(net, m, task, layer)
    _judge(net, m, task, result)
    if gradient:
        for layer in range(layers - 1, -1, -1):
            _layer_backward(p, m, task, layer)
