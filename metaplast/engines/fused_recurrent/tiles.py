"""Products of small matrices in SIMD registers, as LLVM vector code; see `fused.vector_code`.

A tile of the result, a few rows by a few registers, stays in registers while its terms are summed
in the order of the inner axis. So the digits do not depend on the size of the tile.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from llvmlite import ir

from metaplast.engines.fused.vector_code import WIDE, Lanes, intrinsic_of

# Rows of a tile by the registers in each, and most registers of a single row. Tile, vectors and
# factor must fit into the machine's registers: 32 of 64 bytes with AVX-512, else mostly 16 of 32.
_ROWS = {1: 4, 2: 4, 3: 4, 4: 4, 5: 4, 6: 4, 7: 3} if WIDE else {1: 4, 2: 4}
MOST, MOST_ALONE = max(_ROWS), 8


class _Product(NamedTuple):
    """Arguments of `product`."""

    left: Any
    down: Any
    along: Any
    right: Any
    stride: Any
    start: Any
    out: Any
    width: Any
    inner: Any
    scale: Any
    adds: Any

    def emit(self, to: Lanes, i: Any, rows: int, count: int) -> None:
        """Emit code for `rows` rows from row i on, `count` registers wide."""
        b, word = to.builder, ir.IntType(64)
        begun = to.rows(to.shift(self.start, i, self.width), self.width, rows)
        written = to.rows(to.shift(self.out, i, self.width), self.width, rows)
        lefts = to.rows(to.shift(self.left, i, self.down), self.down, rows)
        places = [word(register * to.count) for register in range(count)]
        sums = [[to.accumulator() for _ in range(count)] for _ in range(rows)]
        for row, cells in zip(begun, sums, strict=True):
            for column, cell in zip(places, cells, strict=True):
                given = to.multiply(self.scale, to.load(row, column))
                b.store(b.select(self.adds, given, to.zero), cell)
        with to.loop(word(0), self.inner, 1) as (k, _):
            row = to.shift(self.right, k, self.stride)
            vectors = [to.load(row, column) for column in places]
            at = b.mul(k, self.along)
            for pointer, cells in zip(lefts, sums, strict=True):
                factor = to.spread(b.load(b.gep(pointer, [at])))
                for vector, cell in zip(vectors, cells, strict=True):
                    b.store(to.add(factor, vector, b.load(cell)), cell)
        for row, cells in zip(written, sums, strict=True):
            for column, cell in zip(places, cells, strict=True):
                to.store(b.load(cell), row, column)


def _product(to: Lanes) -> None:
    b, word = to.builder, ir.IntType(64)
    left, down, along = to.pointer(), to.value(), to.value()
    right, stride = to.pointer(), to.value()
    start, out, width = to.pointer(), to.pointer(), to.value()
    height, inner, scale, adds, count = (to.value() for _ in range(5))
    adds = b.icmp_signed("!=", adds, word(0))
    given = _Product(
        left, down, along, right, stride, start, out, width, inner, to.spread(scale), adds
    )

    def case(registers: int) -> None:
        first = word(0)
        if registers in _ROWS:
            rows = _ROWS[registers]
            first = b.mul(b.sdiv(height, word(rows)), word(rows))
            with to.loop(word(0), first, rows) as (i, _):
                given.emit(to, i, rows, registers)
        with to.loop(first, height, 1) as (i, _):
            given.emit(to, i, 1, registers)

    to.switch(b.sub(count, word(1)), [partial(case, count) for count in range(1, MOST_ALONE + 1)])


# (left, down, along, right, stride, start, out, width, height, inner, scale, adds, registers):
#
#     out_i = scale · start_i + Σ_k left[i · down + k · along] · right_k
#
# for `height` rows, `registers` wide, at most MOST_ALONE, and MOST to be fast with several rows.
# If `adds` is 0, start is not added. Each array comes with an offset. The rows of `right` are
# `stride` apart, and those of `start` and `out` are `width` apart.
product = intrinsic_of(_product, 17)


def _transpose(to: Lanes) -> None:
    """Emit the transposition of a block of as many rows as a register has lanes."""
    source, stride, target, width = to.pointer(), to.value(), to.pointer(), to.value()
    b, count, lane, word = to.builder, to.count, ir.IntType(32), ir.IntType(64)
    rows = [to.load(p, word(0)) for p in to.rows(source, stride, count)]
    # In the stage of distance d, lane bit d and row bit d change places.
    distance = 1
    while distance < count:
        swapped = list(rows)
        for i in (i for i in range(count) if not i & distance):
            low, high = rows[i], rows[i + distance]
            first = [k if not k & distance else count + k - distance for k in range(count)]
            second = [k + distance if not k & distance else count + k for k in range(count)]
            kind = ir.VectorType(lane, count)
            swapped[i] = b.shuffle_vector(low, high, ir.Constant(kind, first))
            swapped[i + distance] = b.shuffle_vector(low, high, ir.Constant(kind, second))
        rows, distance = swapped, 2 * distance
    for row, pointer in zip(rows, to.rows(target, width, count), strict=True):
        to.store(row, pointer, word(0))


# (source, stride, target, width): a square block, one register wide, transposed; each array comes
# with an offset.
transpose = intrinsic_of(_transpose, 6)
