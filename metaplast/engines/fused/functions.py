"""Functions of signals in the kernel, and their adjoints: loops over short vectors."""

from __future__ import annotations

from typing import Any

from metaplast.engines.fused.jit import compiled
from metaplast.engines.fused.places import NONE
from metaplast.engines.fused.program import (
    CUBE,
    MAGNITUDE,
    RECTIFIED,
    SAME,
    SIGN,
    SQUARE,
    Integers,
    Numbers,
)


@compiled
def value(function: int, x: Any, one: Any) -> Any:
    """Return f(x); if x is not finite, the result is that of torch."""
    if function == SQUARE:
        return x * x
    if function == CUBE:
        return x * x * x
    if function == MAGNITUDE:
        return abs(x)
    if function == SIGN:
        return one if x > 0 else (-one if x < 0 else one - one)
    if function == RECTIFIED:
        return one - one if x < 0 else x
    return x


@compiled
def slope(function: int, x: Any, one: Any) -> Any:
    """Return f'(x); at a kink it is 0, as in autograd."""
    if function == SAME:
        return one
    if function == SQUARE:
        return x + x
    if function == CUBE:
        return (x * x) * (one + one + one)
    if function == RECTIFIED and x > 0:
        return one
    if function == MAGNITUDE and x != 0:
        return one if x > 0 else -one
    return one - one


@compiled
def form_functions(maps: Integers, s: Numbers, base: int) -> None:
    """Set every function of signals of a step."""
    one = s.dtype.type(1)
    for m in range(maps.shape[0]):
        to, length = base + maps[m, 0], maps[m, 1]
        first, second = base + maps[m, 2], base + maps[m, 4]
        for i in range(length):
            s[to + i] = value(maps[m, 3], s[first + i], one)
        if maps[m, 4] != NONE:
            for i in range(length):
                s[to + i] *= value(maps[m, 5], s[second + i], one)


@compiled
def functions_adjoint(maps: Integers, s: Numbers, base: int, d: Numbers) -> None:
    """Carry the adjoint of every function to its signals."""
    one = s.dtype.type(1)
    for m in range(maps.shape[0]):
        to, length, first, second = maps[m, 0], maps[m, 1], maps[m, 2], maps[m, 4]
        f, g = maps[m, 3], maps[m, 5]
        for i in range(length):
            x, bar = s[base + first + i], d[to + i]
            if second == NONE:
                d[first + i] += bar * slope(f, x, one)
            else:
                z = s[base + second + i]
                d[first + i] += bar * slope(f, x, one) * value(g, z, one)
                d[second + i] += bar * value(f, x, one) * slope(g, z, one)
