"""A whole episode on one core: forward, query loss, and the backward sweep.

For the steps of one segment, everything that the backward sweep reads is kept. For the other
segments, only the matrices at their start are kept, and their steps are taken again.
"""

from __future__ import annotations

import numpy as np

from metaplast.engines.fused.jit import ZERO, inlined
from metaplast.engines.fused.lanes import copy
from metaplast.engines.fused_recurrent.backward import step_adjoint
from metaplast.engines.fused_recurrent.forward import step
from metaplast.engines.fused_recurrent.jit import entry_point
from metaplast.engines.fused_recurrent.memory import Memory, Task
from metaplast.engines.fused_recurrent.program import Numbers, Program
from metaplast.engines.fused_recurrent.query import query

LOSS, ACCURACY = range(2)


@inlined
def _take(p: Program, m: Memory, task: Task, segment: int) -> int:
    """Take the steps of a segment from the first state in m.w; return their number."""
    first = segment * task.length
    count: int = min(task.length, task.x.shape[0] - first)
    for slot in range(count):
        step(p, m, task, first + slot, slot)
    return count


@inlined
def _forward(p: Program, m: Memory, task: Task, segments: int) -> int:
    """Learn all examples; return where the learned matrices are."""
    size, count = p.net.weights, 0
    for segment in range(segments):
        if segment > 0:
            copy(m.w, count * size, m.w, ZERO, size)
        copy(m.w, ZERO, m.starts, segment * size, size)
        count = _take(p, m, task, segment)
    copy(m.w, count * size, m.final, ZERO, size)
    return count * size


@inlined
def _backward(p: Program, m: Memory, task: Task, segments: int) -> None:
    """Fill task.theta_bar."""
    size = p.net.weights
    for segment in range(segments - 1, -1, -1):
        first = segment * task.length
        count = min(task.length, task.x.shape[0] - first)
        if segment < segments - 1:
            copy(m.starts, segment * size, m.w, ZERO, size)
            _take(p, m, task, segment)
        for slot in range(count - 1, -1, -1):
            step_adjoint(p, m, task, first + slot, slot)


@entry_point
def run_episode(p: Program, m: Memory, task: Task, result: Numbers) -> None:
    """Unroll one episode from the first state in m.w; the learned matrices end in m.final.

    Sets result to loss and accuracy. With a gradient, also fills task.theta_bar.
    """
    segments = -(-task.x.shape[0] // task.length)
    learned = _forward(p, m, task, segments)
    query(p, m, task, learned, result)
    if not task.gradient:
        return
    if not np.isfinite(result[LOSS]):
        for i in range(task.theta_bar.size):
            task.theta_bar.flat[i] = np.nan
        return
    _backward(p, m, task, segments)
