"""Input pixels that are zero in every image of an episode, and their weights.

Such a pixel j has y_0 = 0 and e_0 = 0 (if σ'(0) = 0 or e_0 is not in use). Its traces are 0, too; a
pixel with a trace that begins with another value is kept. So nothing that the loss depends on reads
column j of W_1, and the column can be left out of every product. A rule may still change it:

    W_·j ← (1 − δ) W_·j + Σ_a a V_aj,   V_aj = G_a1 + Σ_u G_a,Wᵀu (Wᵀu)_j,

so the column is updated in the forward sweep only. If a gate sums 1 or Wᵀu over the pixels, it
depends on the column, and no pixel is dropped.
"""

from __future__ import annotations

from metaplast.engines.fused.jit import compiled
from metaplast.engines.fused.lanes import add_multiple, clear, project
from metaplast.engines.fused.memory import Memory
from metaplast.engines.fused.places import NONE
from metaplast.engines.fused.program import PLASTIC, Program
from metaplast.engines.fused.served import lowest_error, stack_of
from metaplast.engines.fused.sweeps import update_rows
from metaplast.systems.learner import Learner
from metaplast.terms.algebra import Mapped, Projection, Signal, Vector
from metaplast.terms.compiled import CompiledTerms

_project = project(8)


def may_drop(learner: Learner) -> bool:
    """Return whether leaving out pixels that are zero in every image gives the exact result.

    This is so if the error at such a pixel is zero or not in use, and no gate and no product with B
    sums anything else over the pixels.
    """
    if lowest_error(learner) == 0 and stack_of(learner).nonlinearity.kind == "tanh":
        return False
    forward, backward = learner.forward_plasticity, learner.backward_plasticity
    for gate in (*forward.gates, *backward.gates):
        vanishes = any(
            isinstance(side, Mapped) or (isinstance(side, Signal) and side.kind != "one")
            for side in (gate.left, gate.right)
        )
        if gate.left.population == "pre" and not vanishes:
            return False
    ones = [Signal("pre", "one")]
    return not any(
        (v in ones) or (isinstance(v, Projection) and v.signal in ones)
        for v in (*backward.rows, *backward.columns, *_sides(backward))
    )


def _sides(plasticity: CompiledTerms) -> tuple[Vector, ...]:
    return tuple(side for gate in plasticity.gates for side in (gate.left, gate.right))


@compiled
def _lost_columns(p: Program, m: Memory, turn: int, width: int) -> None:
    """Set V on the dropped columns."""
    rank, count = p.forward.rows.shape[1], p.forward.columns.shape[1]
    slot, base = turn * (p.net.w.shape[0] - 1), turn * p.net.signals
    clear(m.lost_v, 0, m.lost_v.shape[0])
    for b in range(count):
        u = p.lost[b]
        if u == NONE:
            continue
        if u >= 0:
            clear(m.lost_p, 0, width)
            for i in range(0, p.net.pads[1], 8):
                _project(m.lost, i * width, m.signals, base + u + i, m.lost_p, 0, width)
        else:
            for j in range(width):
                m.lost_p[j] = 1
        for r in range(rank):
            strength = m.forward.g[slot, r * count + b]
            add_multiple(m.lost_v, r * width, m.lost_p, 0, strength, width)


@compiled
def follow_dropped(p: Program, m: Memory, turn: int) -> None:
    """Apply a step's change, which must already be formed, to the weights of dropped pixels."""
    layers, one = p.net.w.shape[0] - 1, m.w.dtype.type(1)
    if p.net.source == PLASTIC:
        m.lost_scale[0] *= one + m.backward.growth[turn * layers]
    width = m.lost_p.shape[0]
    if width == 0:
        return
    _lost_columns(p, m, turn, width)
    slot, height = turn * layers, p.net.pads[1]
    place, scale = slot * m.forward.span, one + m.forward.growth[slot]
    update_rows(
        m.lost, 0, m.forward.a, place, m.lost_v, 0, m.zeros, 0, m.left, 0, height, width, scale,
        p.forward.rows.shape[1], 0, height,
    )  # fmt: skip
