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

BLOCK = 8
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
    for i in range(0, height, BLOCK):
        _project(m, at + i * width, u, u_at + i, p, p_at, width)


@compiled
def project_rows(
    m: Numbers, at: int, i: int, width: int, u: Numbers, u_at: int, p: Numbers, p_at: int
) -> None:
    """Add Σ u_i M_i over the block of rows from row i on to p."""
    _project(m, at + i * width, u, u_at + i, p, p_at, width)


@compiled
def add_dots(m: Numbers, at: int, i: int, width: int, d: Numbers, jobs: Integers) -> None:
    """ū += M p̄ for each job p = Mᵀu, the block of rows from row i on."""
    job = 0
    while jobs[job, 0] >= 0:
        for row in range(i, i + BLOCK, 4):
            _add_dot(m, at + row * width, d, jobs[job, 1], d, jobs[job, 0] + row, width)
        job += 1


@compiled
def update_rows(
    m: Numbers, at: int, height: int, width: int, rank: int, change: Pending, place: int, i: int,
    scale: Any, x: Numbers, x_at: int, out: Numbers, out_at: int,
) -> None:  # fmt: skip
    """Apply a pending change to four rows from row i on, then form their net input."""
    row, a = at + i * width, place + i
    if rank == 0:
        _update_0(
            m, row, change.a, a, change.v, place, x, x_at, out, out_at + i, height, width, scale
        )
    elif rank == 1:
        _update_1(
            m, row, change.a, a, change.v, place, x, x_at, out, out_at + i, height, width, scale
        )
    elif rank == 2:
        _update_2(
            m, row, change.a, a, change.v, place, x, x_at, out, out_at + i, height, width, scale
        )
    else:
        _update_3(
            m, row, change.a, a, change.v, place, x, x_at, out, out_at + i, height, width, scale
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
    m: Numbers, at: int, rows: int, height: int, width: int, rank: int, change: Pending,
    place: int, scale: Any, pending: bool, s: Numbers, base: int, x: int, z: int, mode: int,
    y: int, k: int, beta: Any, jobs: Integers,
) -> None:  # fmt: skip
    """Apply the pending change to M, form z = M x, its activation, and each job's Mᵀu."""
    job = 0
    while jobs[job, 0] >= 0:
        for j in range(width):
            s[base + jobs[job, 1] + j] = 0
        job += 1
    for i in range(0, rows, BLOCK):
        for part in range(i, i + BLOCK, 4):
            if pending:
                update_rows(
                    m, at, height, width, rank, change, place, part, scale, s, base + x, s, base + z
                )
            else:
                _dot(m, at + part * width, s, base + x, s, base + z + part, width)
        count = min(BLOCK, rows - i)
        activate(mode, s, base + z + i, base + y + i, base + k + i, count, beta)
        if mode != SOFTMAX:
            for done in range(job):
                u, p = base + jobs[done, 0] + i, base + jobs[done, 1]
                _project(m, at + i * width, s, u, s, p, width)


@compiled
def step_back(
    terms: int, rank: int, m: Numbers, m_bar: Numbers, at: int, left: Numbers, right: Numbers,
    change: Pending, place: int, bar: int, layer: int, i: int, height: int, width: int,
    scale: Any, inverse: Any,
) -> None:  # fmt: skip
    """Call the row loop `lanes.retreat` of these sizes on the two rows from row i on."""
    row, a, a_bar = at + i * width, place + i, bar + i
    if terms == 0 and rank == 0:
        _back_00(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 0 and rank == 1:
        _back_01(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 0 and rank == 2:
        _back_02(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 0 and rank == 3:
        _back_03(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 1 and rank == 0:
        _back_10(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 1 and rank == 1:
        _back_11(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 1 and rank == 2:
        _back_12(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 1 and rank == 3:
        _back_13(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 2 and rank == 0:
        _back_20(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 2 and rank == 1:
        _back_21(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 2 and rank == 2:
        _back_22(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 2 and rank == 3:
        _back_23(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 3 and rank == 0:
        _back_30(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 3 and rank == 1:
        _back_31(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 3 and rank == 2:
        _back_32(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 3 and rank == 3:
        _back_33(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 4 and rank == 0:
        _back_40(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 4 and rank == 1:
        _back_41(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 4 and rank == 2:
        _back_42(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )
    elif terms == 4 and rank == 3:
        _back_43(
            m,
            row,
            m_bar,
            row,
            left,
            i,
            right,
            0,
            change.a,
            a,
            change.v,
            place,
            change.a_bar,
            a_bar,
            change.v_bar,
            bar,
            change.growth_bar,
            layer,
            height,
            width,
            scale,
            inverse,
        )


@compiled
def contract(
    m: Numbers, m_bar: Numbers, at: int, rows: int, height: int, width: int, rank: int,
    change: Pending, place: int, bar: int, layer: int,
) -> None:  # fmt: skip
    """Form the adjoint of a step's change from M̄ and M, which is the matrix before the step."""
    one = m.dtype.type(1)
    left = change.a
    for i in range(0, rows, 2):
        row, a, a_bar = at + i * width, place + i, bar + i
        if rank == 0:
            _read_0(
                m,
                row,
                m_bar,
                row,
                left,
                0,
                left,
                0,
                change.a,
                a,
                change.v,
                place,
                change.a_bar,
                a_bar,
                change.v_bar,
                bar,
                change.growth_bar,
                layer,
                height,
                width,
                one,
                one,
            )
        elif rank == 1:
            _read_1(
                m,
                row,
                m_bar,
                row,
                left,
                0,
                left,
                0,
                change.a,
                a,
                change.v,
                place,
                change.a_bar,
                a_bar,
                change.v_bar,
                bar,
                change.growth_bar,
                layer,
                height,
                width,
                one,
                one,
            )
        elif rank == 2:
            _read_2(
                m,
                row,
                m_bar,
                row,
                left,
                0,
                left,
                0,
                change.a,
                a,
                change.v,
                place,
                change.a_bar,
                a_bar,
                change.v_bar,
                bar,
                change.growth_bar,
                layer,
                height,
                width,
                one,
                one,
            )
        elif rank == 3:
            _read_3(
                m,
                row,
                m_bar,
                row,
                left,
                0,
                left,
                0,
                change.a,
                a,
                change.v,
                place,
                change.a_bar,
                a_bar,
                change.v_bar,
                bar,
                change.growth_bar,
                layer,
                height,
                width,
                one,
                one,
            )
