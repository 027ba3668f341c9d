"""Activations and their derivatives in loops that the compiler turns into vector instructions.

e^x and the logarithm are written out as polynomials: a library call for each number would take
longer than the product with a matrix. This module imports numba.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Function = TypeVar("Function", bound=Callable[..., Any])
Array = Any
TANH, SOFTPLUS, RELU, LINEAR = 0, 1, 2, 3
# The activations, by `Activation.kind`.
KINDS = {"tanh": TANH, "softplus": SOFTPLUS, "relu": RELU, "linear": LINEAR}
_LN2 = Decimal("0.693147180559945309417232121458")
_EXPONENTIAL, _ARTANH = 12, 18


def make_tools(beta: float, neurons: int, dtype: npt.DTypeLike) -> tuple[Array, Array, Array]:
    """Return the constants of the loops, work memory, and an integer view of its row 1."""
    work = np.empty((5, neurons), dtype)
    bits = work[1].view(np.int32 if work.itemsize == 4 else np.int64)
    return _constants(beta, np.dtype(dtype)), work, bits


@cache
def _constants(beta: float, dtype: np.dtype[Any]) -> Array:
    """Return the numbers that the loops use, in the arrays' type.

    A literal in the code would turn single into double precision. The first are: 0, 1, 2, 40, β,
    1/β, the least exponent, 1/ln 2, the number whose addition rounds to whole numbers, and ln 2 in
    two parts, the first of which has so few digits that its multiples are exact. Then come the
    coefficients of (e^r − 1 − r)/r² and of artanh(s)/s.
    """
    digits, mantissa = (16, 23) if dtype == np.float32 else (40, 52)
    high = math.floor(float(_LN2) * 2**digits) / 2**digits
    low = float(_LN2 - Decimal(high))
    first = [0, 1, 2, 40, beta, 1 / beta, -86, 1 / math.log(2), 1.5 * 2.0**mantissa, high, low]
    exponential = [1 / math.factorial(i + 2) for i in range(_EXPONENTIAL)]
    artanh = [1 / (2 * i + 1) for i in range(_ARTANH)]
    return np.array(first + exponential + artanh, dtype)


def inlined(function: Function) -> Function:
    """Return `function` to be compiled as part of its callers."""
    njit: Any = numba.njit  # numba's stub omits options.
    return cast(Function, njit(inline="always")(function))


@inlined
def powers(k: Array, work: Array, bits: Array) -> None:
    """work[0] ← e^r − 1 and work[1] ← 2^p for x = work[0] ≤ 0, where x = p ln 2 + r."""
    x, power = work[0], work[1]
    least, per, magic, high, low = k[6], k[7], k[8], k[9], k[10]
    c0, c1, c2, c3, c4, c5 = k[11], k[12], k[13], k[14], k[15], k[16]
    c6, c7, c8, c9, c10, c11 = k[17], k[18], k[19], k[20], k[21], k[22]
    for i in range(x.shape[0]):
        a = x[i]
        a = least if a < least else a
        p = a * per + magic  # Its last bits are p as a whole number.
        power[i] = p
        p = p - magic
        r = (a - p * high) - p * low
        q = c11 * r + c10
        q = q * r + c9
        q = q * r + c8
        q = q * r + c7
        q = q * r + c6
        q = q * r + c5
        q = q * r + c4
        q = q * r + c3
        q = q * r + c2
        q = q * r + c1
        q = q * r + c0
        x[i] = r + r * r * q
    if bits.itemsize == 4:
        for i in range(x.shape[0]):
            bits[i] = (bits[i] + 127) << 23
    else:
        for i in range(x.shape[0]):
            bits[i] = (bits[i] + 1023) << 52


@inlined
def log_one_plus(u: Any, k: Array) -> Any:
    """Return log(1 + u) for −0.64 ≤ u ≤ 1.72: 2 artanh s with s = u/(2 + u)."""
    s = u / (k[2] + u)
    square = s * s
    q = k[40]
    q = q * square + k[39]
    q = q * square + k[38]
    q = q * square + k[37]
    q = q * square + k[36]
    q = q * square + k[35]
    q = q * square + k[34]
    q = q * square + k[33]
    q = q * square + k[32]
    q = q * square + k[31]
    q = q * square + k[30]
    q = q * square + k[29]
    q = q * square + k[28]
    q = q * square + k[27]
    q = q * square + k[26]
    q = q * square + k[25]
    q = q * square + k[24]
    q = q * square + k[23]
    return k[2] * s * q


@inlined
def _tanh(z: Array, y: Array, k: Array, work: Array, bits: Array) -> None:
    """y ← tanh z."""
    n = z.shape[0]
    zero, one, two = k[0], k[1], k[2]
    x, power = work[0], work[1]
    for i in range(n):
        x[i] = -two * abs(z[i])
    powers(k, work, bits)
    for i in range(n):
        v = x[i] * power[i] + (power[i] - one)
        v = v / (two + v)
        y[i] = v if z[i] < zero else -v


@inlined
def _softplus(z: Array, y: Array, k: Array, work: Array, bits: Array) -> None:
    """y ← log(1 + exp(β z))/β."""
    n = z.shape[0]
    zero, beta, per_beta = k[0], k[4], k[5]
    x, power = work[0], work[1]
    for i in range(n):
        x[i] = -abs(beta * z[i])
    powers(k, work, bits)
    for i in range(n):
        u = power[i] + power[i] * x[i]
        v = z[i]
        v = zero if v < zero else v
        y[i] = v + log_one_plus(u, k) * per_beta


@inlined
def activate(sigma: int, z: Array, y: Array, k: Array, work: Array, bits: Array) -> None:
    """y ← σ(z)."""
    n = z.shape[0]
    zero = k[0]
    if sigma == TANH:
        _tanh(z, y, k, work, bits)
    elif sigma == SOFTPLUS:
        _softplus(z, y, k, work, bits)
    elif sigma == RELU:
        for i in range(n):
            v = z[i]
            y[i] = zero if v <= zero else v
    else:
        for i in range(n):
            y[i] = z[i]


@inlined
def slope(sigma: int, y: Array, out: Array, k: Array, work: Array, bits: Array) -> None:
    """out ← σ'(z) from y = σ(z)."""
    n = y.shape[0]
    zero, one, beta = k[0], k[1], k[4]
    if sigma == TANH:
        for i in range(n):
            out[i] = one - y[i] * y[i]
    elif sigma == SOFTPLUS:
        x, power = work[0], work[1]
        for i in range(n):
            v = -beta * y[i]
            x[i] = zero if v > zero else v
        powers(k, work, bits)
        for i in range(n):
            out[i] = (one - power[i]) - x[i] * power[i]
    elif sigma == RELU:
        for i in range(n):
            out[i] = one if y[i] > zero else zero
    else:
        for i in range(n):
            out[i] = one
