"""Products of the matrices of one network, each a loop over tiles; see `tiles`.

Every array is flat and comes with the offset of its first element. Rows are padded with zeros to
whole registers, `lanes` numbers each. Sums run in the order of the inner axis.
"""

from __future__ import annotations

from typing import Any

from metaplast.engines.fused.jit import ONE, ZERO, inlined
from metaplast.engines.fused_recurrent import tiles
from metaplast.engines.fused_recurrent.jit import compiled
from metaplast.engines.fused_recurrent.program import Numbers


@compiled
def multiply(
    left: Numbers, left_at: int, down: int, along: int, right: Numbers, right_at: int,
    start: Numbers, start_at: int, out: Numbers, out_at: int, width: int, height: int, inner: int,
    scale: Any, adds: int, lanes: int,
) -> None:  # fmt: skip
    """out_i ← scale · start_i + Σ_k left[i · down + k · along] right_k, rows of `width` numbers.

    If `adds` is 0, `start` is not added.
    """
    registers = width // lanes
    panels = -(-registers // tiles.MOST)
    done = 0
    for panel in range(panels):
        count = (registers - done) // (panels - panel)  # Panels of nearly the same width.
        at = done * lanes
        tiles.product(
            left, left_at, down, along, right, right_at + at, width, start, start_at + at, out,
            out_at + at, width, height, inner, scale, adds, count,
        )  # fmt: skip
        done += count


@inlined
def set_product(
    a: Numbers, a_at: int, stride: int, b: Numbers, b_at: int, out: Numbers, out_at: int,
    width: int, height: int, inner: int, lanes: int,
) -> None:  # fmt: skip
    """out [height, width] ← A · B, the rows of A `stride` apart."""
    multiply(
        a, a_at, stride, ONE, b, b_at, out, out_at, out, out_at, width, height, inner,
        out.dtype.type(1), ZERO, lanes,
    )  # fmt: skip


@inlined
def add_product(
    a: Numbers, a_at: int, stride: int, b: Numbers, b_at: int, out: Numbers, out_at: int,
    width: int, height: int, inner: int, lanes: int,
) -> None:  # fmt: skip
    """out [height, width] += A · B, the rows of A `stride` apart."""
    multiply(
        a, a_at, stride, ONE, b, b_at, out, out_at, out, out_at, width, height, inner,
        out.dtype.type(1), ONE, lanes,
    )  # fmt: skip


@inlined
def add_outer(
    a: Numbers, a_at: int, stride: int, b: Numbers, b_at: int, out: Numbers, out_at: int,
    width: int, height: int, inner: int, lanes: int,
) -> None:  # fmt: skip
    """out [height, width] += Aᵀ · B, where the `inner` rows of A are `stride` apart."""
    multiply(
        a, a_at, ONE, stride, b, b_at, out, out_at, out, out_at, width, height, inner,
        out.dtype.type(1), ONE, lanes,
    )  # fmt: skip


@compiled
def carry(
    x: Numbers, x_at: int, rows: Numbers, at: int, start: Numbers, start_at: int, out: Numbers,
    out_at: int, width: int, inner: int, adds: int, upwards: bool, lanes: int,
) -> None:  # fmt: skip
    """out ← Σ_k x_k rows_k, plus start if `adds`: the product of one vector with a matrix.

    If consecutive calls alternate between going upwards and downwards, most rows are still in the
    innermost cache.
    """
    registers = width // lanes
    panels = -(-registers // tiles.MOST_ALONE)
    last = inner - 1 if upwards else 0
    along, stride = (-1, -width) if upwards else (1, width)
    done = 0
    for panel in range(panels):
        count = (registers - done) // (panels - panel)
        shift = done * lanes
        tiles.product(
            x, x_at + last, ZERO, along, rows, at + last * width + shift, stride, start,
            start_at + shift, out, out_at + shift, width, ONE, inner, out.dtype.type(1), adds,
            count,
        )  # fmt: skip
        done += count


@compiled
def turn(
    source: Numbers, at: int, height: int, width: int, out: Numbers, out_at: int, lanes: int
) -> None:
    """out [width, height] ← the transpose of source [height, width]; both padded."""
    for i in range(0, height, lanes):
        for j in range(0, width, lanes):
            tiles.transpose(source, at + i * width + j, width, out, out_at + j * height + i, height)
