"""LLVM vector code for numba, in which the row loops of the fused engine are written.

`Lanes` emits the code: it reads arguments, loads and stores registers, and computes with them. Each
loop is a function of a `Lanes`; `intrinsic_of` turns this function into an intrinsic, which numba
inserts into the compiled kernel wherever it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import binding, ir
from numba.core import cgutils as _cgutils
from numba.core import types
from numba.extending import intrinsic

cgutils: Any = _cgutils  # Untyped.


def _is_wide() -> bool:
    """Return whether this machine has 32 registers of 64 bytes (AVX-512), not 16 of 32 (AVX2)."""
    try:
        return bool(binding.get_host_cpu_features().get("avx512f"))
    except RuntimeError:  # llvmlite does not know the features of this machine.
        return False


WIDE = _is_wide()
# Bytes in a register. The compiler splits wider ones, and moves parts of them to memory and back.
REGISTER = 64 if WIDE else 32
_FLAGS = ("reassoc", "contract", "nsz", "arcp")


class Lanes:
    """Emits vector code at the place where an intrinsic is called."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Sequence[Any]):
        self.context, self.builder = context, builder
        self._types, self._values = signature.args, arguments
        self._dtype = next(t.dtype for t in self._types if isinstance(t, types.Array))
        self.scalar = context.get_value_type(self._dtype)
        self.count = REGISTER // (self._dtype.bitwidth // 8)
        self.is_single = self._dtype.bitwidth == 32
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
        """Return a register with `number`, of any type, in all lanes."""
        lane = ir.IntType(32)
        empty = ir.Constant(ir.VectorType(number.type, self.count), ir.Undefined)
        single = self.builder.insert_element(empty, number, lane(0))
        mask = ir.Constant(ir.VectorType(lane, self.count), [0] * self.count)
        return self.builder.shuffle_vector(single, empty, mask)

    def load(self, pointer: Any, column: Any) -> Any:
        """Return the register at a column."""
        return self.builder.load(self._cell(pointer, column), align=self._dtype.bitwidth // 8)

    def store(self, register: Any, pointer: Any, column: Any) -> None:
        """Store a register at a column."""
        self.builder.store(register, self._cell(pointer, column), align=self._dtype.bitwidth // 8)

    def first(self, count: Any) -> Any:
        """Return a mask of the first `count` lanes."""
        words = ir.VectorType(ir.IntType(64), self.count)
        lanes = ir.Constant(words, list(range(self.count)))
        return self.builder.icmp_signed("<", lanes, self.spread(count))

    def load_some(self, pointer: Any, column: Any, mask: Any) -> Any:
        """Return the register at a column, with 0 in lanes where the mask is not set."""
        cell = self._cell(pointer, column)
        given = [cell, ir.IntType(32)(self._dtype.bitwidth // 8), mask, self.zero]
        return self.call("masked.load", self.vector, given, ".p0")

    def store_some(self, register: Any, pointer: Any, column: Any, mask: Any) -> None:
        """Store a register at a column, where the mask is set."""
        cell = self._cell(pointer, column)
        given = [register, cell, ir.IntType(32)(self._dtype.bitwidth // 8), mask]
        self.call("masked.store", ir.VoidType(), given, ".p0")

    def call(
        self, name: str, result: Any, given: Sequence[Any], end: str = "", flags: Sequence[str] = ()
    ) -> Any:
        """Call an LLVM intrinsic on registers, and return its result.

        Args:
            name: its name without the type.
            result: the type that it returns.
            given: its arguments.
            end: the part of its name that follows the type.
            flags: the flags of fast math.
        """
        kind = "f32" if self.is_single else "f64"
        signature = ir.FunctionType(result, [value.type for value in given])
        function = cgutils.get_or_insert_function(
            self.builder.module, signature, f"llvm.{name}.v{self.count}{kind}{end}"
        )
        return self.builder.call(function, given, fastmath=flags)

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
        cell = self.builder.gep(pointer, [ir.IntType(64)(index)])
        start = self.builder.load(cell) if add else ir.Constant(self.scalar, 0.0)
        given = [start, self.builder.load(place)]
        total = self.call("vector.reduce.fadd", self.scalar, given, flags=("reassoc",))
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


def intrinsic_of(emit: Callable[[Lanes], None], count: int) -> Any:
    """Return an intrinsic of `count` arguments; `emit` takes them in order and emits the code."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit(Lanes(context, builder, signature, arguments))
        return context.get_dummy_value()

    names = ", ".join(f"a{i}" for i in range(count))
    # numba wants an explicit argument list.
    scope: dict[str, Any] = {"codegen": codegen, "none": types.none}
    exec(f"def typing(context, {names}):\n    return none({names}), codegen\n", scope)
    return intrinsic(scope["typing"])
