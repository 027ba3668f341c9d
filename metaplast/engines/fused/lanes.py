"""Row loops in SIMD registers: operations of the fused engine on a few matrix rows at a time.

Each loop walks the columns once, a register of numbers at a time, and does all of its work on that
register, so each row is loaded once and stored once. The loops are written as LLVM vector code,
because the automatic vectoriser gives up on loops with this many arrays.

Vectors and matrices are given as (array, offset): element 0 is `array[offset]`. Every row is padded
with zeros to a multiple of `PAD` columns and starts `columns` elements after the one above it.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from llvmlite import ir

from metaplast.engines.fused.vector_code import WIDE, Lanes, intrinsic_of

# Rows processed together by `update_dot` and by `retreat`: as many as fit in the registers.
_FORWARD, _BACK = (4, 2) if WIDE else (2, 1)
RANKS = 4  # a ∈ {y, e, 1}: ranks 0 … 3; `sweeps` splits updates of higher rank.
TERMS = 5  # z̄ and three projections: 0 … 4.
READ = TERMS
# Added to the number of terms if the matrix neither grows nor decays.
STILL = TERMS + 1


def dot(rows: int, *, add: bool) -> Any:
    """(M, x, out, columns): out_i = M_i · x, or with `add` += , for `rows` rows of M."""

    def emit(to: Lanes) -> None:
        matrix, x, out = to.pointer(), to.pointer(), to.pointer()
        width = to.value()
        pointers = to.rows(matrix, width, rows)
        sums = [to.accumulator() for _ in pointers]
        with to.columns(width) as (column, _):
            other = to.load(x, column)
            for pointer, place in zip(pointers, sums, strict=True):
                to.accumulate(place, to.load(pointer, column), other)
        for index, place in enumerate(sums):
            to.deposit(place, out, index, add=add)

    return intrinsic_of(emit, 7)


def project(rows: int) -> Any:
    """(M, u, p, columns): p += Σ_i u_i M_i over `rows` rows of M."""

    def emit(to: Lanes) -> None:
        matrix, u, p = to.pointer(), to.pointer(), to.pointer()
        width = to.value()
        pointers = to.rows(matrix, width, rows)
        factors = to.scalars(u, rows)
        with to.columns(width) as (column, _):
            total = to.load(p, column)
            for pointer, factor in zip(pointers, factors, strict=True):
                total = to.add(factor, to.load(pointer, column), total)
            to.store(total, p, column)

    return intrinsic_of(emit, 7)


class _Update(NamedTuple):
    """Arguments of `update_dot`."""

    matrix: Any
    a: Any
    v: Any
    x: Any
    out: Any
    height: Any
    width: Any
    scale: Any

    def emit(self, to: Lanes, rank: int, i: Any) -> None:
        """Emit code for a few rows from row i on."""
        pointers = to.rows(to.shift(self.matrix, i, self.width), self.width, _FORWARD)
        a_rows = to.rows(to.shift(self.a, i), self.height, rank)
        factors = [to.scalars(row, _FORWARD) for row in a_rows]
        v_rows, sums = to.rows(self.v, self.width, rank), [to.accumulator() for _ in pointers]
        with to.columns(self.width) as (column, _):
            other = to.load(self.x, column)
            columns = [to.load(row, column) for row in v_rows]
            for index, (pointer, place) in enumerate(zip(pointers, sums, strict=True)):
                cell = to.multiply(self.scale, to.load(pointer, column))
                for factor, vector in zip(factors, columns, strict=True):
                    cell = to.add(factor[index], vector, cell)
                to.store(cell, pointer, column)
                to.accumulate(place, cell, other)
        out = to.shift(self.out, i)
        for index, place in enumerate(sums):
            to.deposit(place, out, index, add=False)


def _update_dot(to: Lanes) -> None:
    pointers = [to.pointer() for _ in range(5)]
    height, width, scale = to.value(), to.value(), to.spread(to.value())
    rank, first, last = to.value(), to.value(), to.value()
    given = _Update._make((*pointers, height, width, scale))

    def case(count: int) -> None:
        with to.loop(first, last, _FORWARD) as (i, _):
            given.emit(to, count, i)

    to.switch(rank, [partial(case, count) for count in range(RANKS)])


class _Retreat(NamedTuple):
    """Arguments of `retreat`."""

    matrix: Any
    adjoint: Any
    left: Any
    right: Any
    a: Any
    v: Any
    a_bar: Any
    v_bar: Any
    growth_bar: Any
    height: Any
    width: Any
    scale: Any
    inverse: Any

    def emit(self, to: Lanes, terms: int, rank: int, i: Any, *, undo: bool, grows: bool) -> None:
        """Emit code for a few rows from row i on."""
        m_rows, adjoint_rows = (
            to.rows(to.shift(m, i, self.width), self.width, _BACK)
            for m in (self.matrix, self.adjoint)
        )
        lefts = [to.scalars(p, _BACK) for p in to.rows(to.shift(self.left, i), self.height, terms)]
        factors = [to.scalars(p, _BACK) for p in to.rows(to.shift(self.a, i), self.height, rank)]
        rights, v_rows = to.rows(self.right, self.width, terms), to.rows(self.v, self.width, rank)
        v_bars = to.rows(self.v_bar, self.width, rank)
        sums = [[to.accumulator() for _ in range(rank)] for _ in m_rows]
        growth = to.accumulator()
        with to.columns(self.width) as (column, _):
            given, vectors, returned = (
                [to.load(p, column) for p in group] for group in (rights, v_rows, v_bars)
            )
            for n, (m_row, adjoint_row) in enumerate(zip(m_rows, adjoint_rows, strict=True)):
                bar = to.load(adjoint_row, column)
                if grows:
                    bar = to.multiply(self.scale, bar)
                for factor, vector in zip(lefts, given, strict=True):
                    bar = to.add(factor[n], vector, bar)
                to.store(bar, adjoint_row, column)
                cell = to.load(m_row, column)
                if undo:
                    for factor, vector in zip(factors, vectors, strict=True):
                        cell = to.subtract(factor[n], vector, cell)
                    if grows:
                        cell = to.multiply(self.inverse, cell)
                    to.store(cell, m_row, column)
                if grows:
                    to.accumulate(growth, bar, cell)
                for r in range(rank):
                    to.accumulate(sums[n][r], bar, vectors[r])
                    returned[r] = to.add(factors[r][n], bar, returned[r])
            for pointer, register in zip(v_bars, returned, strict=True):
                to.store(register, pointer, column)
        for r, row in enumerate(to.rows(to.shift(self.a_bar, i), self.height, rank)):
            for n in range(_BACK):
                to.deposit(sums[n][r], row, n, add=False)
        if grows:
            to.deposit(growth, self.growth_bar, 0, add=True)


def _retreat(to: Lanes) -> None:
    pointers = [to.pointer() for _ in range(9)]
    height, width, scale, inverse = to.value(), to.value(), *(to.spread(to.value()) for _ in "gh")
    terms, rank, first, last = (to.value() for _ in range(4))
    given = _Retreat._make((*pointers, height, width, scale, inverse))

    def case(count: int, depth: int, undo: bool, grows: bool) -> None:
        with to.loop(first, last, _BACK) as (i, _):
            given.emit(to, count, depth, i, undo=undo, grows=grows)

    kinds = [(count, True, True) for count in range(TERMS)] + [(0, False, True)]
    kinds += [(count, True, False) for count in range(TERMS)]
    cases = [partial(case, *kind[:1], depth, *kind[1:]) for kind in kinds for depth in range(RANKS)]
    word = ir.IntType(64)
    to.switch(to.builder.add(to.builder.mul(terms, word(RANKS)), rank), cases)


def _copy(to: Lanes) -> None:
    source, target = to.pointer(), to.pointer()
    with to.columns(to.value()) as (column, _):
        to.store(to.load(source, column), target, column)


def _clear(to: Lanes) -> None:
    target = to.pointer()
    with to.columns(to.value()) as (column, _):
        to.store(to.zero, target, column)


def _inner(to: Lanes) -> None:
    a, b, out = to.pointer(), to.pointer(), to.pointer()
    total = to.accumulator()
    with to.columns(to.value()) as (column, _):
        to.accumulate(total, to.load(a, column), to.load(b, column))
    to.deposit(total, out, 0, add=False)


def _add_multiple(to: Lanes) -> None:
    target, a = to.pointer(), to.pointer()
    factor, count = to.spread(to.value()), to.value()
    with to.columns(count) as (column, _):
        to.store(to.add(factor, to.load(a, column), to.load(target, column)), target, column)


def _product(to: Lanes) -> None:
    target, a, b = to.pointer(), to.pointer(), to.pointer()
    with to.columns(to.value()) as (column, _):
        to.store(to.multiply(to.load(a, column), to.load(b, column)), target, column)


# (M, a, V, x, out, height, columns, g, rank, first, last): for the rows i from first to last,
# M_i ← g M_i + Σ_r a_ri V_r, then out_i = M_i · x. a is [rank, height], V [rank, columns].
update_dot = intrinsic_of(_update_dot, 16)

# One step back for the rows i from first to last of M and of its adjoint M̄:
#
#     M̄_i ← g M̄_i + Σ_q left_qi right_q            (what the signals of step t add)
#     M_i ← h (M_i − Σ_r a_ri V_r)                    (the update of step t − 1 undone)
#     ā_ri = M̄_i · V_r,   V̄_r += a_ri M̄_i,   ḡ += M̄_i · M_i.
#
# (M, M̄, left, right, a, V, ā, V̄, ḡ, height, columns, g, h, terms, rank, first, last); left and a
# are [·, height], right and V [·, columns]. With READ for terms, there are none and M stays. With
# STILL added to terms, g and h are taken as 1, and ḡ stays.
retreat = intrinsic_of(_retreat, 26)

# For vectors whose length is a multiple of PAD; each vector is given as (array, offset).
copy = intrinsic_of(_copy, 5)  # (source, target, count): target = source.
clear = intrinsic_of(_clear, 3)  # (target, count): target = 0.
inner = intrinsic_of(_inner, 7)  # (a, b, out, count): out_0 = ⟨a, b⟩.
add_multiple = intrinsic_of(_add_multiple, 6)  # (target, a, factor, count): target += factor · a.
multiply = intrinsic_of(_product, 7)  # (target, a, b, count): target = a ⊙ b.
