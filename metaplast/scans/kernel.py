"""The compiled loops over time of a recurrence through one matrix, and their adjoints.

Each function loops over sequences, and over the time steps of each. A step is one product with the
sequence's matrix, which stays in cache. Sums are not reordered, and NaN and infinity propagate as
in plain loops. This module imports numba, and is imported only when a scan first runs.

Arrays are contiguous, with n neurons:

- signals [episode, time, sample, n]; drives and carried errors have one step less; frames
  [episode, frame, sample, n], each shown for `show` steps from the start; sources
  [episode, step, sample, n] of the last steps;
- `rows` [episode, n, n]: a product is Σ_j x_j · rows_j, so M x needs the rows of Mᵀ, and Mᵀ u those
  of M. An adjoint needs the rows of the transpose.

`sigma` is the kind of activation, and `tools` is the result of `make_tools` for its sharpness.
"""

from __future__ import annotations

from typing import Any

from metaplast.scans.activations import SOFTPLUS, TANH, activate, inlined, slope
from metaplast.scans.compiling import compiled

Array = Any


@inlined
def add_rows(rows: Array, x: Array, out: Array) -> None:
    """out += Σ_j x_j · rows_j, four rows at a time."""
    height, width = x.shape[0], out.shape[0]
    whole = height - height % 4
    for j in range(0, whole, 4):
        a, b, c, d = x[j], x[j + 1], x[j + 2], x[j + 3]
        ra, rb, rc, rd = rows[j], rows[j + 1], rows[j + 2], rows[j + 3]
        for i in range(width):
            out[i] += (a * ra[i] + b * rb[i]) + (c * rc[i] + d * rd[i])
    for j in range(whole, height):
        a, ra = x[j], rows[j]
        for i in range(width):
            out[i] += a * ra[i]


@inlined
def multiply(rows: Array, x: Array, out: Array, zero: Any) -> None:
    """out ← Σ_j x_j · rows_j."""
    for i in range(out.shape[0]):
        out[i] = zero
    add_rows(rows, x, out)


@inlined
def to_activity(
    sigma: int, y: Array, g: Array, a: Array, total: Array, out: Array, k: Array
) -> None:
    """out ← a ⊙ total ⊙ ∂σ'/∂y, where g is σ'."""
    n = y.shape[0]
    if sigma == TANH:
        for i in range(n):
            out[i] = -k[2] * y[i] * a[i] * total[i]
    elif sigma == SOFTPLUS:
        for i in range(n):
            out[i] = k[4] * (k[1] - g[i]) * a[i] * total[i]
    else:
        for i in range(n):
            out[i] = k[0]


@compiled
def advance(
    rows: Array, frames: Array, show: int, sigma: int, tools: Any,
    is_known: bool, drives: Array, z: Array, y: Array,
) -> None:  # fmt: skip
    """z_t ← u_t + the frame of step t, u_t ← M σ(z_{t−1}), y ← σ(z).

    If the drives u are known, no matrix is read.
    """
    k, work, bits = tools
    episodes, time, samples, n = z.shape
    shown = frames.shape[1] * show
    for e in range(episodes):
        for s in range(samples):
            for t in range(time):
                zt, frame = z[e, t, s], frames[e, t // show if t < shown else 0, s]
                if t == 0:
                    for i in range(n):
                        zt[i] = frame[i]
                else:
                    drive = drives[e, t - 1, s]
                    if not is_known:
                        multiply(rows[e], y[e, t - 1, s], drive, k[0])
                    if t < shown:
                        for i in range(n):
                            zt[i] = drive[i] + frame[i]
                    else:
                        for i in range(n):
                            zt[i] = drive[i]
                activate(sigma, zt, y[e, t, s], k, work, bits)


@compiled
def advance_adjoint(
    rows: Array, show: int, sigma: int, tools: Any, y: Array,
    y_bar: Array, z_bar: Array, u_bar: Array, drives_bar: Array, frames_bar: Array,
) -> None:  # fmt: skip
    """The adjoint of `advance`: drives_bar and frames_bar, which starts at zero.

    a_t = z̄_t + σ'(z_t) ⊙ (ȳ_t + Mᵀ ū_{t+1}) is the whole adjoint of z_t. The drive's is a_t plus
    `u_bar`, the part that comes from outside.
    """
    k, work, bits = tools
    episodes, time, samples, n = y.shape
    shown = frames_bar.shape[1] * show
    for e in range(episodes):
        for s in range(samples):
            for t in range(time - 1, -1, -1):
                a, g = work[2], work[3]
                if t < time - 1:
                    multiply(rows[e], drives_bar[e, t, s], a, k[0])
                else:
                    for i in range(n):
                        a[i] = k[0]
                slope(sigma, y[e, t, s], g, k, work, bits)
                for i in range(n):
                    a[i] = z_bar[e, t, s, i] + (a[i] + y_bar[e, t, s, i]) * g[i]
                if t < shown:
                    frame = frames_bar[e, t // show, s]
                    for i in range(n):
                        frame[i] += a[i]
                if t > 0:
                    out = drives_bar[e, t - 1, s]
                    for i in range(n):
                        out[i] = a[i] + u_bar[e, t - 1, s, i]


@compiled
def carry_back(
    rows: Array, sources: Array, sigma: int, tools: Any, y: Array,
    is_known: bool, carried: Array, errors: Array,
) -> None:  # fmt: skip
    """e_t ← (s_t + q_t) ⊙ σ'(z_t), q_t ← B e_{t+1}; s_t is zero at all but the last steps.

    If the products q are known, no matrix is read.
    """
    k, work, bits = tools
    episodes, time, samples, n = y.shape
    first = time - sources.shape[1]
    for e in range(episodes):
        for s in range(samples):
            for t in range(time - 1, -1, -1):
                error = errors[e, t, s]
                slope(sigma, y[e, t, s], work[3], k, work, bits)
                total = work[2]
                for i in range(n):
                    total[i] = k[0]
                if t >= first:
                    source = sources[e, t - first, s]
                    for i in range(n):
                        total[i] = source[i]
                if t < time - 1:
                    below = carried[e, t, s]
                    if not is_known:
                        multiply(rows[e], errors[e, t + 1, s], below, k[0])
                    for i in range(n):
                        total[i] += below[i]
                for i in range(n):
                    error[i] = total[i] * work[3, i]


@compiled
def carry_back_adjoint(
    rows: Array, sources: Array, sigma: int, tools: Any, y: Array, carried: Array,
    errors_bar: Array, carried_bar: Array, sources_bar: Array, y_bar: Array,
) -> None:  # fmt: skip
    """The adjoint of `carry_back`: carried_bar, sources_bar and y_bar.

    a_t = ē_t + Bᵀ q̄_{t−1} is the whole adjoint of e_t, q̄_t = a_t ⊙ σ'(z_t), and y_t receives
    a_t ⊙ (s_t + q_t) times the derivative of σ' with respect to the activity.
    """
    k, work, bits = tools
    episodes, time, samples, n = y.shape
    first = time - sources.shape[1]
    for e in range(episodes):
        for s in range(samples):
            for t in range(time):
                a, g, total = work[2], work[3], work[4]
                if t > 0:
                    multiply(rows[e], carried_bar[e, t - 1, s], a, k[0])
                    for i in range(n):
                        a[i] += errors_bar[e, t, s, i]
                else:
                    for i in range(n):
                        a[i] = errors_bar[e, t, s, i]
                slope(sigma, y[e, t, s], g, k, work, bits)
                for i in range(n):
                    total[i] = k[0]
                if t < time - 1:
                    for i in range(n):
                        total[i] = carried[e, t, s, i]
                        carried_bar[e, t, s, i] = a[i] * g[i]
                if t >= first:
                    for i in range(n):
                        total[i] += sources[e, t - first, s, i]
                        sources_bar[e, t - first, s, i] = a[i] * g[i]
                to_activity(sigma, y[e, t, s], g, a, total, y_bar[e, t, s], k)
