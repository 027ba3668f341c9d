"""One pass over a matrix, forward or backward, and everything done to its rows on the way.

Rows are taken in blocks so small that a block stays in the innermost cache while several loops of
`lanes` pass over it. Padded rows are zero and so change nothing.
"""

# ruff: noqa: PLR0913 - a kernel's arguments are its registers.

from __future__ import annotations

from typing import Any

import numpy as np

from metaplast.unroll.fused import lanes
from metaplast.unroll.fused.jit import compiled
from metaplast.unroll.fused.memory import Pending
from metaplast.unroll.fused.program import (
    ERROR,
    NOTHING,
    RELU,
    SOFTMAX,
    SOFTPLUS,
    TANH,
    Integers,
    Numbers,
)

_dot, _add_dot = lanes.dot(4, add=False), lanes.dot(4, add=True)
_project = lanes.project(8)
_update_0, _update_1, _update_2, _update_3 = (lanes.update_dot(rank, 4) for rank in range(4))
_back_00, _back_01, _back_02, _back_03 = (lanes.retreat(0, r, 2, undo=True) for r in range(4))
_back_10, _back_11, _back_12, _back_13 = (lanes.retreat(1, r, 2, undo=True) for r in range(4))
_back_20, _back_21, _back_22, _back_23 = (lanes.retreat(2, r, 2, undo=True) for r in range(4))
_back_30, _back_31, _back_32, _back_33 = (lanes.retreat(3, r, 2, undo=True) for r in range(4))
_back_40, _back_41, _back_42, _back_43 = (lanes.retreat(4, r, 2, undo=True) for r in range(4))
_read_0, _read_1, _read_2, _read_3 = (lanes.retreat(0, r, 2, undo=False) for r in range(4))


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
def block_of(width: int) -> int:
    """Return how many rows, a multiple of eight, stay in the innermost cache together."""
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
def update_rows(
    m: Numbers, at: int, first: int, last: int, height: int, width: int, rank: int, a: Numbers,
    v: Numbers, place: int, scale: Any, x: Numbers, x_at: int, out: Numbers, out_at: int,
) -> None:  # fmt: skip
    """Apply a pending change to a block of rows, then form their net input."""
    for i in range(first, last, 4):
        row = at + i * width
        if rank == 0:
            _update_0(
                m, row, a, place + i, v, place, x, x_at, out, out_at + i, height, width, scale
            )
        elif rank == 1:
            _update_1(
                m, row, a, place + i, v, place, x, x_at, out, out_at + i, height, width, scale
            )
        elif rank == 2:
            _update_2(
                m, row, a, place + i, v, place, x, x_at, out, out_at + i, height, width, scale
            )
        else:
            _update_3(
                m, row, a, place + i, v, place, x, x_at, out, out_at + i, height, width, scale
            )


@compiled
def _softplus(s: Numbers, z: int, y: int, k: int, count: int, beta: Any) -> None:
    """Set y = log(1 + exp(βz))/β and k = σ'(z), both from exp(−|βz|)."""
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
                m, at, i, last, height, width, rank, a, v, place, scale, s, base + x, s, base + z
            )
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
def step_back(
    terms: int, rank: int, m: Numbers, m_bar: Numbers, at: int, left: Numbers, right: Numbers,
    a: Numbers, v: Numbers, place: int, a_bar: Numbers, v_bar: Numbers, growth_bar: Numbers,
    bar: int, layer: int, first: int, last: int, height: int, width: int, scale: Any,
    inverse: Any,
) -> None:  # fmt: skip
    """Go one step back on a block of rows: the row loop `lanes.retreat` of the sizes asked for."""
    for i in range(first, last, 2):
        row = at + i * width
        if terms == 0 and rank == 0:
            _back_00(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 0 and rank == 1:
            _back_01(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 0 and rank == 2:
            _back_02(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 0 and rank == 3:
            _back_03(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 1 and rank == 0:
            _back_10(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 1 and rank == 1:
            _back_11(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 1 and rank == 2:
            _back_12(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 1 and rank == 3:
            _back_13(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 2 and rank == 0:
            _back_20(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 2 and rank == 1:
            _back_21(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 2 and rank == 2:
            _back_22(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 2 and rank == 3:
            _back_23(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 3 and rank == 0:
            _back_30(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 3 and rank == 1:
            _back_31(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 3 and rank == 2:
            _back_32(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 3 and rank == 3:
            _back_33(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 4 and rank == 0:
            _back_40(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 4 and rank == 1:
            _back_41(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 4 and rank == 2:
            _back_42(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip
        elif terms == 4 and rank == 3:
            _back_43(
                m, row, m_bar, row, left, i, right, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, scale, inverse,
            )  # fmt: skip


@compiled
def contract(
    m: Numbers, m_bar: Numbers, at: int, rows: int, height: int, width: int, rank: int,
    change: Pending, place: int, bar: int, layer: int,
) -> None:  # fmt: skip
    """Form the adjoint of a step's change from M̄ and M, which is the matrix before the step."""
    one = m.dtype.type(1)
    a, v, a_bar, v_bar = change.a, change.v, change.a_bar, change.v_bar
    growth_bar = change.growth_bar
    for i in range(0, rows, 2):
        row = at + i * width
        if rank == 0:
            _read_0(
                m, row, m_bar, row, a, 0, a, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, one, one,
            )  # fmt: skip
        elif rank == 1:
            _read_1(
                m, row, m_bar, row, a, 0, a, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, one, one,
            )  # fmt: skip
        elif rank == 2:
            _read_2(
                m, row, m_bar, row, a, 0, a, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, one, one,
            )  # fmt: skip
        elif rank == 3:
            _read_3(
                m, row, m_bar, row, a, 0, a, 0, a, place + i, v, place, a_bar, bar + i, v_bar, bar,
                growth_bar, layer, height, width, one, one,
            )  # fmt: skip
