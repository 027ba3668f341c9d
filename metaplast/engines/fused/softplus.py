"""Softplus and its derivative in SIMD registers, for float32.

A call of the mathematical library for each number takes a quarter of a forward pass of the
published network. With u = exp(−|βz|):

    y = (max(βz, 0) + log(1 + u))/β,      σ'(z) = (1 if z ≥ 0 else u)/(1 + u).

Both are correct to about one unit in the last place; NaN stays NaN. In float64 the series would be
too long, so `sweeps` calls the library.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from metaplast.engines.fused.vector_code import Lanes, intrinsic_of

# ln 2 in two parts; multiples of the first up to 127 are exact.
_HIGH = 0.693359375
_LOW = math.log(2) - _HIGH
# Here exp(−a) is the smallest power of two that is not denormal.
_LARGEST = 126 * math.log(2)
# exp(r) for |r| ≤ ln 2/2, highest power first.
_EXPONENTIAL = [1 / math.factorial(i) for i in range(7, -1, -1)]
# artanh(s)/s in powers of s² for s ≤ 1/3, highest first.
_ARTANH = [1 / (2 * i + 1) for i in range(7, -1, -1)]
# The compiler must not reorder sums: the second part of ln 2 would be lost.
_ORDERED = ("contract",)


class _Registers:
    """Arithmetic on whole registers in the order in which it is written."""

    def __init__(self, to: Lanes) -> None:
        self._to, self._builder = to, to.builder

    def constant(self, number: float) -> Any:
        return ir.Constant(self._to.vector, [number] * self._to.count)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        product = self._builder.fmul(a, b, flags=_ORDERED)
        return self._builder.fadd(product, c, flags=_ORDERED)

    def polynomial(self, x: Any, coefficients: Sequence[float]) -> Any:
        total = self.constant(coefficients[0])
        for coefficient in coefficients[1:]:
            total = self.fma(total, x, self.constant(coefficient))
        return total

    def rounded(self, x: Any) -> Any:
        return self._to.call("rint", self._to.vector, [x])

    def power_of_two(self, exponent: Any) -> Any:
        """Return 2^n for whole numbers n from −126 to 127."""
        words = ir.VectorType(ir.IntType(32), self._to.count)
        bias, shift = (ir.Constant(words, [number] * self._to.count) for number in (127, 23))
        whole = self._builder.add(self._builder.fptosi(exponent, words), bias)
        return self._builder.bitcast(self._builder.shl(whole, shift), self._to.vector)

    def exponential(self, a: Any) -> Any:
        """Return exp(−a) for a ≥ 0; 0 instead of denormal numbers, which are slow."""
        build = self._builder
        largest = self.constant(_LARGEST)
        is_normal = build.fcmp_ordered("<", a, largest)
        x = build.fneg(build.select(is_normal, a, largest))
        n = self.rounded(build.fmul(x, self.constant(1 / math.log(2))))
        r = self.fma(n, self.constant(-_LOW), self.fma(n, self.constant(-_HIGH), x))
        power = build.fmul(self.polynomial(r, _EXPONENTIAL), self.power_of_two(n))
        return build.select(is_normal, power, self.constant(0.0))

    def log_one_plus(self, u: Any) -> Any:
        """Return log(1 + u) for 0 ≤ u ≤ 1: 2 artanh s with s = u/(2 + u)."""
        build = self._builder
        s = build.fdiv(u, build.fadd(u, self.constant(2.0)))
        twice = build.fadd(s, s)
        return build.fmul(twice, self.polynomial(build.fmul(s, s), _ARTANH))


def _softplus(to: Lanes) -> None:
    z, y, k = (to.pointer() for _ in range(3))
    count, beta = to.value(), to.spread(to.value())
    if not to.is_single:
        return
    registers, build = _Registers(to), to.builder
    zero, one = registers.constant(0.0), registers.constant(1.0)
    with to.columns(count) as (column, _):
        mask = to.first(build.sub(count, column))
        t = build.fmul(beta, to.load_some(z, column, mask))
        above = build.fcmp_ordered(">=", t, zero)
        size = build.select(above, t, build.fneg(t))
        u = registers.exponential(size)
        valid = build.fcmp_ordered("ord", t, t)
        sum_ = build.fadd(build.select(above, t, zero), registers.log_one_plus(u))
        slope = build.fdiv(build.select(above, one, u), build.fadd(one, u))
        to.store_some(build.select(valid, build.fdiv(sum_, beta), t), y, column, mask)
        to.store_some(build.select(valid, slope, t), k, column, mask)


# (z, y, k, count, β): y = softplus(z) and k = σ'(z) for float32; does nothing for float64.
softplus = intrinsic_of(_softplus, 8)
