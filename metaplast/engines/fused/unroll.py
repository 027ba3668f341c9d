"""A whole episode on one core: forward sweep, query loss, and the backward sweep."""

from __future__ import annotations

import numpy as np

from metaplast.engines.fused.backward import contract_all, recall, step_adjoint
from metaplast.engines.fused.dropped import follow_dropped
from metaplast.engines.fused.forward import apply_pending, step
from metaplast.engines.fused.jit import NO, compiled, entry_point, inlined
from metaplast.engines.fused.lanes import clear, copy
from metaplast.engines.fused.memory import Memory, Pending, Task
from metaplast.engines.fused.program import PLASTIC, Numbers, Program
from metaplast.engines.fused.query import query
from metaplast.engines.fused.traces import keep_traces

LOSS, ACCURACY, DEVIATION, FULL = range(4)


@compiled
def _amplification(p: Program, m: Memory, turn: int) -> float:
    """Return how much undoing a step may amplify an error: max over matrices of 1/|1 + g|."""
    layers = p.net.w.shape[0] - 1
    worst = 1.0
    for slot in range(turn * layers, (turn + 1) * layers):
        worst = max(worst, 1.0 / abs(1.0 + m.forward.growth[slot]))
        if p.net.source == PLASTIC:
            worst = max(worst, 1.0 / abs(1.0 + m.backward.growth[slot]))
    return worst


@inlined
def _forward(p: Program, m: Memory, task: Task) -> bool:
    """Learn all examples; return False if there was too little room for copies of the weights."""
    gradient, steps = m.w_bar.shape[0] > 0, task.label.shape[0]
    used, since, amplified = 0, 0, 1.0
    for t in range(steps):
        step(p, m, task, t, t % 2, t > 0)
        follow_dropped(p, m, t % 2)
        if not gradient:
            continue
        copy(m.signals, (t % 2) * p.net.signals, m.history, t * p.net.saved, p.net.saved)
        amplified *= _amplification(p, m, t % 2)
        since += 1
        m.slots[t] = -1
        if t in (0, steps - 1) or since > task.spacing or amplified > task.limit:
            if (used + 1) * p.net.state > m.kept.shape[0]:
                return False
            _keep(p, m, used)
            m.slots[t] = used
            used, since, amplified = used + 1, 0, 1.0
    if steps > 0:
        apply_pending(p, m, (steps - 1) % 2)
    keep_traces(p, m, (steps - 1) % 2)
    return True


@inlined
def _keep(p: Program, m: Memory, slot: int) -> None:
    count = m.w.shape[0]
    start = slot * p.net.state
    copy(m.w, 0, m.kept, start, count)
    if p.net.source == PLASTIC:
        copy(m.b, 0, m.kept, start + count, m.b.shape[0])


@inlined
def _restore(p: Program, m: Memory, slot: int) -> None:
    count = m.w.shape[0]
    start = slot * p.net.state
    copy(m.kept, start, m.w, 0, count)
    if p.net.source == PLASTIC:
        copy(m.kept, start + count, m.b, 0, m.b.shape[0])


@compiled
def _matrix_deviation(
    matrix: Numbers, at: int, height: int, width: int, kept: Numbers, kept_at: int, rank: int,
    change: Pending, slot: int,
) -> float:  # fmt: skip
    """Return max |rebuilt − real| / max |real| of a matrix after a step, from the one before it."""
    place, one = slot * change.span, matrix.dtype.type(1)
    worst, largest = 0.0, 0.0
    for i in range(height):
        for j in range(width):
            real = (one + change.growth[slot]) * kept[kept_at + i * width + j]
            for r in range(rank):
                real += change.a[place + r * height + i] * change.v[place + r * width + j]
            largest = max(largest, abs(real))
            gap = abs(real - matrix[at + i * width + j])
            worst = gap if not gap <= worst else worst
    return worst / largest if largest > 0 else worst


@compiled
def _deviation(p: Program, m: Memory, turn: int, slot: int) -> float:
    """Return the largest `_matrix_deviation` of all matrices after a step."""
    net, worst = p.net, 0.0
    layers = net.w.shape[0] - 1
    for layer in range(layers):
        pre, post, at = net.pads[layer], net.pads[layer + 1], turn * layers + layer
        gap = _matrix_deviation(
            m.w, net.w[layer], post, pre, m.kept, slot * net.state + net.w[layer],
            p.forward.rows.shape[1],
            m.forward, at,
        )  # fmt: skip
        worst = gap if not gap <= worst else worst
        if net.source == PLASTIC:
            gap = _matrix_deviation(
                m.b, net.b[layer], pre, post, m.kept,
                slot * net.state + net.w[layers] + net.b[layer],
                p.backward.rows.shape[1], m.backward, at,
            )  # fmt: skip
            worst = gap if not gap <= worst else worst
    return worst


@inlined
def _backward(p: Program, m: Memory, task: Task) -> float:
    """Fill task.theta_bar; return the worst deviation of rebuilt weights from kept ones."""
    steps, worst = task.label.shape[0], 0.0
    if steps == 0:
        return worst
    clear(m.b_bar, 0, m.b_bar.shape[0])
    for t in range(steps, -1, -1):
        before, kept = (t + 1) % 2, NO
        if t > 0:
            recall(p, m, task, t - 1, before)
            kept = m.slots[t - 1]
        if kept >= 0 and t < steps:
            gap = _deviation(p, m, before, kept)
            worst = gap if not gap <= worst else worst
        if t < steps:
            step_adjoint(p, m, task, t, t % 2, kept < 0)
        if kept >= 0:
            _restore(p, m, kept)
            contract_all(p, m, before)
    return worst


@entry_point
def run_episode(p: Program, m: Memory, task: Task, result: Numbers) -> None:
    """Unroll one episode from the weights in m.w and m.b, which end as the learned weights.

    Sets result to loss, accuracy, the worst deviation of rebuilt weights, and 1 if there were too
    few slots. If there is a history to write to, also fills task.theta_bar.
    """
    for i in range(result.shape[0]):
        result[i] = 0
    if not _forward(p, m, task):
        result[FULL] = 1
        return
    gradient = m.w_bar.shape[0] > 0
    query(p, m, task, result, gradient)
    copy(m.w, 0, m.final, 0, m.final.shape[0])
    copy(m.b, 0, m.final_b, 0, m.final_b.shape[0])
    if not gradient:
        return
    if not np.isfinite(result[LOSS]):
        for i in range(task.theta_bar.size):
            task.theta_bar.flat[i] = np.nan
        return
    result[DEVIATION] = _backward(p, m, task)
