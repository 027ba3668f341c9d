"""The kernel's working memory for one episode; the kernel allocates nothing while it runs.

Matrices lie one after another in flat arrays, each [padded rows, padded columns]. The padding is
zero, so a sum that includes it equals the sum over the neurons.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metaplast.engines.fused.places import NONE, padded
from metaplast.engines.fused.program import PLASTIC, Net, Numbers, Program, Side

_ALIGNMENT = 64
_BULKY = ("w_bar", "b_bar", "kept", "history", "final")  # Written before they are read.
_Shapes = dict[str, tuple[int, ...]]


class Pending(NamedTuple):
    """The change of each layer's matrix in a step, and the change's adjoint.

    Two steps alternate: index `turn · layers + layer`, each with room for the widest layer.

    Attributes:
        a, v: the factors a [rank, rows] and V_a [rank, columns], one after another.
        g: the plasticity tensor G written out row by row, [turn · layers, cell].
        growth: −δ, [turn · layers].
        a_bar, v_bar, growth_bar: adjoints, one turn only; the last of growth_bar is scratch.
        span: room for one layer's a or v.
        scratch: gate values, their adjoints, and G's adjoint.
    """

    a: Numbers
    v: Numbers
    g: Numbers
    growth: Numbers
    a_bar: Numbers
    v_bar: Numbers
    growth_bar: Numbers
    span: int
    scratch: Numbers


class Memory(NamedTuple):
    """Everything that an episode reads and writes.

    Attributes:
        w, w_bar: forward weights and their adjoint.
        b, b_bar: the matrices that carry errors (see `Net.b`), and the adjoint of plastic B.
        kept: copies of w (and plastic b) before certain steps, one after another.
        slots: the slot in which the weights before a step are kept, or -1, [step].
        history: the saved signals of each step; empty without a gradient.
        signals: of two steps, alternating.
        adjoints: of one step's signals.
        forward, backward: pending changes of W and B.
        left, right: factors of what a step adds to a matrix's adjoint, [term, neuron].
        zeros: a vector of zeros.
        query_y, query_k, query_bar: activity, gain, and net input's adjoint of the query set, one
            layer after another, each [query, neuron].
        query_t: one layer's query_bar, transposed.
        final, final_b: the learned weights, and plastic backward weights.
        lost, lost_v, lost_p: columns at dropped pixels of W_1, of its change, of a projection;
            empty if the rule does not change them.
        lost_scale: the factor by which rows of B_1 at dropped pixels have decayed, [1].
    """

    w: Numbers
    w_bar: Numbers
    b: Numbers
    b_bar: Numbers
    kept: Numbers
    slots: npt.NDArray[np.int64]
    history: Numbers
    signals: Numbers
    adjoints: Numbers
    forward: Pending
    backward: Pending
    left: Numbers
    right: Numbers
    zeros: Numbers
    query_y: Numbers
    query_k: Numbers
    query_bar: Numbers
    query_t: Numbers
    final: Numbers
    final_b: Numbers
    lost: Numbers
    lost_v: Numbers
    lost_p: Numbers
    lost_scale: Numbers


class Task(NamedTuple):
    """One episode's data.

    Attributes:
        x: support images, [step, pixel]; gain: σ'(x) where e_0 is in use, else [1, pixel].
        label: [step].
        pixels: which pixels are kept.
        query_x, query_target: [query, pixel], and class probabilities [query, class].
        theta: [layer, term]; theta_bar: its adjoint, to be filled.
        beta: of the softplus.
        spacing: most steps between two kept copies of the weights.
        limit: largest factor by which undoing the steps between two copies may amplify an error.
    """

    x: Numbers
    gain: Numbers
    label: npt.NDArray[np.int64]
    pixels: npt.NDArray[np.int64]
    query_x: Numbers
    query_target: Numbers
    theta: Numbers
    theta_bar: Numbers
    beta: Any
    spacing: int
    limit: float


class Sizes(NamedTuple):
    """Numbers of steps, query images, kept copies of weights, and dropped pixels that change."""

    steps: int
    queries: int
    slots: int
    lost: int


_spare: deque[Arena] = deque()
_MOST_SPARE = 2**26  # Bytes. A larger arena is not kept: long episodes do not notice its cost.


class _Layout(NamedTuple):
    """What the arrays of an episode's memory depend on."""

    program: Program
    dtype: np.dtype[Any]
    sizes: Sizes
    gradient: bool

    def is_that_of(self, other: _Layout) -> bool:
        return self.program is other.program and self[1:] == other[1:]


class Arena:
    """Memory of one episode at a time, reused for the next: fresh pages cost milliseconds."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, dtype=np.uint8)
        self._used = 0
        self._last: tuple[_Layout, Memory, Numbers] | None = None

    @property
    def size(self) -> int:
        """Bytes held."""
        return int(self._bytes.size)

    def reset(self, dtype: npt.DTypeLike, count: int) -> None:
        """Make room for `count` numbers in total."""
        self._used, self._dtype = 0, np.dtype(dtype)
        needed = count * self._dtype.itemsize + _ALIGNMENT
        if self._bytes.size < needed:
            self._bytes = np.empty(needed, dtype=np.uint8)
        self._used = -self._bytes.ctypes.data % _ALIGNMENT

    def take(self, shape: tuple[int, ...]) -> Numbers:
        """Return an array that starts at a cache line."""
        size = math.prod(shape) * self._dtype.itemsize
        array = self._bytes[self._used : self._used + size].view(self._dtype).reshape(shape)
        self._used += -(-size // _ALIGNMENT) * _ALIGNMENT
        return array

    def taken(self) -> Numbers:
        """Return the bytes of all arrays so far."""
        return self._bytes[: self._used]

    def memory(self, layout: _Layout) -> Memory:
        """Return an episode's memory; it is laid out again only if the layout changed."""
        if self._last is None or not layout.is_that_of(self._last[0]):
            self._last = layout, *_laid_out(self, layout)
        _, memory, cleared = self._last
        cleared[...] = 0
        memory.slots[...] = NONE
        return memory


@contextmanager
def borrowed_arena() -> Iterator[Arena]:
    """Lend an arena that no other thread has; a thread-local one would end with its thread."""
    try:
        arena = _spare.pop()
    except IndexError:
        arena = Arena()
    try:
        yield arena
    finally:
        if arena.size <= _MOST_SPARE:
            _spare.append(arena)


def _shapes(program: Program, sizes: Sizes, *, gradient: bool) -> _Shapes:
    """Return the shape of each of an episode's arrays, except for the pending changes."""
    net = program.net
    weights, carriers = int(net.w[-1]), int(net.b[-1])
    plastic = carriers if net.source == PLASTIC else 0
    widest, neurons = int(net.pads.max()), int(net.pads.sum())
    queries, lost = padded(sizes.queries), padded(sizes.lost)
    only = int(gradient)
    return {
        "w": (weights,),
        "w_bar": (weights * only,),
        "b": (carriers,),
        "b_bar": (plastic * only,),
        "kept": (sizes.slots * only * (weights + plastic),),
        "history": (sizes.steps * only * net.saved,),
        "signals": (2 * net.signals,),
        "adjoints": (net.signals,),
        "left": (4 * widest,),
        "right": (4 * widest,),
        "zeros": (max(widest, lost),),
        "query_y": (queries * neurons,),
        "query_k": (queries * neurons,),
        "query_bar": (queries * neurons,),
        "query_t": (queries * widest,),
        "final": (weights,),
        "final_b": (plastic,),
        "lost": (int(net.pads[1]) * lost,),
        "lost_v": (max(program.forward.rows.shape[1], 1) * lost,),
        "lost_p": (lost,),
        "lost_scale": (1,),
    }


def _pending_shapes(net: Net, side: Side) -> _Shapes:
    layers, rank = side.rows.shape
    span = max(rank, 1) * int(net.pads.max())
    cells = rank * side.columns.shape[1]
    return {
        "a": (2 * layers * span,),
        "v": (2 * layers * span,),
        "g": (2 * layers, cells),
        "growth": (2 * layers,),
        "a_bar": (layers * span,),
        "v_bar": (layers * span,),
        "growth_bar": (layers + 1,),
        "scratch": (3, max(side.gates.shape[1], cells, 1)),
    }


def allocate(
    arena: Arena, program: Program, dtype: npt.DTypeLike, sizes: Sizes, *, gradient: bool
) -> Memory:
    """Return memory for one episode of these sizes; what the arena lent before becomes invalid."""
    return arena.memory(_Layout(program, np.dtype(dtype), sizes, gradient))


def _laid_out(arena: Arena, layout: _Layout) -> tuple[Memory, Numbers]:
    """Return an episode's memory in an arena, and the bytes to clear before each episode."""
    program, dtype, sizes, gradient = layout
    sides, widest = (program.forward, program.backward), int(program.net.pads.max())
    shapes = _shapes(program, sizes, gradient=gradient)
    bulky = {key: shapes.pop(key) for key in _BULKY}
    groups = [*(_pending_shapes(program.net, side) for side in sides), shapes]
    line = _ALIGNMENT // dtype.itemsize
    every = [shape for group in (*groups, bulky) for shape in group.values()]
    arena.reset(dtype, sum(-(-math.prod(shape) // line) * line for shape in every))
    *pending, arrays = (_taken(arena, group) for group in groups)
    cleared = arena.taken()
    forward, backward = (
        Pending(**group, span=max(side.rows.shape[1], 1) * widest)
        for group, side in zip(pending, sides, strict=True)
    )
    slots = np.empty(sizes.steps, dtype=np.int64)
    arrays |= _taken(arena, bulky)
    return Memory(**arrays, slots=slots, forward=forward, backward=backward), cleared


def _taken(arena: Arena, shapes: _Shapes) -> dict[str, Numbers]:
    return {key: arena.take(shape) for key, shape in shapes.items()}
