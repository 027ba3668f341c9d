"""The plasticity tensor of one matrix in one step, and its adjoint: only vectors, no matrices."""

from __future__ import annotations

from typing import Any

from metaplast.engines.fused.jit import NO, compiled
from metaplast.engines.fused.lanes import add_multiple, clear, copy, inner
from metaplast.engines.fused.memory import Pending
from metaplast.engines.fused.program import Numbers, Side


@compiled
def _gates(side: Side, layer: int, s: Numbers, base: int, values: Numbers) -> None:
    """Set values_k = ⟨left_k, right_k⟩."""
    for gate in range(side.gates.shape[1]):
        left = base + side.gates[layer, gate, 0]
        right = base + side.gates[layer, gate, 1]
        inner(s, left, s, right, values, gate, side.gates[layer, gate, 2])


@compiled
def _product(side: Side, monomial: int, values: Numbers, skip: int) -> Any:
    """Return coefficient · Π gates of a monomial, without its gate number `skip`."""
    product = side.coefficients[monomial]
    for place in range(2, side.entries.shape[1]):
        gate = side.entries[monomial, place]
        if gate >= 0 and place != skip:
            product *= values[gate]
    return product


@compiled
def form_change(
    side: Side, layer: int, s: Numbers, base: int, theta: Numbers, to: Pending, turn: int,
    height: int, width: int,
) -> None:  # fmt: skip
    """Set a, V_a = Σ_b G_ab r_b, G and the growth −δ of a layer's matrix [height, width]."""
    rank, count = side.rows.shape[1], side.columns.shape[1]
    slot = turn * side.rows.shape[0] + layer
    place = slot * to.span
    values, a, v, g = to.scratch[0], to.a, to.v, to.g
    _gates(side, layer, s, base, values)
    for cell in range(rank * count):
        g[slot, cell] = 0
    growth = s.dtype.type(0)
    for monomial in range(side.entries.shape[0]):
        strength = theta[layer, side.entries[monomial, 0]] * _product(side, monomial, values, NO)
        if monomial < side.filled:
            g[slot, side.entries[monomial, 1]] += strength
        else:
            growth += strength
    to.growth[slot] = growth
    for r in range(rank):
        row = base + side.rows[layer, r]
        copy(s, row, a, place + r * height, height)
        clear(v, place + r * width, width)
        for b in range(count):
            column = base + side.columns[layer, b]
            add_multiple(v, place + r * width, s, column, g[slot, r * count + b], width)


@compiled
def change_adjoint(
    side: Side, layer: int, s: Numbers, base: int, theta: Numbers, theta_bar: Numbers,
    at: Pending, turn: int, height: int, width: int, d: Numbers,
) -> None:  # fmt: skip
    """Carry ā, V̄ and ḡ to the signals and to θ.

    r̄_b += Σ_a G_ab V̄_a,   Ḡ_ab = ⟨V̄_a, r_b⟩,   θ̄_k += c_k Π gates · Ḡ, and likewise for each
    gate.
    """
    rank, count = side.rows.shape[1], side.columns.shape[1]
    slot = turn * side.rows.shape[0] + layer
    place = layer * at.span
    one = s.dtype.type(1)
    values, bars, g_bar = at.scratch[0], at.scratch[1], at.scratch[2]
    _gates(side, layer, s, base, values)
    for gate in range(side.gates.shape[1]):
        bars[gate] = 0
    for r in range(rank):
        row = side.rows[layer, r]
        add_multiple(d, row, at.a_bar, place + r * height, one, height)
        for b in range(count):
            column = side.columns[layer, b]
            bar = place + r * width
            inner(at.v_bar, bar, s, base + column, g_bar, r * count + b, width)
            add_multiple(d, column, at.v_bar, bar, at.g[slot, r * count + b], width)
    for monomial in range(side.entries.shape[0]):
        term = side.entries[monomial, 0]
        bar = at.growth_bar[layer]
        if monomial < side.filled:
            bar = g_bar[side.entries[monomial, 1]]
        theta_bar[layer, term] += bar * _product(side, monomial, values, NO)
        for part in range(2, side.entries.shape[1]):
            gate = side.entries[monomial, part]
            if gate >= 0:
                others = _product(side, monomial, values, part)
                bars[gate] += theta[layer, term] * others * bar
    _gate_adjoints(side, layer, s, base, bars, d)


@compiled
def _gate_adjoints(
    side: Side, layer: int, s: Numbers, base: int, bars: Numbers, d: Numbers
) -> None:
    """Carry the adjoints of the gates to both of their vectors."""
    for gate in range(side.gates.shape[1]):
        left, right = side.gates[layer, gate, 0], side.gates[layer, gate, 1]
        length = side.gates[layer, gate, 2]
        add_multiple(d, left, s, base + right, bars[gate], length)
        add_multiple(d, right, s, base + left, bars[gate], length)
