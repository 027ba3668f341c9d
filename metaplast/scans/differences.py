"""Changes of activations in loops, without the rounding error of a subtraction, and the softmax.

The arguments are those of `metaplast.scans.activations`; the work memory has room for as many
neurons as the vectors have. Nothing is inlined into its callers, because compilation would then
take four times as long. This module imports numba.
"""

from __future__ import annotations

from typing import Any

from metaplast.scans.activations import (
    RELU,
    SOFTPLUS,
    TANH,
    Array,
    activate,
    log_one_plus,
    powers,
    slope,
)
from metaplast.scans.compiling import compiled


@compiled
def activity(sigma: int, z: Array, y: Array, k: Array, work: Array, bits: Array) -> None:
    """y ← σ(z)."""
    activate(sigma, z, y, k, work, bits)


@compiled
def slope_at(sigma: int, y: Array, out: Array, k: Array, work: Array, bits: Array) -> None:
    """out ← σ'(z) from y = σ(z)."""
    slope(sigma, y, out, k, work, bits)


@compiled
def _powers(k: Array, work: Array, bits: Array) -> None:
    """Set the first two rows of `work` as `activations.powers` does."""
    powers(k, work, bits)


@compiled
def _near_softplus(p: Array, g: Array, c: Array, k: Array, work: Array, bits: Array) -> bool:
    """c ← log(1 + g (e^{βp} − 1))/β where |βp| ≤ 1; return whether that is everywhere."""
    zero, one, beta, per_beta = k[0], k[1], k[4], k[5]
    x, power = work[0], work[1]
    everywhere = True
    for i in range(p.shape[0]):
        v = beta * p[i]
        large = abs(v) > one
        everywhere = everywhere and not large
        x[i] = zero if large else v
    _powers(k, work, bits)
    for i in range(p.shape[0]):
        u = g[i] * (x[i] * power[i] + (power[i] - one))
        c[i] = log_one_plus(u, k) * per_beta
    return everywhere


@compiled
def _relu(z: Array, p: Array, c: Array, zero: Any) -> None:
    """c ← max(z + p, 0) − max(z, 0)."""
    for i in range(z.shape[0]):
        least = -z[i] if z[i] > zero else zero
        v = p[i] if z[i] > zero else z[i] + p[i]
        c[i] = least if v <= least else v


@compiled
def difference(
    sigma: int, z: Array, p: Array, y: Array, g: Array, c: Array, k: Array, work: Array, bits: Array
) -> None:
    """c ← σ(z + p) − σ(z), where y = σ(z) and g = σ'(z); see `Activation.difference`."""
    n = z.shape[0]
    one, beta = k[1], k[4]
    moved, there = work[2], work[3]
    if sigma == TANH:
        for i in range(n):
            moved[i] = z[i] + p[i]
        activity(sigma, moved, there, k, work, bits)
        activity(sigma, p, moved, k, work, bits)
        for i in range(n):
            c[i] = moved[i] * (one - y[i] * there[i])
    elif sigma == SOFTPLUS:
        if not _near_softplus(p, g, c, k, work, bits):
            for i in range(n):
                moved[i] = z[i] + p[i]
            activity(sigma, moved, there, k, work, bits)
            for i in range(n):
                if abs(beta * p[i]) > one:
                    c[i] = there[i] - y[i]
    elif sigma == RELU:
        _relu(z, p, c, k[0])
    else:
        for i in range(n):
            c[i] = p[i]


@compiled
def slope_change(
    sigma: int, y: Array, c: Array, before: Array, after: Array, out: Array, k: Array, work: Array,
    bits: Array,
) -> None:  # fmt: skip
    """out ← σ'(z + p) − σ'(z), from y = σ(z), c = σ(z + p) − y, and both slopes."""
    n = y.shape[0]
    zero, one, two, beta = k[0], k[1], k[2], k[4]
    if sigma == TANH:
        for i in range(n):
            out[i] = -c[i] * (two * y[i] + c[i])
    elif sigma == SOFTPLUS:
        x, power = work[0], work[1]
        for i in range(n):
            v = -beta * c[i]
            x[i] = zero if abs(v) > one else v
        _powers(k, work, bits)
        for i in range(n):
            if abs(beta * c[i]) > one:
                out[i] = after[i] - before[i]
            else:
                out[i] = (before[i] - one) * (x[i] * power[i] + (power[i] - one))
    else:
        for i in range(n):
            out[i] = after[i] - before[i]


@compiled
def softmax(z: Array, y: Array, k: Array, work: Array, bits: Array) -> None:
    """y ← softmax(z)."""
    n = z.shape[0]
    largest = z[0]
    for i in range(n):
        largest = z[i] if z[i] > largest else largest
    x, power = work[0], work[1]
    for i in range(n):
        x[i] = z[i] - largest
    _powers(k, work, bits)
    total = k[0]
    for i in range(n):
        y[i] = power[i] + power[i] * x[i]
        total += y[i]
    for i in range(n):
        y[i] = y[i] / total
