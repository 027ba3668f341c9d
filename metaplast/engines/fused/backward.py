"""One online step backward: carry the adjoint of the weights over it, and add its part of θ̄.

The pass over a matrix that ends step t also undoes step t − 1 and forms the adjoint of that step's
change. So each step takes one pass over W and its adjoint together.
"""

from __future__ import annotations

from metaplast.engines.fused.carried import carried_adjoint, gain_adjoint
from metaplast.engines.fused.forward import form_changes, load_image, output_error
from metaplast.engines.fused.functions import functions_adjoint
from metaplast.engines.fused.jit import ONE, ZERO, compiled, inlined
from metaplast.engines.fused.lanes import clear, copy, multiply
from metaplast.engines.fused.memory import Memory, Pending, Task
from metaplast.engines.fused.program import (
    PLASTIC,
    SYMMETRIC,
    Program,
    Side,
)
from metaplast.engines.fused.relaxing import relax_adjoint, relaxation_factors
from metaplast.engines.fused.sweeps import (
    add_dots,
    block_of,
    carry_jobs,
    contract,
    project_rows,
    retreat_rows,
)
from metaplast.engines.fused.tensor import change_adjoint
from metaplast.engines.fused.traces import traces_adjoint


@compiled
def recall(p: Program, m: Memory, task: Task, t: int, turn: int) -> None:
    """Restore the signals of step t from the history, and form its change again."""
    net, s, base = p.net, m.signals, turn * p.net.signals
    copy(m.history, t * net.saved, s, base, net.saved)
    load_image(net, task, t, s, base)
    for level in range(net.lowest, net.carried):
        c, e, k = base + net.c[level], base + net.e[level], base + net.k[level]
        multiply(s, e, s, c, s, k, net.pads[level])
    if not net.relaxes:
        output_error(net, task.label[t], s, base)
    form_changes(p, m, task, turn)


@inlined
def _changes_adjoint(p: Program, m: Memory, task: Task, turn: int) -> None:
    """Carry the adjoints of all changes of a step to its signals and to θ."""
    net, base, d = p.net, turn * p.net.signals, m.adjoints
    clear(d, 0, d.shape[0])
    for layer in range(net.w.shape[0] - 1):
        pre, post = net.pads[layer], net.pads[layer + 1]
        change_adjoint(
            p.forward, layer, m.signals, base, task.theta, task.theta_bar, m.forward, turn, post,
            pre, d,
        )  # fmt: skip
        if net.source == PLASTIC:
            change_adjoint(
                p.backward, layer, m.signals, base, task.theta, task.theta_bar, m.backward, turn,
                pre, post, d,
            )  # fmt: skip
    functions_adjoint(p.maps, m.signals, base, d)


@inlined
def _clear(at: Pending) -> None:
    """Zero the adjoints that a pass over the matrices adds to."""
    clear(at.v_bar, 0, at.v_bar.shape[0])
    for layer in range(at.growth_bar.shape[0]):
        at.growth_bar[layer] = 0


@compiled
def _factor(m: Memory, base: int, term: int, u: int, height: int, p: int, width: int) -> int:
    """Record that the step adds u ⊗ p̄ to a matrix's adjoint."""
    copy(m.signals, base + u, m.left, term * height, height)
    copy(m.adjoints, p, m.right, term * width, width)
    return term + 1


@compiled
def _job_factors(
    side: Side, layer: int, m: Memory, base: int, term: int, height: int, width: int
) -> int:
    for jobs in (side.early[layer], side.late[layer], side.slow[layer]):
        job = 0
        while jobs[job, 0] >= 0:
            term = _factor(m, base, term, jobs[job, 0], height, jobs[job, 1], width)
            job += 1
    return term


@compiled
def _backward_matrix(p: Program, m: Memory, task: Task, layer: int, turn: int, undo: bool) -> None:
    """Carry the adjoint of a plastic B back over step t, and undo step t − 1."""
    net, d, base = p.net, m.adjoints, turn * p.net.signals
    layers = net.w.shape[0] - 1
    height, width, rows, at = net.pads[layer], net.pads[layer + 1], net.widths[layer], net.b[layer]
    slot, before = turn * layers + layer, (1 - turn) * layers + layer
    jobs, rank, one = p.backward.early[layer], p.backward.rows.shape[1], d.dtype.type(1)
    carried = layer >= net.lowest
    terms = ZERO
    if carried:
        terms = ONE
        copy(m.signals, base + net.e[layer + 1], m.right, 0, width)
    terms = _job_factors(p.backward, layer, m, base, terms, height, width)
    scale, inverse = one + m.backward.growth[slot], one
    if undo:
        inverse = one / (one + m.backward.growth[before])
    change, left, right = m.backward, m.left, m.right
    place, bar = before * change.span, layer * change.span
    block, grows = block_of(width), p.backward.decays
    for i in range(0, rows, block):
        last = min(i + block, height)
        add_dots(m.b, at, i, last, width, d, jobs)
        if carried:
            gain_adjoint(net, m, layer, base, i, min(block, rows - i), task.beta)
            for row in range(i, last):
                left[row] = d[net.c[layer] + row]
            project_rows(m.b, at, i, last, width, d, net.c[layer], d, net.e[layer + 1])
        retreat_rows(
            m.b, m.b_bar, at, left, right, change, place, bar, layer, height, width, scale,
            inverse, terms, rank if undo else 0, grows, i, last,
        )  # fmt: skip


@inlined
def _errors_adjoint(p: Program, m: Memory, task: Task, label: int, turn: int, undo: bool) -> None:
    """Carry the adjoints of all errors up to the output error."""
    net, d, base = p.net, m.adjoints, turn * p.net.signals
    for layer in range(net.w.shape[0] - 1):
        if net.source == PLASTIC:
            _backward_matrix(p, m, task, layer, turn, undo)
        elif net.lowest <= layer < net.carried:
            carried_adjoint(p, m, layer, base, task.beta)
        jobs = p.forward.late[layer]
        carry_jobs(m.w, net.w[layer], net.pads[layer + 1], net.pads[layer], d, jobs)
    if net.relaxes:
        relax_adjoint(p, m, label, base)


@compiled
def _output_adjoint(p: Program, m: Memory, base: int) -> None:
    """Carry ē_L and ȳ_L through the softmax: z̄ = y ⊙ (ȳ − ⟨ȳ, y⟩)."""
    net, s, d = p.net, m.signals, m.adjoints
    last = net.widths.shape[0] - 1
    y, z, e = net.y[last], net.z[last], net.e[last]
    add_dots(
        m.w, net.w[last - 1], ZERO, net.pads[last], net.pads[last - 1], d,
        p.forward.early[last - 1],
    )  # fmt: skip
    total = s.dtype.type(0)
    for i in range(net.widths[last]):
        if not net.relaxes:
            d[y + i] += d[e + i]
        total += d[y + i] * s[base + y + i]
    for i in range(net.widths[last]):
        d[z + i] += s[base + y + i] * (d[y + i] - total)


@compiled
def _forward_factors(p: Program, m: Memory, layer: int, base: int) -> int:
    """Gather all factors that the step adds to the adjoint of a W; z̄ is set later, row by row."""
    net = p.net
    height, width = net.pads[layer + 1], net.pads[layer]
    copy(m.signals, base + net.f[layer], m.right, 0, width)
    terms = _job_factors(p.forward, layer, m, base, ONE, height, width)
    if net.relaxes and layer > 0:
        return relaxation_factors(p, m, layer, terms, height, width)
    if net.source == SYMMETRIC and not net.detached and layer >= net.lowest:
        terms = _factor(m, base, terms, net.e[layer + 1], height, net.c[layer], width)
    return terms


@compiled
def _forward_matrix(p: Program, m: Memory, layer: int, turn: int, undo: bool) -> None:
    """Carry the adjoint of a W back over step t, and undo step t − 1."""
    net, s, d, base = p.net, m.signals, m.adjoints, turn * p.net.signals
    layers = net.w.shape[0] - 1
    height, width, at = net.pads[layer + 1], net.pads[layer], net.w[layer]
    slot, before = turn * layers + layer, (1 - turn) * layers + layer
    rank, one = p.forward.rows.shape[1], d.dtype.type(1)
    y, z, k = net.f[layer + 1], net.z[layer + 1], base + net.k[layer + 1]
    terms = _forward_factors(p, m, layer, base)
    scale, inverse = one + m.forward.growth[slot], one
    if undo:
        inverse = one / (one + m.forward.growth[before])
    change, left, right, rows = m.forward, m.left, m.right, net.widths[layer + 1]
    place, bar = before * change.span, layer * change.span
    block, grows = block_of(width), p.forward.decays
    for i in range(0, rows, block):
        last = min(i + block, height)
        if layer < layers - 1:
            add_dots(m.w, at, i, last, width, d, p.forward.early[layer])
            for row in range(i, min(i + block, rows)):
                d[z + row] += d[y + row] * s[k + row]
        for row in range(i, last):
            left[row] = d[z + row]
        if layer > 0:
            project_rows(m.w, at, i, last, width, d, z, d, net.f[layer])
        retreat_rows(
            m.w, m.w_bar, at, left, right, change, place, bar, layer, height, width, scale,
            inverse, terms, rank if undo else 0, grows, i, last,
        )  # fmt: skip


@compiled
def step_adjoint(p: Program, m: Memory, task: Task, t: int, turn: int, undo: bool) -> None:
    """Carry the adjoint of the weights over step t; with `undo`, undo step t − 1 as well.

    On entry, m.w holds the weights before step t, m.w_bar the adjoint of those after it, and the
    adjoint of the step's change has been formed. On return, the same is true for step t − 1.
    """
    _changes_adjoint(p, m, task, turn)
    if t == 0:
        return
    traces_adjoint(p, m, turn)
    _clear(m.forward)
    _clear(m.backward)
    _errors_adjoint(p, m, task, task.label[t], turn, undo)
    _output_adjoint(p, m, turn * p.net.signals)
    for layer in range(p.net.w.shape[0] - 2, -1, -1):
        _forward_matrix(p, m, layer, turn, undo)


@compiled
def contract_all(p: Program, m: Memory, turn: int) -> None:
    """Form the adjoint of a step's changes from the weights before it and the adjoint after it."""
    net = p.net
    layers = net.w.shape[0] - 1
    _clear(m.forward)
    _clear(m.backward)
    for layer in range(layers):
        pre, post, slot = layer, layer + 1, turn * layers + layer
        contract(
            m.w, m.w_bar, net.w[layer], net.pads[post], net.pads[pre],
            p.forward.rows.shape[1], m.forward, slot * m.forward.span, layer * m.forward.span,
            layer,
        )  # fmt: skip
        if net.source == PLASTIC:
            contract(
                m.b, m.b_bar, net.b[layer], net.pads[pre], net.pads[post],
                p.backward.rows.shape[1], m.backward, slot * m.backward.span,
                layer * m.backward.span, layer,
            )  # fmt: skip
