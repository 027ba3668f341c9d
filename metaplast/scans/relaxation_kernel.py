"""The compiled sweeps of strict predictive coding, and their adjoint; see `scans.relaxation`.

One example of one episode is relaxed at a time; its matrices stay in cache. Each vector holds all
hidden layers, one after another, so that the loops over neurons are long.

Arrays are contiguous. With n sweeps, N neurons in layers 1 … L, of which H are hidden:

- `weights` [episode, number]: W_2 … W_L, row by row;
- z, errors, results [episode, sample, N]; y [episode, sample, H]; target [episode, sample, output];
- of every sweep: p [episode, sample, sweep, N] and q, d [episode, sample, sweep, H], where d is
  v − v̂ after the sweep, p are the products W_ℓ d_{ℓ-1} of that d, and q the products Wᵀ e; e
  [episode, sample, sweep, N], the errors that q is made of;
- c, g [episode, sample, sweep + 1, H]: σ(z + p) − σ(z) and the slope there, at the start of each
  sweep and at the end.

Functions of one example take the same arrays without the first two axes; their layers may be padded
with zeros, if the target is not. `sizes` are the widths of layers 1 … L; `net` is `sizes`, the kind
of activation, whether the output is a softmax, and η. This module imports numba.
"""

from __future__ import annotations

from typing import Any

from metaplast.scans.activations import SOFTPLUS, TANH
from metaplast.scans.compiling import compiled
from metaplast.scans.differences import difference, slope_at, slope_change, softmax
from metaplast.scans.layer_products import add_products, add_transposed

Array = Any


@compiled
def _predict(w: Array, sizes: Array, d: Array, out: Array) -> None:
    """out_ℓ ← W_ℓ d_{ℓ-1} for as many layers as `out` has; 0 for the first."""
    out[:] = 0
    at, below = 0, 0
    for layer in range(1, sizes.shape[0]):
        width, height = sizes[layer - 1], sizes[layer]
        above = below + width
        if above + height <= out.shape[0]:
            add_products(w, at, d[below:above], out[above : above + height])
        at, below = at + width * height, above


@compiled
def _carry_down(w: Array, sizes: Array, e: Array, out: Array) -> None:
    """out_ℓ += W_{ℓ+1}ᵀ e_{ℓ+1} for all layers below the last that `e` reaches."""
    at, below = 0, 0
    for layer in range(1, sizes.shape[0]):
        width, height = sizes[layer - 1], sizes[layer]
        above = below + width
        if above + height <= e.shape[0]:
            add_transposed(w, at, e[above : above + height], out[below:above])
        at, below = at + width * height, above


@compiled
def _settle(
    sigma: int, z: Array, p: Array, y: Array, first: Array, c: Array, g: Array, k: Array,
    work: Array, bits: Array,
) -> None:  # fmt: skip
    """c ← σ(z + p) − σ(z) and g ← σ' there; `first` is σ'(z)."""
    difference(sigma, z, p, y, first, c, k, work, bits)
    predicted = work[4]
    for i in range(y.shape[0]):
        predicted[i] = y[i] + c[i]
    slope_at(sigma, predicted, g, k, work, bits)


@compiled
def _output_error(is_softmax: bool, z: Array, target: Array, out: Array, tools: Any) -> None:
    """out ← e_L at the output z."""
    k, work, bits = tools
    if is_softmax:
        softmax(z, out, k, work, bits)
    else:
        for i in range(z.shape[0]):
            out[i] = z[i]
    for i in range(z.shape[0]):
        out[i] -= target[i]


@compiled
def _sweep(
    w: Array, net: Any, z: Array, y: Array, target: Array, top_tools: Any,
    sweep: int, p: Array, q: Array, d: Array, e: Array, c: Array, g: Array, epsilon: Array,
) -> None:  # fmt: skip
    """Set ε and e of a sweep, q if `w` is not empty, and d after it."""
    sizes, _, is_softmax, eta = net
    output, hidden, zero = top_tools[1][2], y.shape[0], z[0] - z[0]
    es, qs = e[sweep], q[sweep]
    end = hidden + target.shape[0]
    for j in range(target.shape[0]):
        output[j] = z[hidden + j]
    if sweep > 0:
        for j in range(target.shape[0]):
            output[j] += p[sweep - 1, hidden + j]
    _output_error(is_softmax, output, target, es[hidden:end], top_tools)
    es[end:] = 0
    for j in range(hidden):
        epsilon[j] = c[sweep, j] - (d[sweep - 1, j] if sweep > 0 else zero)
        es[j] = epsilon[j] * g[sweep, j]
    if w.shape[0] > 0:
        qs[:] = 0
        _carry_down(w, sizes, es, qs)
    for j in range(hidden):
        before = d[sweep - 1, j] if sweep > 0 else zero
        d[sweep, j] = before + eta * (epsilon[j] - qs[j])


@compiled
def relax_one(
    w: Array, net: Any, z: Array, y: Array, target: Array, tools: Any, top_tools: Any,
    p: Array, q: Array, d: Array, e: Array, c: Array, g: Array, epsilon: Array, errors: Array,
) -> None:  # fmt: skip
    """Relax one example."""
    sizes, sigma, _, _ = net
    k, work, bits = tools
    hidden, sweeps = y.shape[0], d.shape[0]
    first = g[0]
    slope_at(sigma, y, first, k, work, bits)
    c[0, :] = 0
    for sweep in range(sweeps):
        _sweep(w, net, z, y, target, top_tools, sweep, p, q, d, e, c, g, epsilon)
        ps = p[sweep]
        if w.shape[0] > 0:
            # The relaxed activities need no further output.
            ps[hidden:] = 0
            _predict(w, sizes, d[sweep], ps if sweep < sweeps - 1 else ps[:hidden])
        _settle(sigma, z[:hidden], ps[:hidden], y, first, c[sweep + 1], g[sweep + 1], k, work, bits)
    for j in range(hidden):
        errors[j] = epsilon[j] * g[sweeps, j]
    for j in range(hidden, z.shape[0]):
        epsilon[j] = errors[j] = e[sweeps - 1, j]


@compiled
def relax(
    weights: Array, net: Any, z: Array, y: Array, target: Array, tools: Any, top_tools: Any,
    is_known: bool, p: Array, q: Array, d: Array, e: Array, c: Array, g: Array, epsilon: Array,
    errors: Array,
) -> None:  # fmt: skip
    """Relax every example; if the products p and q are known, no matrix is read."""
    for i in range(z.shape[0]):
        w = weights[i, :0] if is_known else weights[i]
        for s in range(z.shape[1]):
            relax_one(
                w, net, z[i, s], y[i, s], target[i, s], tools, top_tools, p[i, s], q[i, s],
                d[i, s], e[i, s], c[i, s], g[i, s], epsilon[i, s], errors[i, s],
            )  # fmt: skip


@compiled
def _to_slope(sigma: int, y: Array, c: Array, g: Array, bar: Array, k: Array) -> None:
    """Replace the adjoint of σ' at y + c by that of y + c."""
    if sigma == TANH:
        for i in range(y.shape[0]):
            bar[i] = -k[2] * (y[i] + c[i]) * bar[i]
    elif sigma == SOFTPLUS:
        for i in range(y.shape[0]):
            bar[i] = k[4] * (k[1] - g[i]) * bar[i]
    else:
        for i in range(y.shape[0]):
            bar[i] = k[0]


@compiled
def _output_adjoint(is_softmax: bool, e: Array, target: Array, bar: Array, out: Array) -> None:
    """out ← the adjoint of the output, from that of its error: y ⊙ (ē − ⟨ē, y⟩) of a softmax."""
    total = bar[0] - bar[0]
    if is_softmax:
        for i in range(bar.shape[0]):
            total += bar[i] * (e[i] + target[i])
    for i in range(bar.shape[0]):
        out[i] = (bar[i] - total) * (e[i] + target[i]) if is_softmax else bar[i]


@compiled
def _errors_adjoint(
    net: Any, y: Array, k: Array, stage: int, sweep: int, d: Array, c: Array, g: Array,
    eb: Array, xb: Array, cb: Array, yb: Array,
) -> None:  # fmt: skip
    """The adjoint of e = ε ⊙ σ'(z), ε of a sweep and σ' of a stage: set cb, add to xb and yb."""
    hidden = y.shape[0]
    for j in range(hidden):
        before = d[sweep - 1, j] if sweep > 0 else k[0]
        cb[j] = eb[j] * (c[sweep, j] - before)
        xb[j] += eb[j] * g[stage, j]
    _to_slope(net[1], y, c[stage], g[stage], cb, k)
    for j in range(hidden):
        yb[j] += cb[j]
    for j in range(hidden, xb.shape[0]):
        xb[j] += eb[j]


@compiled
def _predictions_adjoint(
    w: Array, net: Any, y: Array, tools: Any, c: Array, g: Array, first: Array, cb: Array,
    change: Array, pb: Array, zb: Array, db: Array,
) -> None:  # fmt: skip
    """The adjoint of c = σ(z + W d) − σ(z): set pb of the hidden layers, add to zb and db."""
    sizes, sigma, _, _ = net
    k, work, bits = tools
    slope_change(sigma, y, c, first, g, change, k, work, bits)
    for j in range(y.shape[0]):
        pb[j] = cb[j] * g[j]
        zb[j] += cb[j] * change[j]
    for j in range(sizes[0]):
        pb[j] = k[0]
    _carry_down(w, sizes, pb, db)


@compiled
def adjoint_of_one(
    w: Array, net: Any, y: Array, target: Array, tools: Any, d: Array, e: Array, c: Array,
    g: Array, bars: Array, xb: Array, errors_bar: Array, db: Array,
    p_bar: Array, q_bar: Array, zb: Array, yb: Array,
) -> None:  # fmt: skip
    """The adjoint of one example; xb and db are those of ε and d."""
    sizes, _, is_softmax, eta = net
    k, hidden, sweeps = tools[0], y.shape[0], d.shape[0]
    eb, cb, change = bars[0], bars[1, :hidden], bars[2, :hidden]
    zb[:] = 0
    yb[:] = 0
    for j in range(eb.shape[0]):
        eb[j] = errors_bar[j]
    # The last stage only forms errors from the last ε.
    _errors_adjoint(net, y, k, sweeps, sweeps - 1, d, c, g, eb, xb, cb, yb)
    for stage in range(sweeps, 0, -1):
        pb, qb, sweep = p_bar[stage - 1], q_bar[stage - 1], stage - 1
        if stage == sweeps:
            pb[hidden:] = 0
        _predictions_adjoint(w, net, y, tools, c[stage], g[stage], g[0], cb, change, pb, zb, db)
        if stage < sweeps:
            xb[:] = 0
        for j in range(hidden):
            xb[j] += eta * db[j]
            qb[j] = -eta * db[j]
        _predict(w, sizes, qb, eb)
        _errors_adjoint(net, y, k, sweep, sweep, d, c, g, eb, xb, cb, yb)
        for j in range(hidden):
            cb[j] += xb[j]
            db[j] -= xb[j]
        out = p_bar[sweep - 1] if sweep > 0 else eb
        end = hidden + target.shape[0]
        _output_adjoint(is_softmax, e[sweep, hidden:end], target, xb[hidden:end], out[hidden:end])
        out[end:] = 0
        for j in range(hidden, end):
            zb[j] += out[j]


@compiled
def relax_adjoint(
    weights: Array, net: Any, y: Array, target: Array, tools: Any, d: Array, e: Array, c: Array,
    g: Array, bars: Array, epsilon_bar: Array, errors_bar: Array, d_bar: Array,
    p_bar: Array, q_bar: Array, z_bar: Array, y_bar: Array,
) -> None:  # fmt: skip
    """The adjoint of `relax`: p_bar, q_bar, z_bar and y_bar; it changes the given adjoints.

    In every sweep, ē_{ℓ+1} = W_{ℓ+1} q̄_ℓ with q̄ = −η d̄, and d̄_{ℓ-1} += W_ℓᵀ p̄_ℓ.
    """
    for i in range(y.shape[0]):
        for s in range(y.shape[1]):
            adjoint_of_one(
                weights[i], net, y[i, s], target[i, s], tools, d[i, s], e[i, s], c[i, s], g[i, s],
                bars, epsilon_bar[i, s], errors_bar[i, s], d_bar[i, s], p_bar[i, s], q_bar[i, s],
                z_bar[i, s], y_bar[i, s],
            )  # fmt: skip
