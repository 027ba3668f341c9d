"""The adjoint of errors that are carried down through a matrix."""

from __future__ import annotations

from metaplast.engines.fused.jit import ZERO, compiled, inlined
from metaplast.engines.fused.memory import Memory
from metaplast.engines.fused.program import SIGNED, SOFTPLUS, SYMMETRIC, TANH, Net, Program
from metaplast.engines.fused.sweeps import carry


@compiled
def gain_adjoint(
    net: Net, m: Memory, level: int, base: int, first: int, count: int, beta: float
) -> None:
    """e = c ⊙ σ': c̄ += ē ⊙ σ',  ȳ += ē ⊙ c ⊙ dσ'/dy, for some neurons of a level."""
    s, d = m.signals, m.adjoints
    one = s.dtype.type(1)
    y, k, c, e = (net.y[level], net.k[level], net.c[level], net.e[level])
    for i in range(first, first + count):  # Blocks may be shorter than a register.
        d[c + i] += d[e + i] * s[base + k + i]
    if level == 0:
        return
    if net.activation == SOFTPLUS:
        for i in range(first, first + count):
            slope = beta * (one - s[base + k + i])
            d[y + i] += d[e + i] * s[base + c + i] * slope
    elif net.activation == TANH:
        for i in range(first, first + count):
            slope = -(s[base + y + i] + s[base + y + i])
            d[y + i] += d[e + i] * s[base + c + i] * slope


@compiled
def _signed_carry(m: Memory, net: Net, layer: int) -> None:
    """ē_{ℓ} += (|M|ᵀ ⊙ sign W) c̄."""
    d, width, at = m.adjoints, net.pads[layer], net.w[layer]
    for i in range(net.widths[layer + 1]):
        total = d.dtype.type(0)
        for j in range(width):
            cell = at + i * width + j
            if m.w[cell] > 0:
                total += m.b[cell] * d[net.c[layer] + j]
            elif m.w[cell] < 0:
                total -= m.b[cell] * d[net.c[layer] + j]
        d[net.e[layer + 1] + i] += total


@inlined
def carried_adjoint(p: Program, m: Memory, layer: int, base: int, beta: float) -> None:
    """Carry the adjoint of a level's error to the error that it was computed from."""
    net, d = p.net, m.adjoints
    last = net.widths.shape[0] - 1
    gain_adjoint(net, m, layer, base, ZERO, net.widths[layer], beta)
    height, width = net.pads[layer + 1], net.pads[layer]
    c, to = net.c[layer], net.e[layer + 1]
    if net.source == SYMMETRIC:
        carry(m.w, net.w[layer], height, width, d, c, d, to)
    elif net.source == SIGNED:
        _signed_carry(m, net, layer)
    elif net.direct:
        carry(m.b, net.b[layer], net.pads[last], width, d, c, d, net.e[last])
    else:
        carry(m.b, net.b[layer], height, width, d, c, d, to)
