"""Traces in the kernel, x̄ ← (1 − 1/τ) x̄ + f(x)/τ, and their adjoints.

Each step's traces are kept with its other vectors: undoing x̄ = (x̄⁺ − f(x)/τ) / (1 − 1/τ) would
amplify rounding by that factor at every step.
"""

from __future__ import annotations

from metaplast.engines.fused.functions import slope, value
from metaplast.engines.fused.jit import compiled
from metaplast.engines.fused.lanes import copy
from metaplast.engines.fused.memory import Memory
from metaplast.engines.fused.program import PLASTIC, Program
from metaplast.engines.fused.sweeps import carry_jobs, project_jobs


@compiled
def follow(p: Program, m: Memory, turn: int) -> None:
    """Set a step's traces from those of the step before it, and each Mᵀx̄ that terms read."""
    s, one, rows = m.signals, m.w.dtype.type(1), p.traces.table
    base, before = turn * p.net.signals, (1 - turn) * p.net.signals
    for k in range(rows.shape[0]):
        to, x, keep, share = rows[k, 0], base + rows[k, 2], p.traces.keep[k], p.traces.share[k]
        for i in range(rows[k, 1]):
            s[base + to + i] = keep * s[before + to + i] + share * value(rows[k, 3], s[x + i], one)
    for layer in range(p.net.w.shape[0] - 1):
        pre, post = p.net.pads[layer], p.net.pads[layer + 1]
        project_jobs(m.w, p.net.w[layer], post, pre, s, base, p.forward.slow[layer])
        if p.net.source == PLASTIC:
            project_jobs(m.b, p.net.b[layer], pre, post, s, base, p.backward.slow[layer])


@compiled
def traces_adjoint(p: Program, m: Memory, turn: int) -> None:
    """Carry the adjoints of a step's traces to the signals that they follow, and one step back.

    The adjoint of the trace of step t is c̄_t = (1 − 1/τ) c̄_{t+1} + the part from step t, and the
    signal x receives f'(x) c̄_t / τ. On entry, `m.trace_bar` holds c̄_{t+1}, and m.w and m.b the
    weights before step t; on return, `m.trace_bar` holds c̄_t.
    """
    s, d, one, rows = m.signals, m.adjoints, m.w.dtype.type(1), p.traces.table
    base, first = turn * p.net.signals, p.traces.first
    for layer in range(p.net.w.shape[0] - 1):
        pre, post = p.net.pads[layer], p.net.pads[layer + 1]
        carry_jobs(m.w, p.net.w[layer], post, pre, d, p.forward.slow[layer])
        if p.net.source == PLASTIC:
            carry_jobs(m.b, p.net.b[layer], pre, post, d, p.backward.slow[layer])
    for k in range(rows.shape[0] - 1, -1, -1):
        to, x, keep, share = rows[k, 0], rows[k, 2], p.traces.keep[k], p.traces.share[k]
        for i in range(rows[k, 1]):
            bar = d[to + i] + keep * m.trace_bar[to - first + i]
            m.trace_bar[to - first + i] = bar
            d[x + i] += share * bar * slope(rows[k, 3], s[base + x + i], one)


@compiled
def keep_traces(p: Program, m: Memory, turn: int) -> None:
    """Copy the traces after the last step to `m.final_traces`."""
    at = turn * p.net.signals + p.traces.first
    copy(m.signals, at, m.final_traces, 0, p.traces.size)
