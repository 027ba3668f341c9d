"""Compilation of the loops of a simulation, and tanh as a loop that becomes vector code.

This module imports numba; only the kernel imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.source_code import named_by_source

Function = TypeVar("Function", bound=Callable[..., Any])

# Rounding to an integer by adding a number whose last place is 1; ln 2 in two parts.
_ROUND = 1.5 * 2.0**52
_LOG2E, _LN2_HIGH, _LN2_LOW = 1.4426950408889634, 0.6931471803691238, 1.9082149292705877e-10
_LARGEST = 20.0  # From here on, tanh is 1 to the last digit.
# Factors 1/n! of the exponential series, the highest power first.
_SERIES = tuple(1.0 / float(np.prod(np.arange(1.0, n + 1))) for n in range(13, -1, -1))
_C13, _C12, _C11, _C10, _C9, _C8, _C7, _C6, _C5, _C4, _C3, _C2, _C1, _C0 = _SERIES


def compiled(function: Function) -> Function:
    """Return `function` compiled by numba on first use; multiply and add may be fused."""
    return cast(Function, _jit(function, no_cpython_wrapper=True))


def entry_point(function: Function) -> Function:
    """Return `function`, which Python calls, compiled and kept on disk where possible."""
    function = named_by_source(function, Path(__file__).parent)
    try:
        return cast(Function, _jit(function, cache=True))
    except RuntimeError:  # No folder can hold the cache of compiled code.
        return cast(Function, _jit(function))


def _jit(function: Function, **options: bool) -> Any:
    njit: Any = numba.njit  # numba's stub omits options.
    return njit(
        fastmath={"contract"}, error_model="numpy", nogil=True, no_cfunc_wrapper=True, **options
    )(function)


def inlined(function: Function) -> Function:
    """Return `function`, compiled into its callers: a call would pass every array of a state."""
    njit: Any = numba.njit  # numba's stub omits options.
    return cast(Function, njit(inline="always")(function))


@compiled
def tanh_of(x: Numbers, r: Numbers) -> None:
    """Set r = tanh x for a flat array, to 4e-16; NaN stays NaN.

    tanh x = 1 − 2/(exp(2x) + 1), with exp(2x) = 2ⁿ exp(y) and |y| ≤ ½ ln 2 by its series. The loop
    has no calls, so that it becomes vector code.
    """
    for i in range(x.shape[0]):
        v = x[i]
        v = 2 * (-_LARGEST if v < -_LARGEST else (_LARGEST if v > _LARGEST else v))
        shifted = v * _LOG2E + _ROUND
        n = shifted - _ROUND
        y = (v - n * _LN2_HIGH) - n * _LN2_LOW
        p = _C13
        p = p * y + _C12
        p = p * y + _C11
        p = p * y + _C10
        p = p * y + _C9
        p = p * y + _C8
        p = p * y + _C7
        p = p * y + _C6
        p = p * y + _C5
        p = p * y + _C4
        p = p * y + _C3
        p = p * y + _C2
        p = p * y + _C1
        p = p * y + _C0
        # The last bits of `shifted` are n: they are added to the exponent.
        raised = np.float64(p).view(np.int64) + (np.float64(shifted).view(np.int64) << 52)
        r[i] = 1 - 2 / (np.int64(raised).view(np.float64) + 1)
