"""Strict predictive coding in the kernel: the sweeps of a step, and their adjoint.

The loops are those of `metaplast.scans.relaxation_kernel`, on padded layers. The sweeps are not
kept: the backward sweep repeats them with the weights before the step, which it has rebuilt anyway.

Compiling these functions takes a third of the time that the rest of the kernel takes. So there are
two kernels. In the one for learners whose activities do not relax, these functions do nothing.
"""

from __future__ import annotations

from metaplast.engines.fused.jit import inlined, where_given
from metaplast.engines.fused.memory import Memory
from metaplast.engines.fused.program import Numbers, Program
from metaplast.scans.relaxation_kernel import adjoint_of_one, relax_one

_EPSILON, _ERRORS, _EPSILON_BAR, _ERRORS_BAR, _NET_BAR, _BARS = range(6)
_MOVED_BAR, _ACTIVITY_BAR = range(2)


@inlined
def _relax_into(p: Program, m: Memory, label: int, base: int, errors: Numbers) -> None:
    """Relax a step's activities; write the errors of layers 1 … L."""
    net, s, r, room = p.net, m.signals, p.relaxation, m.relaxing
    assert r is not None
    hidden, total = room.d.shape[1], room.p.shape[1]
    room.target[:] = 0
    room.target[label] = 1
    z, f = base + net.z[1], base + net.f[1]
    relax_one(
        m.w[net.w[1] :], (r.sizes, r.sigma, r.is_softmax, r.eta), s[z : z + total],
        s[f : f + hidden], room.target, (r.constants, room.work, room.bits),
        (r.constants, room.top, room.top_bits), room.p, room.q, room.d, room.e, room.c, room.g,
        room.layers[_EPSILON], errors,
    )  # fmt: skip


def _relax(p: Program, m: Memory, label: int, base: int) -> None:
    """Set the relaxed activities y and the errors e of a step."""
    net, s, room = p.net, m.signals, m.relaxing
    e = base + net.e[1]
    _relax_into(p, m, label, base, s[e : e + room.p.shape[1]])
    last = room.d[room.d.shape[0] - 1]
    for i in range(last.shape[0]):
        s[base + net.y[1] + i] = s[base + net.f[1] + i] + last[i]


def _relax_adjoint(p: Program, m: Memory, label: int, base: int) -> None:
    """Carry the adjoints of y and e to those of f, z, and the products of the sweeps."""
    net, s, d, r, room = p.net, m.signals, m.adjoints, p.relaxation, m.relaxing
    assert r is not None
    hidden, total, f = room.d.shape[1], room.p.shape[1], base + net.f[1]
    _relax_into(p, m, label, base, room.layers[_ERRORS])
    moved, rows = room.hidden[_MOVED_BAR], room.layers
    for i in range(hidden):
        moved[i] = d[net.y[1] + i]
    rows[_EPSILON_BAR, :] = 0
    for i in range(total):
        rows[_ERRORS_BAR, i] = d[net.e[1] + i]
    adjoint_of_one(
        m.w[net.w[1] :], (r.sizes, r.sigma, r.is_softmax, r.eta), s[f : f + hidden], room.target,
        (r.constants, room.work, room.bits), room.d, room.e, room.c, room.g, rows[_BARS:],
        rows[_EPSILON_BAR], rows[_ERRORS_BAR], moved, room.p_bar, room.q_bar, rows[_NET_BAR],
        room.hidden[_ACTIVITY_BAR],
    )  # fmt: skip
    for i in range(hidden):
        d[net.f[1] + i] += d[net.y[1] + i] + room.hidden[_ACTIVITY_BAR, i]
    for i in range(total):
        d[net.z[1] + i] += rows[_NET_BAR, i]


def _relaxation_factors(
    p: Program, m: Memory, layer: int, term: int, height: int, width: int
) -> int:
    """Record Σ p̄ ⊗ d + Σ e ⊗ q̄ of all sweeps, which a step adds to the adjoint of a W."""
    net, room = p.net, m.relaxing
    post, pre = net.z[layer + 1] - net.z[1], net.z[layer] - net.z[1]
    for sweep in range(room.p.shape[0]):
        for i in range(height):
            m.left[term * height + i] = room.p_bar[sweep, post + i]
            m.left[(term + 1) * height + i] = room.e[sweep, post + i]
        for j in range(width):
            m.right[term * width + j] = room.d[sweep, pre + j]
            m.right[(term + 1) * width + j] = room.q_bar[sweep, pre + j]
        term += 2
    return term


def _nothing(p: Program, m: Memory, label: int, base: int) -> None:
    """Do nothing: used if activities do not relax."""


def _no_factors(p: Program, m: Memory, layer: int, term: int, height: int, width: int) -> int:
    """Record nothing: used if activities do not relax."""
    return term


relax = where_given("relaxation", _relax, _nothing)
relax_adjoint = where_given("relaxation", _relax_adjoint, _nothing)
relaxation_factors = where_given("relaxation", _relaxation_factors, _no_factors)
