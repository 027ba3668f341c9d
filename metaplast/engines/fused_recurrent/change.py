"""The change of one matrix in a step, M⁺ = (1 + g) M + Σ a ⊗ V_a, and its adjoint."""

from __future__ import annotations

from typing import Any

from metaplast.engines.fused.jit import ONE, ZERO, inlined
from metaplast.engines.fused.lanes import add_multiple, clear, inner
from metaplast.engines.fused_recurrent.jit import compiled
from metaplast.engines.fused_recurrent.memory import Memory, Task
from metaplast.engines.fused_recurrent.products import (
    add_outer,
    add_product,
    multiply,
    set_product,
    turn,
)
from metaplast.engines.fused_recurrent.program import Net, Numbers, Side


@inlined
def _project(net: Net, side: Side, m: Memory, base: int, w: int) -> None:
    """Form the products Wᵀu that terms read."""
    for job in range(side.projections.shape[0]):
        u = side.projections[job, 0] + side.projections[job, 1] * base
        set_product(
            m.s, u, side.tall, m.w, w + side.w, m.s, base + side.projections[job, 2], side.wide,
            side.projections[job, 3], side.height, net.lanes,
        )  # fmt: skip


@compiled
def _form_gates(side: Side, m: Memory, base: int) -> None:
    """Set the scalar products at all occurrences: 0 where one of the vectors is always zero."""
    count = side.gates.shape[0]
    for gate in range(count):
        left = side.gates[gate, 0] + side.gates[gate, 1] * base
        right = side.gates[gate, 2] + side.gates[gate, 3] * base
        width, last = side.gates[gate, 4], side.gates[gate, 5]
        for k in range(last):
            at = k * width
            inner(m.s, left + at, m.s, right + at, m.gates, k * count + gate, width)
        for k in range(last, side.times):
            m.gates[k * count + gate] = 0


@compiled
def _strength(side: Side, m: Memory, k: int, monomial: int, skip: int) -> Any:
    """Return coefficient · Π gates of a monomial at an occurrence, without its gate at `skip`."""
    product, count = side.coefficients[monomial], side.gates.shape[0]
    for place in range(2, side.entries.shape[1]):
        gate = side.entries[monomial, place]
        if gate >= 0 and place != skip:
            product *= m.gates[k * count + gate]
    return product


@compiled
def _once(side: Side, monomial: int) -> bool:
    """Return whether a monomial is a decay without gates, which acts once per step."""
    ungated = side.entries.shape[1] == 2 or side.entries[monomial, 2] < 0
    return bool(side.entries[monomial, 1] < 0 and ungated)


@compiled
def _form_cells(side: Side, m: Memory, theta: Numbers) -> Any:
    """Set G at all occurrences; return the growth g."""
    cells, growth = side.cells.shape[0], theta.dtype.type(0)
    for index in range(side.times * cells):
        m.g[index] = 0
    for monomial in range(side.entries.shape[0]):
        factor, cell = theta[side.site, side.entries[monomial, 0]], side.entries[monomial, 1]
        if _once(side, monomial):
            growth += factor * side.coefficients[monomial]
            continue
        for k in range(side.times):
            value = factor * _strength(side, m, k, monomial, ZERO)
            if cell >= 0:
                m.g[k * cells + cell] += value
            else:
                growth += value
    return growth


@compiled
def _mix(side: Side, m: Memory, base: int) -> None:
    """Set V_a = Σ_b G_ab r_b at all occurrences."""
    cells, wide, span = side.cells.shape[0], side.wide, side.times * side.wide
    for a in range(side.rows.shape[0]):
        clear(m.v, a * span, side.rows[a, 2] * wide)
    for cell in range(cells):
        b = side.cells[cell, 1]
        column, to = side.columns[b, 0] + side.columns[b, 1] * base, side.cells[cell, 0] * span
        for k in range(side.cells[cell, 2]):
            at = k * wide
            add_multiple(m.v, to + at, m.s, column + at, m.g[k * cells + cell], wide)


@compiled
def change(net: Net, side: Side, m: Memory, task: Task, base: int, w: int) -> None:
    """Form the products Wᵀu that terms read, and a matrix after the step from the one before it.

    The matrices before the step are at offset `w`, those after it follow.
    """
    start, out = w + side.w, w + net.weights + side.w
    _project(net, side, m, base, w)
    _form_gates(side, m, base)
    scale = task.theta.dtype.type(1) + _form_cells(side, m, task.theta)
    _mix(side, m, base)
    if side.rows.shape[0] == 0:
        multiply(
            m.s, ZERO, ZERO, ZERO, m.s, ZERO, m.w, start, m.w, out, side.wide, side.height, ZERO,
            scale, ONE, net.lanes,
        )  # fmt: skip
    for a in range(side.rows.shape[0]):
        multiply(
            m.s, side.rows[a, 0] + side.rows[a, 1] * base, ONE, side.tall, m.v,
            a * side.times * side.wide, m.w, start, m.w, out, side.wide, side.height,
            side.rows[a, 2], scale, ONE, net.lanes,
        )  # fmt: skip
        start, scale = out, task.theta.dtype.type(1)


@inlined
def _factor_adjoints(net: Net, side: Side, m: Memory, base: int) -> None:
    """Carry the adjoint of Σ a ⊗ V_a to the vectors a and r, and set the adjoint of G."""
    cells, wide, bar = side.cells.shape[0], side.wide, side.w
    turn(m.w_bar, bar, side.tall, wide, m.turned, side.turned, net.lanes)
    for a in range(side.rows.shape[0]):
        row, kept, count = side.rows[a, 0], side.rows[a, 1], side.rows[a, 2]
        add_product(
            m.v, a * side.times * wide, wide, m.turned, side.turned, m.d, row + kept * net.first,
            side.tall, count, side.width, net.lanes,
        )  # fmt: skip
        set_product(
            m.s, row + kept * base, side.tall, m.w_bar, bar, m.v_bar, ZERO, wide, count,
            side.height, net.lanes,
        )  # fmt: skip
        for cell in range(cells):
            if side.cells[cell, 0] != a:
                continue
            b = side.cells[cell, 1]
            column, kept = side.columns[b, 0], side.columns[b, 1]
            for k in range(side.cells[cell, 2]):
                at, index = k * wide, k * cells + cell
                inner(m.v_bar, at, m.s, column + kept * base + at, m.g_bar, index, wide)
                if side.columns[b, 2]:
                    to = column + kept * net.first + at
                    add_multiple(m.d, to, m.v_bar, at, m.g[index], wide)


@compiled
def _growth_adjoint(side: Side, m: Memory, w: int) -> Any:
    """Return ⟨M̄, M⟩."""
    total = m.w_bar.dtype.type(0)
    for i in range(side.height):
        inner(
            m.w_bar, side.w + i * side.wide, m.w, w + side.w + i * side.wide, m.z, ZERO, side.wide
        )
        total += m.z[0]
    m.z[0] = 0
    return total


@compiled
def _coefficient_adjoints(side: Side, m: Memory, task: Task, growth_bar: Any) -> None:
    """Add the step's part of θ̄, and set the adjoints of the gates."""
    cells, gates = side.cells.shape[0], side.gates.shape[0]
    for index in range(side.times * gates):
        m.gates_bar[index] = 0
    for monomial in range(side.entries.shape[0]):
        term, cell = side.entries[monomial, 0], side.entries[monomial, 1]
        factor, total = task.theta[side.site, term], growth_bar - growth_bar
        if _once(side, monomial):
            task.theta_bar[side.site, term] += growth_bar * side.coefficients[monomial]
            continue
        last = side.cells[cell, 2] if cell >= 0 else side.times
        for k in range(last):
            bar = m.g_bar[k * cells + cell] if cell >= 0 else growth_bar
            total += bar * _strength(side, m, k, monomial, ZERO)
            for place in range(2, side.entries.shape[1]):
                gate = side.entries[monomial, place]
                if gate >= 0:
                    others = _strength(side, m, k, monomial, place)
                    m.gates_bar[k * gates + gate] += factor * others * bar
        task.theta_bar[side.site, term] += total


@compiled
def _gate_adjoints(net: Net, side: Side, m: Memory, base: int) -> None:
    """Carry the adjoints of the gates to both of their vectors."""
    count = side.gates.shape[0]
    for gate in range(count):
        left, l_kept = side.gates[gate, 0], side.gates[gate, 1]
        right, r_kept = side.gates[gate, 2], side.gates[gate, 3]
        width = side.gates[gate, 4]
        for k in range(side.gates[gate, 5]):
            at, bar = k * width, m.gates_bar[k * count + gate]
            add_multiple(
                m.d, left + l_kept * net.first + at, m.s, right + r_kept * base + at, bar, width
            )
            add_multiple(
                m.d, right + r_kept * net.first + at, m.s, left + l_kept * base + at, bar, width
            )


@compiled
def change_adjoint(net: Net, side: Side, m: Memory, task: Task, base: int, w: int) -> None:
    """Carry the adjoint of a matrix back over its change, and to signals and θ.

    The products of the matrix in the network itself add their part to `m.w_bar` later.
    """
    _form_gates(side, m, base)
    scale = task.theta.dtype.type(1) + _form_cells(side, m, task.theta)
    _mix(side, m, base)
    _factor_adjoints(net, side, m, base)
    growth_bar = m.w_bar.dtype.type(0)
    if side.grows:
        growth_bar = _growth_adjoint(side, m, w)
        multiply(
            m.s, ZERO, ZERO, ZERO, m.s, ZERO, m.w_bar, side.w, m.w_bar, side.w, side.wide,
            side.height, ZERO, scale, ONE, net.lanes,
        )  # fmt: skip
    _coefficient_adjoints(side, m, task, growth_bar)
    _gate_adjoints(net, side, m, base)
    turn(m.w, w + side.w, side.tall, side.wide, m.turned, side.turned, net.lanes)
    for job in range(side.projections.shape[0]):
        u, kept = side.projections[job, 0], side.projections[job, 1]
        at, count = net.first + side.projections[job, 2], side.projections[job, 3]
        add_product(
            m.d, at, side.wide, m.turned, side.turned, m.d, u + kept * net.first, side.tall, count,
            side.width, net.lanes,
        )  # fmt: skip
        add_outer(
            m.s, u + kept * base, side.tall, m.d, at, m.w_bar, side.w, side.wide, side.height,
            count, net.lanes,
        )  # fmt: skip
