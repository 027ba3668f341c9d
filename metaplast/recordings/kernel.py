"""Compiled steps of the layer, with derivatives of its activity with respect to all coefficients.

With S_k = ∂W/∂θ_k, carried forward together with the weights,

    ∂y/∂θ_k = f'(z) (S_k x),    S_k ← S_k + η (F_k + ∂g/∂W ⊙ S_k + ∂g/∂y ∂y/∂θ_k),

where g = Σ_k θ_k F_k. Rows of W are independent of each other. This module imports numba, so it is
imported only when a fit begins.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from metaplast.base.bands import Numbers

Function = TypeVar("Function", bound=Callable[..., Any])
# Weights larger than this have diverged.
LARGEST = 1e8


def compiled(function: Function) -> Function:
    """Return `function` compiled by numba on first use and cached on disk where possible."""
    njit: Any = numba.njit  # numba's stub omits options.
    options = {"fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy", "nogil": True}
    try:
        return cast(Function, njit(cache=True, **options)(function))
    except RuntimeError:  # No folder can hold the cache of compiled code.
        return cast(Function, njit(**options)(function))


def inlined(function: Function) -> Function:
    """Return `function`, compiled into its callers."""
    njit: Any = numba.njit
    return cast(Function, njit(inline="always")(function))


@compiled
def activity(code: int, z: float) -> tuple[float, float]:
    """Return f(z) and f'(z)."""
    if code == 0:
        return z, 1.0
    if code == 1:
        y = 0.5 * (1.0 + math.tanh(0.5 * z))
        return y, y * (1.0 - y)
    if code == 2:
        y = math.tanh(z)
        return y, 1.0 - y * y
    if code == 3:
        return (z, 1.0) if z > 0 else (0.0, 0.0)
    s = 0.5 * (1.0 + math.tanh(0.5 * z))
    return max(z, 0.0) + math.log1p(math.exp(-abs(z))), s


@compiled
def most(powers: Any, column: int) -> int:
    """Return the highest exponent in a column plus one, at least 2."""
    found = 1
    for k in range(powers.shape[0]):
        found = max(found, powers[k, column])
    return found + 1


@inlined
def raise_powers(values: Numbers, powers: Numbers) -> None:
    """Write the powers 0, 1, … of some values to `powers`, [power, value]."""
    for p in range(1, powers.shape[0]):
        for j in range(values.shape[0]):
            powers[p, j] = powers[p - 1, j] * values[j]


@inlined
def raise_power(value: float, powers: Numbers) -> None:
    """Write the powers 0 to 3 of a value to `powers`, [power]."""
    for p in range(1, 4):
        powers[p] = powers[p - 1] * value


@inlined
def _derive(
    eta: float, theta: Numbers, powers: Any, xs: Numbers, ws: Numbers, ys: Numbers, rs: Numbers,
    parts: Numbers,
) -> None:  # fmt: skip
    """Write the change of a row of W, ∂change/∂W and ∂change/∂y, [3, pre]."""
    parts[:] = 0.0
    for k in range(theta.shape[0]):
        if theta[k] == 0.0:
            continue
        a, b, c, d = powers[k, 0], powers[k, 1], powers[k, 2], powers[k, 3]
        common = eta * theta[k] * rs[d]
        own = common * ys[b]
        for j in range(xs.shape[1]):
            parts[0, j] += own * xs[a, j] * ws[c, j]
        if c > 0:
            for j in range(xs.shape[1]):
                parts[1, j] += own * c * xs[a, j] * ws[c - 1, j]
        if b > 0:
            by = common * b * ys[b - 1]
            for j in range(xs.shape[1]):
                parts[2, j] += by * xs[a, j] * ws[c, j]


@inlined
def _carry(
    eta: float, terms: int, powers: Any, xs: Numbers, ws: Numbers, ys: Numbers, rs: Numbers,
    parts: Numbers, through: Numbers, slopes: Numbers,
) -> None:  # fmt: skip
    """Carry the derivatives of a row of W, [parameter, pre], over one step."""
    for k in range(slopes.shape[0]):
        if k < terms:
            a, b, c, d = powers[k, 0], powers[k, 1], powers[k, 2], powers[k, 3]
            own = eta * ys[b] * rs[d]
            for j in range(slopes.shape[1]):
                slopes[k, j] += (
                    parts[1, j] * slopes[k, j]
                    + parts[2, j] * through[k]
                    + own * xs[a, j] * ws[c, j]
                )
        else:
            for j in range(slopes.shape[1]):
                slopes[k, j] += parts[1, j] * slopes[k, j] + parts[2, j] * through[k]


@inlined
def look(
    code: int, weights: Numbers, x: Numbers, slopes: Numbers, dy: Numbers
) -> tuple[float, float]:
    """Return y and f'(z) of a neuron; write the derivatives of y, [parameter]."""
    z = 0.0
    for j in range(x.shape[0]):
        z += weights[j] * x[j]
    value, slope = activity(code, z)
    for k in range(slopes.shape[0]):
        carried = 0.0
        for j in range(x.shape[0]):
            carried += slopes[k, j] * x[j]
        dy[k] = slope * carried
    return value, slope


@compiled
def advance(
    code: int, eta: float, theta: Numbers, powers: Any, inputs: Numbers, reward: Numbers,
    plastic: Any, weights: Numbers, slopes: Numbers, y: Numbers, dy: Numbers,
) -> bool:  # fmt: skip
    """Run some steps of one trajectory; return False if the weights diverge.

    Args:
        code: the kernel's code for the activation.
        eta: the rate.
        theta: coefficients, [term].
        powers: exponents of x, y, W, r, [term, 4].
        inputs: x, [time, pre].
        reward: r, [time].
        plastic: whether the weights change at a step, [time].
        weights: W, [post, pre]; changed in place.
        slopes: ∂W/∂parameter, [post, parameter, pre]; changed in place. The first parameters are
            θ of the terms. The others, such as the scale of W_0, do not enter the change of the
            weights directly. The axis may be empty.
        y: the activities, [time, post]; written.
        dy: their derivatives, [time, post, parameter]; written.
    """
    posts, pres, terms = slopes.shape[0], slopes.shape[2], theta.shape[0]
    xs, ws, parts = np.ones((4, pres)), np.ones((4, pres)), np.empty((3, pres))
    ys, rs = np.ones(4), np.ones(4)
    for t in range(inputs.shape[0]):
        raise_power(reward[t], rs)
        raise_powers(inputs[t], xs)
        for i in range(posts):
            y[t, i], _ = look(code, weights[i], inputs[t], slopes[i], dy[t, i])
            if not plastic[t]:
                continue
            raise_power(y[t, i], ys)
            raise_powers(weights[i], ws)
            _derive(eta, theta, powers, xs, ws, ys, rs, parts)
            _carry(
                eta, terms, powers, xs, ws, ys, rs, parts, dy[t, i], slopes[i]
            )  # fmt: skip
            largest = 0.0
            for j in range(pres):
                weights[i, j] += parts[0, j]
                largest = max(largest, abs(weights[i, j]))
            # The comparison is False for NaN too.
            if not largest < LARGEST:
                return False
    return True
