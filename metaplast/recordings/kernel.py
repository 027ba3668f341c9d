"""The compiled steps of the layer with the derivatives of its activity by all coefficients.

With S_k = ∂W/∂θ_k, carried forward beside the weights,

    ∂y/∂θ_k = f'(z) (S_k x),    S_k ← S_k + η (F_k + ∂g/∂W ⊙ S_k + ∂g/∂y ∂y/∂θ_k),

where g = Σ_k θ_k F_k. Rows of W are independent of each other. This module imports numba; it is
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
# Weights beyond this have diverged.
LARGEST = 1e8


def _compiled(function: Function) -> Function:
    njit: Any = numba.njit  # numba's stub omits options.
    options = {"fastmath": {"contract", "reassoc", "nsz"}, "error_model": "numpy", "nogil": True}
    try:
        return cast(Function, njit(cache=True, **options)(function))
    except RuntimeError:  # There is no folder in which compiled code could be kept.
        return cast(Function, njit(**options)(function))


@_compiled
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


@_compiled
def advance(
    code: int, eta: float, theta: Numbers, powers: Any, inputs: Numbers, reward: Numbers,
    plastic: Any, weights: Numbers, slopes: Numbers, y: Numbers, dy: Numbers,
) -> bool:  # fmt: skip
    """Go through some steps of one trajectory; return False if the weights diverge.

    Args:
        code: of the activation.
        eta: the rate.
        theta: coefficients, [term].
        powers: exponents of x, y, W, r, [term, 4].
        inputs: x, [time, pre].
        reward: r, [time].
        plastic: whether the weights change at a step, [time].
        weights: W, [post, pre]; changed in place.
        slopes: ∂W/∂parameter, [post, parameter, pre]; changed in place. The first parameters are
            θ of the terms; the others change no weight by themselves, such as the scale of W_0.
            May have no parameter.
        y: the activities, [time, post]; written.
        dy: their derivatives, [time, post, parameter]; written.
    """
    posts, parameters, pres = slopes.shape
    terms = theta.shape[0]
    active = np.nonzero(theta)[0]
    xs, ws = np.ones((4, pres)), np.ones((4, pres))
    change, by_weight, by_post = np.empty(pres), np.empty(pres), np.empty(pres)
    ys, rs = np.ones(4), np.ones(4)
    for t in range(inputs.shape[0]):
        for p in range(1, 4):
            rs[p] = rs[p - 1] * reward[t]
            for j in range(pres):
                xs[p, j] = xs[p - 1, j] * inputs[t, j]
        for i in range(posts):
            z = 0.0
            for j in range(pres):
                z += weights[i, j] * inputs[t, j]
            value, slope = activity(code, z)
            y[t, i] = value
            for k in range(parameters):
                carried = 0.0
                for j in range(pres):
                    carried += slopes[i, k, j] * inputs[t, j]
                dy[t, i, k] = slope * carried
            if not plastic[t]:
                continue
            for p in range(1, 4):
                ys[p] = ys[p - 1] * value
                for j in range(pres):
                    ws[p, j] = ws[p - 1, j] * weights[i, j]
            change[:] = 0.0
            by_weight[:] = 0.0
            by_post[:] = 0.0
            for k in active:
                a, b, c, d = powers[k, 0], powers[k, 1], powers[k, 2], powers[k, 3]
                common = eta * theta[k] * rs[d]
                own = common * ys[b]
                for j in range(pres):
                    change[j] += own * xs[a, j] * ws[c, j]
                if c > 0:
                    for j in range(pres):
                        by_weight[j] += own * c * xs[a, j] * ws[c - 1, j]
                if b > 0:
                    by = common * b * ys[b - 1]
                    for j in range(pres):
                        by_post[j] += by * xs[a, j] * ws[c, j]
            for k in range(parameters):
                through = dy[t, i, k]
                if k < terms:
                    a, b, c, d = powers[k, 0], powers[k, 1], powers[k, 2], powers[k, 3]
                    own = eta * ys[b] * rs[d]
                    for j in range(pres):
                        slopes[i, k, j] += (
                            by_weight[j] * slopes[i, k, j] + by_post[j] * through
                            + own * xs[a, j] * ws[c, j]
                        )  # fmt: skip
                else:
                    for j in range(pres):
                        slopes[i, k, j] += by_weight[j] * slopes[i, k, j] + by_post[j] * through
            largest = 0.0
            for j in range(pres):
                weights[i, j] += change[j]
                largest = max(largest, abs(weights[i, j]))
            # The comparison is False for NaN too.
            if not largest < LARGEST:
                return False
    return True
