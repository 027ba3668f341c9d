"""Row loops in SIMD registers: operations of the fused engine on a few matrix rows at a time.

Each loop walks the columns once, a register of `LANES` numbers at a time, and does everything to
those columns that can be done, so each row is loaded once and stored once. The loops are written as
LLVM vector code, because the automatic vectoriser gives up on loops with this many arrays.

Vectors and matrices are given as (array, offset): element 0 is `array[offset]`. Every row is padded
with zeros to a multiple of `PAD` columns and starts `columns` elements after the one above it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils as _cgutils
from numba.core import types
from numba.extending import intrinsic

cgutils: Any = _cgutils  # Untyped.

RANKS = 4  # a ∈ {y, e, 1}: ranks 0 … 3.
TERMS = 5  # z̄ and three projections: 0 … 4.
READ = TERMS
_BYTES = 64  # One AVX-512 register; narrower machines split it in two or four.
_FLAGS = ("reassoc", "contract", "nsz", "arcp")


class Lanes:
    """Emits vector code at the place where an intrinsic is called."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Sequence[Any]):
        self.context, self.builder = context, builder
        self._types, self._values = signature.args, arguments
        self._dtype = next(t.dtype for t in self._types if isinstance(t, types.Array))
        self.scalar = context.get_value_type(self._dtype)
        self.count = _BYTES // (self._dtype.bitwidth // 8)
        self.vector = ir.VectorType(self.scalar, self.count)
        self.zero = ir.Constant(self.vector, [0.0] * self.count)
        self._next = 0

    def pointer(self) -> Any:
        """Return the next two arguments, an array and an offset, as the address of an element."""
        array_type, array = self._types[self._next], self._values[self._next]
        offset = self._values[self._next + 1]
        self._next += 2
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        return self.builder.gep(data, [offset])

    def value(self) -> Any:
        """Return the next argument, a number."""
        self._next += 1
        return self._values[self._next - 1]

    def rows(self, first: Any, stride: Any, count: int) -> list[Any]:
        """Return the addresses of `count` rows at intervals of `stride` elements."""
        pointers = [first][:count]
        for _ in range(count - 1):
            pointers.append(self.builder.gep(pointers[-1], [stride]))
        return pointers

    def scalars(self, pointer: Any, count: int) -> list[Any]:
        """Return `count` neighbouring numbers, each broadcast to all lanes of a register."""
        index = ir.IntType(64)
        cells = [self.builder.gep(pointer, [index(i)]) for i in range(count)]
        return [self.spread(self.builder.load(cell)) for cell in cells]

    def spread(self, number: Any) -> Any:
        """Return a register with `number` in all lanes."""
        lane = ir.IntType(32)
        single = self.builder.insert_element(
            ir.Constant(self.vector, ir.Undefined), number, lane(0)
        )
        mask = ir.Constant(ir.VectorType(lane, self.count), [0] * self.count)
        return self.builder.shuffle_vector(single, ir.Constant(self.vector, ir.Undefined), mask)

    def load(self, pointer: Any, column: Any) -> Any:
        """Return the register at a column."""
        return self.builder.load(self._cell(pointer, column), align=self._dtype.bitwidth // 8)

    def store(self, register: Any, pointer: Any, column: Any) -> None:
        """Store a register at a column."""
        self.builder.store(register, self._cell(pointer, column), align=self._dtype.bitwidth // 8)

    def _cell(self, pointer: Any, column: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(pointer, [column]), self.vector.as_pointer())

    def multiply(self, a: Any, b: Any) -> Any:
        """Return a·b."""
        return self.builder.fmul(a, b, flags=_FLAGS)

    def add(self, a: Any, b: Any, c: Any) -> Any:
        """Return a·b + c."""
        return self.builder.fadd(self.builder.fmul(a, b, flags=_FLAGS), c, flags=_FLAGS)

    def subtract(self, a: Any, b: Any, c: Any) -> Any:
        """Return c − a·b."""
        return self.builder.fsub(c, self.builder.fmul(a, b, flags=_FLAGS), flags=_FLAGS)

    def accumulator(self) -> Any:
        """Return a register variable that starts at zero."""
        place = cgutils.alloca_once(self.builder, self.vector)
        self.builder.store(self.zero, place)
        return place

    def accumulate(self, place: Any, a: Any, b: Any) -> None:
        """Add a·b to an accumulator."""
        self.builder.store(self.add(a, b, self.builder.load(place)), place)

    def deposit(self, place: Any, pointer: Any, index: int, *, add: bool) -> None:
        """Write, or add, the sum of an accumulator's lanes to element `index` of a vector."""
        kind = "f32" if self.count == 16 else "f64"
        reduce = cgutils.get_or_insert_function(
            self.builder.module,
            ir.FunctionType(self.scalar, [self.scalar, self.vector]),
            f"llvm.vector.reduce.fadd.v{self.count}{kind}",
        )
        cell = self.builder.gep(pointer, [ir.IntType(64)(index)])
        start = self.builder.load(cell) if add else ir.Constant(self.scalar, 0.0)
        total = self.builder.call(reduce, [start, self.builder.load(place)], fastmath=("reassoc",))
        self.builder.store(total, cell)

    def shift(self, pointer: Any, count: Any, stride: Any = None) -> Any:
        """Return the address `count` elements, or `count` times `stride`, further on."""
        return self.builder.gep(
            pointer, [count if stride is None else self.builder.mul(count, stride)]
        )

    def loop(self, first: Any, last: Any, step: int) -> Any:
        """Return a context in which code for every block of rows is emitted."""
        word = ir.IntType(64)
        return cgutils.for_range_slice(self.builder, first, last, word(step), intp=word)

    def switch(self, key: Any, cases: Sequence[Callable[[], None]]) -> None:
        """Emit code that runs the case whose position in the list is `key`."""
        done = self.builder.append_basic_block("done")
        choice = self.builder.switch(key, done)
        for value, emit in enumerate(cases):
            block = self.builder.append_basic_block("case")
            choice.add_case(ir.IntType(64)(value), block)
            self.builder.position_at_end(block)
            emit()
            self.builder.branch(done)
        self.builder.position_at_end(done)

    def columns(self, count: Any) -> Any:
        """Return a context in which code for each register column is emitted."""
        word = ir.IntType(64)
        return cgutils.for_range_slice(self.builder, word(0), count, word(self.count), intp=word)


def _intrinsic(emit: Callable[[Lanes], None], count: int) -> Any:
    """Return an intrinsic of `count` arguments; `emit` takes them in order and emits the code."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit(Lanes(context, builder, signature, arguments))
        return context.get_dummy_value()

    names = ", ".join(f"a{i}" for i in range(count))
    # numba wants an explicit argument list.
    scope: dict[str, Any] = {"codegen": codegen, "none": types.none}
    exec(f"def typing(context, {names}):\n    return none({names}), codegen\n", scope)
    return intrinsic(scope["typing"])


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

    return _intrinsic(emit, 7)


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

    return _intrinsic(emit, 7)


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
        """Emit code for four rows from row i on."""
        pointers = to.rows(to.shift(self.matrix, i, self.width), self.width, 4)
        a_rows = to.rows(to.shift(self.a, i), self.height, rank)
        factors = [to.scalars(row, 4) for row in a_rows]
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
        with to.loop(first, last, 4) as (i, _):
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

    def emit(self, to: Lanes, terms: int, rank: int, i: Any, *, undo: bool) -> None:
        """Emit code for two rows from row i on."""
        m_rows, adjoint_rows = (
            to.rows(to.shift(m, i, self.width), self.width, 2) for m in (self.matrix, self.adjoint)
        )
        lefts = [to.scalars(p, 2) for p in to.rows(to.shift(self.left, i), self.height, terms)]
        factors = [to.scalars(p, 2) for p in to.rows(to.shift(self.a, i), self.height, rank)]
        rights, v_rows = to.rows(self.right, self.width, terms), to.rows(self.v, self.width, rank)
        v_bars = to.rows(self.v_bar, self.width, rank)
        sums = [[to.accumulator() for _ in range(rank)] for _ in m_rows]
        growth = to.accumulator()
        with to.columns(self.width) as (column, _):
            given, vectors, returned = (
                [to.load(p, column) for p in group] for group in (rights, v_rows, v_bars)
            )
            for n, (m_row, adjoint_row) in enumerate(zip(m_rows, adjoint_rows, strict=True)):
                bar = to.multiply(self.scale, to.load(adjoint_row, column))
                for factor, vector in zip(lefts, given, strict=True):
                    bar = to.add(factor[n], vector, bar)
                to.store(bar, adjoint_row, column)
                cell = to.load(m_row, column)
                if undo:
                    for factor, vector in zip(factors, vectors, strict=True):
                        cell = to.subtract(factor[n], vector, cell)
                    cell = to.multiply(self.inverse, cell)
                    to.store(cell, m_row, column)
                to.accumulate(growth, bar, cell)
                for r in range(rank):
                    to.accumulate(sums[n][r], bar, vectors[r])
                    returned[r] = to.add(factors[r][n], bar, returned[r])
            for pointer, register in zip(v_bars, returned, strict=True):
                to.store(register, pointer, column)
        for r, row in enumerate(to.rows(to.shift(self.a_bar, i), self.height, rank)):
            for n in range(2):
                to.deposit(sums[n][r], row, n, add=False)
        to.deposit(growth, self.growth_bar, 0, add=True)


def _retreat(to: Lanes) -> None:
    pointers = [to.pointer() for _ in range(9)]
    height, width, scale, inverse = to.value(), to.value(), *(to.spread(to.value()) for _ in "gh")
    terms, rank, first, last = (to.value() for _ in range(4))
    given = _Retreat._make((*pointers, height, width, scale, inverse))

    def case(count: int, depth: int, undo: bool) -> None:
        with to.loop(first, last, 2) as (i, _):
            given.emit(to, count, depth, i, undo=undo)

    kinds = [(count, True) for count in range(TERMS)] + [(0, False)]
    cases = [partial(case, count, depth, undo) for count, undo in kinds for depth in range(RANKS)]
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


# (M, a, V, x, out, height, columns, g, rank, first, last): for the rows i from first to last, four
# at a time, M_i ← g M_i + Σ_r a_ri V_r, then out_i = M_i · x. a is [rank, height], V
# [rank, columns].
update_dot = _intrinsic(_update_dot, 16)

# One step back for the rows i from first to last of M and of its adjoint M̄, two at a time:
#
#     M̄_i ← g M̄_i + Σ_q left_qi right_q            (what the signals of step t add)
#     M_i ← h (M_i − Σ_r a_ri V_r)                    (the update of step t − 1 undone)
#     ā_ri = M̄_i · V_r,   V̄_r += a_ri M̄_i,   ḡ += M̄_i · M_i.
#
# (M, M̄, left, right, a, V, ā, V̄, ḡ, height, columns, g, h, terms, rank, first, last); left and a
# are [·, height], right and V [·, columns]. With READ for terms, there are none and M stays.
retreat = _intrinsic(_retreat, 26)

# For vectors whose length is a multiple of PAD; each vector is given as (array, offset).
copy = _intrinsic(_copy, 5)  # (source, target, count): target = source.
clear = _intrinsic(_clear, 3)  # (target, count): target = 0.
inner = _intrinsic(_inner, 7)  # (a, b, out, count): out_0 = ⟨a, b⟩.
add_multiple = _intrinsic(_add_multiple, 6)  # (target, a, factor, count): target += factor · a.
multiply = _intrinsic(_product, 7)  # (target, a, b, count): target = a ⊙ b.
