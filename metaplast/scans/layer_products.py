"""Products of one vector with a matrix that lies somewhere in a longer array, four rows at a time.

This module imports numba.
"""

from __future__ import annotations

from typing import Any

from metaplast.scans.compiling import reordered
from metaplast.scans.kernel import add_rows

Array = Any


@reordered
def add_products(w: Array, at: int, x: Array, out: Array) -> None:
    """out += W x, where W begins at `at`."""
    height, width = out.shape[0], x.shape[0]
    whole = height - height % 4
    for i in range(0, whole, 4):
        a = w[at + i * width : at + (i + 1) * width]
        b = w[at + (i + 1) * width : at + (i + 2) * width]
        c = w[at + (i + 2) * width : at + (i + 3) * width]
        d = w[at + (i + 3) * width : at + (i + 4) * width]
        sa, sb, sc, sd = out[i], out[i + 1], out[i + 2], out[i + 3]
        for j in range(width):
            sa += a[j] * x[j]
            sb += b[j] * x[j]
            sc += c[j] * x[j]
            sd += d[j] * x[j]
        out[i], out[i + 1], out[i + 2], out[i + 3] = sa, sb, sc, sd
    for i in range(whole, height):
        a = w[at + i * width : at + (i + 1) * width]
        sa = out[i]
        for j in range(width):
            sa += a[j] * x[j]
        out[i] = sa


@reordered
def add_transposed(w: Array, at: int, u: Array, out: Array) -> None:
    """out += Wᵀ u, where W begins at `at`."""
    height, width = u.shape[0], out.shape[0]
    add_rows(w[at : at + height * width].reshape((height, width)), u, out)
