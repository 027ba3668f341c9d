"""Vector code of the simulation: operations on all lanes of a neuron or an output at once.

A *lane* is one of several runs that share J. The numbers of all lanes are adjacent in memory, so
that one load fills a register. This module imports numba; only the kernel imports it.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils as _cgutils
from numba.core import types
from numba.extending import intrinsic

cgutils: Any = _cgutils  # Untyped.

# Lanes in a register: four float64 of AVX2. For narrower registers, LLVM splits the vectors.
WIDTH = 4
_FLAGS = ("contract", "reassoc", "nsz")
_WORD, _DOUBLE = ir.IntType(64), ir.DoubleType()
_VECTOR = ir.VectorType(_DOUBLE, WIDTH)


class _Emitter:
    """Emits code for vectors of `groups` registers."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any, groups: int):
        self._context, self.builder = context, builder
        self._types, self.values = signature.args, arguments
        self.groups = range(groups)

    def address(self, index: int, offset: Any = None) -> Any:
        """Return the address of an element of the array that is argument number `index`."""
        array = self._context.make_array(self._types[index])
        data = array(self._context, self.builder, self.values[index]).data
        return self.builder.gep(data, [_WORD(0) if offset is None else offset])

    def _cell(self, pointer: Any, group: int) -> Any:
        place = self.builder.gep(pointer, [_WORD(group * WIDTH)])
        return self.builder.bitcast(place, _VECTOR.as_pointer())

    def load(self, pointer: Any, group: int) -> Any:
        return self.builder.load(self._cell(pointer, group), align=8)

    def store(self, register: Any, pointer: Any, group: int) -> None:
        self.builder.store(register, self._cell(pointer, group), align=8)

    def spread(self, number: Any) -> Any:
        """Return a register with a number in all lanes."""
        nothing, lane = ir.Constant(_VECTOR, ir.Undefined), ir.IntType(32)
        single = self.builder.insert_element(nothing, number, lane(0))
        mask = ir.Constant(ir.VectorType(lane, WIDTH), [0] * WIDTH)
        return self.builder.shuffle_vector(single, nothing, mask)

    def add(self, a: Any, b: Any, c: Any) -> Any:
        """Return a·b + c."""
        return self.builder.fadd(self.builder.fmul(a, b, flags=_FLAGS), c, flags=_FLAGS)

    def row_product(self) -> None:
        out, r = self.address(0, self.values[1]), self.address(6)
        values, columns = self.address(2), self.address(3)
        sums = [cgutils.alloca_once(self.builder, _VECTOR) for _ in self.groups]
        for place in sums:
            self.builder.store(ir.Constant(_VECTOR, [0.0] * WIDTH), place)
        lanes = _WORD(len(sums) * WIDTH)
        first, last = self.values[4:6]
        with cgutils.for_range_slice(self.builder, first, last, _WORD(1), intp=_WORD) as (n, _):
            column = self.builder.zext(self.builder.load(self.builder.gep(columns, [n])), _WORD)
            single = self.builder.load(self.builder.gep(values, [n]))
            value = self.spread(self.builder.fpext(single, _DOUBLE))
            row = self.builder.gep(r, [self.builder.mul(column, lanes)])
            for group, place in enumerate(sums):
                total = self.add(value, self.load(row, group), self.builder.load(place))
                self.builder.store(total, place)
        for group, place in enumerate(sums):
            self.store(self.builder.load(place), out, group)

    def multiply_add(self) -> None:
        out, a, b = (self.address(i, self.values[i + 1]) for i in (0, 2, 4))
        for g in self.groups:
            self.store(self.add(self.load(a, g), self.load(b, g), self.load(out, g)), out, g)

    def scaled_add(self) -> None:
        out, b = (self.address(i, self.values[i + 1]) for i in (0, 3))
        number = self.spread(self.values[2])
        for g in self.groups:
            self.store(self.add(number, self.load(b, g), self.load(out, g)), out, g)


def _intrinsic(name: str, arguments: str) -> Any:
    """Return an intrinsic whose code a method of `_Emitter` emits.

    Its last argument is a tuple with an integer for each register of a vector: numba compiles a
    function for each length of a tuple.

    Args:
        name: the name of the method.
        arguments: names of arrays, and numbers with their types.
    """

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        groups = len(signature.args[-1])
        getattr(_Emitter(context, builder, signature, values, groups), name)()
        return context.get_dummy_value()

    parts = [each.partition(":") for each in arguments.split()]
    names = ", ".join(part[0] for part in parts)
    kinds = ", ".join(part[2] or part[0] for part in parts)
    # numba wants an explicit argument list.
    scope: dict[str, Any] = {
        "code": code, "none": types.none, "word": types.int64, "real": types.float64,
    }  # fmt: skip
    lines = f"def {name}(context, {names}, groups):\n    return none({kinds}, groups), code\n"
    exec(lines, scope)
    return intrinsic(scope[name])


# Operations on the lanes of a tuple of registers; a vector is given as (array, offset).
# (out, o, values, columns, first, last, r): out = Σ_n values_n · r[columns_n], n from first to
# last; r is [neuron, lane].
row_product = _intrinsic("row_product", "out o:word values columns first:word last:word r")
# (out, o, a, p, b, q): out += a ⊙ b.
multiply_add = _intrinsic("multiply_add", "out o:word a p:word b q:word")
# (out, o, number, b, q): out += number · b.
scaled_add = _intrinsic("scaled_add", "out o:word number:real b q:word")
