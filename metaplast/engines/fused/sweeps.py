"""One pass over a matrix, forward or backward, with all work on its rows done in that pass.

Rows are processed in blocks that are small enough to stay in the innermost cache while several
loops of `lanes` pass over them. Padded rows are zero and change nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from metaplast.engines.fused import lanes
from metaplast.engines.fused.jit import compiled, inlined
from metaplast.engines.fused.memory import Pending
from metaplast.engines.fused.program import (
    ERROR,
    RELU,
    SOFTMAX,
    SOFTPLUS,
    TANH,
    Integers,
    Numbers,
)
from metaplast.engines.fused.softplus import softplus

_dot, _add_dot = lanes.dot(4, add=False), lanes.dot(4, add=True)
_project = lanes.project(8)
# Largest rank of an update in one pass over a row, and most terms of an adjoint; a rule of higher
# rank, or with projections of many traces, takes several.
_MOST, _MOST_TERMS = lanes.RANKS - 1, lanes.TERMS - 1
_NO_TERMS = -1  # The matrix stays, and its adjoint too.


@inlined
def update_rows(
    m: Numbers, at: int, a: Numbers, a_at: int, v: Numbers, v_at: int, x: Numbers, x_at: int,
    out: Numbers, out_at: int, height: int, width: int, scale: Any, rank: int, first: int,
    last: int,
) -> None:  # fmt: skip
    """M_i ← g M_i + Σ_r a_ri V_r, then out_i = M_i · x, for the rows i from first to last."""
    done, factor = 0, scale
    while True:
        part = min(rank - done, _MOST)
        lanes.update_dot(
            m, at, a, a_at + done * height, v, v_at + done * width, x, x_at, out, out_at, height,
            width, factor, part, first, last,
        )  # fmt: skip
        done, factor = done + part, m.dtype.type(1)
        if done >= rank:
            break


@inlined
def retreat_rows(
    m: Numbers, m_bar: Numbers, at: int, left: Numbers, right: Numbers, change: Pending, place: int,
    bar: int, layer: int, height: int, width: int, scale: Any, inverse: Any, terms: int, rank: int,
    grows: bool, first: int, last: int,
) -> None:  # fmt: skip
    """Take one step back for the rows from first to last, see `lanes.retreat`.

    The last cell of `growth_bar` takes what must not count twice.
    """
    done, added, one = 0, 0, m.dtype.type(1)
    unused, reads = change.growth_bar.shape[0] - 1, terms == _NO_TERMS
    while True:
        some = lanes.READ if reads else min(terms - added, _MOST_TERMS)
        more = not reads and added + some < terms
        part = 0 if more else min(rank - done, _MOST)
        begins, ends = done + added == 0, not more and done + part >= rank
        counts = begins if reads else ends
        case = some if grows or reads else some + lanes.STILL
        lanes.retreat(
            m, at, m_bar, at, left, added * height, right, added * width,
            change.a, place + done * height, change.v,
            place + done * width, change.a_bar, bar + done * height, change.v_bar,
            bar + done * width, change.growth_bar, layer if counts else unused, height, width,
            scale if begins else one, inverse if ends else one, case, part, first, last,
        )  # fmt: skip
        done, added = done + part, added if reads else added + some
        if ends:
            break


@compiled
def carry(
    m: Numbers, at: int, height: int, width: int, x: Numbers, x_at: int, out: Numbers, out_at: int
) -> None:
    """Add M x to out."""
    for i in range(0, height, 4):
        _add_dot(m, at + i * width, x, x_at, out, out_at + i, width)


@compiled
def project(
    m: Numbers, at: int, height: int, width: int, u: Numbers, u_at: int, p: Numbers, p_at: int
) -> None:
    """Add Mᵀ u to p."""
    for i in range(0, height, 8):
        _project(m, at + i * width, u, u_at + i, p, p_at, width)


@compiled
def project_jobs(
    m: Numbers, at: int, height: int, width: int, s: Numbers, base: int, jobs: Integers
) -> None:
    """Form Mᵀu for each job, in a separate pass."""
    job = 0
    while jobs[job, 0] >= 0:
        u, to = base + jobs[job, 0], base + jobs[job, 1]
        lanes.clear(s, to, width)
        project(m, at, height, width, s, u, s, to)
        job += 1


@compiled
def carry_jobs(m: Numbers, at: int, height: int, width: int, d: Numbers, jobs: Integers) -> None:
    """ū += M p̄ for each job p = Mᵀu."""
    job = 0
    while jobs[job, 0] >= 0:
        carry(m, at, height, width, d, jobs[job, 1], d, jobs[job, 0])
        job += 1


@compiled
def block_of(width: int) -> int:
    """Return how many rows, a multiple of eight, fit in the innermost cache together."""
    return max(8, 4096 // width // 8 * 8)


@compiled
def project_rows(
    m: Numbers, at: int, first: int, last: int, width: int, u: Numbers, u_at: int, p: Numbers,
    p_at: int,
) -> None:  # fmt: skip
    """Add Σ u_i M_i over a block of rows to p."""
    for i in range(first, last, 8):
        _project(m, at + i * width, u, u_at + i, p, p_at, width)


@compiled
def add_dots(
    m: Numbers, at: int, first: int, last: int, width: int, d: Numbers, jobs: Integers
) -> None:
    """ū += M p̄ for each job p = Mᵀu, over a block of rows."""
    job = 0
    while jobs[job, 0] >= 0:
        for row in range(first, last, 4):
            _add_dot(m, at + row * width, d, jobs[job, 1], d, jobs[job, 0] + row, width)
        job += 1


@compiled
def _softplus(s: Numbers, z: int, y: int, k: int, count: int, beta: Any) -> None:
    """Set y = log(1 + exp(βz))/β and k = σ'(z), both from exp(−|βz|)."""
    if s.itemsize == 4:
        softplus(s, z, s, y, s, k, count, beta)
        return
    one, zero = s.dtype.type(1), s.dtype.type(0)
    for i in range(count):
        t = beta * s[z + i]
        u = np.exp(-abs(t))
        positive = t if t > zero else zero
        s[y + i] = (positive + np.log1p(u)) / beta
        s[k + i] = (one if t >= zero else u) / (one + u)


@compiled
def activate(mode: int, s: Numbers, z: int, y: int, k: int, count: int, beta: Any) -> None:
    """Set activity y and gain k from the net input z, or error y from carried error z and k."""
    one, zero = s.dtype.type(1), s.dtype.type(0)
    if mode == SOFTPLUS:
        _softplus(s, z, y, k, count, beta)
    elif mode == TANH:
        for i in range(count):
            value = np.tanh(s[z + i])
            s[y + i] = value
            s[k + i] = one - value * value
    elif mode == RELU:
        for i in range(count):
            value = s[z + i]
            s[y + i] = zero if value < zero else value
            s[k + i] = one if value > zero else zero
    elif mode == ERROR:
        for i in range(count):
            s[y + i] = s[z + i] * s[k + i]


@compiled
def advance(
    m: Numbers, at: int, rows: int, height: int, width: int, rank: int, a: Numbers, v: Numbers,
    place: int, scale: Any, pending: bool, s: Numbers, base: int, x: int, z: int, mode: int,
    y: int, k: int, beta: Any, jobs: Integers,
) -> None:  # fmt: skip
    """Apply the pending change to M, form z = M x, its activation, and each job's Mᵀu."""
    job = 0
    while jobs[job, 0] >= 0:
        lanes.clear(s, base + jobs[job, 1], width)
        job += 1
    block = block_of(width)
    for i in range(0, rows, block):
        last = min(i + block, height)
        if pending:
            update_rows(
                m, at, a, place, v, place, s, base + x, s, base + z, height, width, scale, rank, i,
                last,
            )  # fmt: skip
        else:
            for part in range(i, last, 4):
                _dot(m, at + part * width, s, base + x, s, base + z + part, width)
        count = min(block, rows - i)
        activate(mode, s, base + z + i, base + y + i, base + k + i, count, beta)
        if mode != SOFTMAX:
            for done in range(job):
                u, p = base + jobs[done, 0], base + jobs[done, 1]
                for part in range(i, last, 8):
                    _project(m, at + part * width, s, u + part, s, p, width)


@compiled
def contract(
    m: Numbers, m_bar: Numbers, at: int, height: int, width: int, rank: int,
    change: Pending, place: int, bar: int, layer: int,
) -> None:  # fmt: skip
    """Form the adjoint of a step's change from M̄ and M, which is the matrix before the step."""
    one, left = m.dtype.type(1), change.a
    retreat_rows(
        m, m_bar, at, left, left, change, place, bar, layer, height, width, one, one, _NO_TERMS,
        rank, True, 0, height,
    )  # fmt: skip
