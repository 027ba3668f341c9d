"""Memory for one episode, laid out once and reused by one episode after another."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metaplast.engines.fused.memory import Memory, Pending, Relaxing
from metaplast.engines.fused.places import NONE, padded
from metaplast.engines.fused.program import PLASTIC, Net, Numbers, Program, Side

_ALIGNMENT = 64
# These arrays need not be cleared, because the kernel writes them before it reads them.
_BULKY = ("w_bar", "b_bar", "kept", "history", "final", "final_traces")
_Shapes = dict[str, tuple[int, ...]]


class Sizes(NamedTuple):
    """Numbers of steps, query images, kept copies of weights, and dropped pixels to update."""

    steps: int
    queries: int
    slots: int
    lost: int


_spare: deque[Arena] = deque()
# Bytes. Larger arenas are not kept: compared with a long episode, a new one costs little.
_MOST_SPARE = 2**26


class _Layout(NamedTuple):
    """Everything that the layout of an episode's memory depends on."""

    program: Program
    dtype: np.dtype[Any]
    sizes: Sizes
    gradient: bool

    def is_that_of(self, other: _Layout) -> bool:
        return self.program is other.program and self[1:] == other[1:]


class Arena:
    """Memory of one episode at a time, reused for the next: new memory pages cost milliseconds."""

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
    """Lend an arena that no other thread uses; a thread-local one would be lost with its thread."""
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
    only, factors = (
        int(gradient),
        4 + max(_slow_jobs(program.forward), _slow_jobs(program.backward)) + 2 * program.sweeps,
    )
    return {
        "w": (weights,),
        "w_bar": (weights * only,),
        "b": (carriers,),
        "b_bar": (plastic * only,),
        "kept": (sizes.slots * only * (weights + plastic),),
        "history": (sizes.steps * only * net.saved,),
        "signals": (2 * net.signals,),
        "adjoints": (net.signals,),
        "trace_bar": (program.traces.size * only,),
        "left": (factors * widest,),
        "right": (factors * widest,),
        "zeros": (max(widest, lost),),
        "query_y": (queries * neurons,),
        "query_k": (queries * neurons,),
        "query_bar": (queries * neurons,),
        "query_t": (queries * widest,),
        "final": (weights,),
        "final_b": (plastic,),
        "final_traces": (program.traces.size,),
        "lost": (int(net.pads[1]) * lost,),
        "lost_v": (max(program.forward.rows.shape[1], 1) * lost,),
        "lost_p": (lost,),
        "lost_scale": (1,),
    }


def _slow_jobs(side: Side) -> int:
    """Return the largest number of products of a trace with one layer's matrix."""
    return int((side.slow[:, :, 0] >= 0).sum(1).max())


def _relaxing_shapes(program: Program) -> _Shapes:
    """Return the shape of each array of a relaxation, see `Relaxing`."""
    n, net = program.sweeps, program.net
    total, outputs = (int(net.pads[1:].sum()), int(net.widths[-1])) if n else (0, 0)
    hidden = total - int(net.pads[-1]) if n else 0
    shapes = dict.fromkeys(("p", "e", "p_bar"), (n, total))
    shapes |= dict.fromkeys(("q", "d", "q_bar"), (n, hidden))
    shapes |= dict.fromkeys(("c", "g"), (n + 1, hidden))
    shapes |= {"layers": (8, total), "hidden": (2, hidden)}
    shapes |= {"work": (5, hidden), "top": (5, outputs)}
    return {**shapes, "target": (outputs,)}


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
    """Return memory for one episode of these sizes; earlier memory of the arena becomes invalid."""
    return arena.memory(_Layout(program, np.dtype(dtype), sizes, gradient))


def _laid_out(arena: Arena, layout: _Layout) -> tuple[Memory, Numbers]:
    """Return an episode's memory in an arena, and the bytes to clear before each episode."""
    program, dtype, sizes, gradient = layout
    sides, widest = (program.forward, program.backward), int(program.net.pads.max())
    shapes = _shapes(program, sizes, gradient=gradient)
    bulky = {key: shapes.pop(key) for key in _BULKY}
    groups = [*(_pending_shapes(program.net, side) for side in sides), _relaxing_shapes(program)]
    groups.append(shapes)
    line = _ALIGNMENT // dtype.itemsize
    every = [shape for group in (*groups, bulky) for shape in group.values()]
    arena.reset(dtype, sum(-(-math.prod(shape) // line) * line for shape in every))
    *pending, relaxing, arrays = (_taken(arena, group) for group in groups)
    whole = np.int32 if dtype.itemsize == 4 else np.int64
    bits, top_bits = (relaxing[name][1].view(whole) for name in ("work", "top"))
    cleared = arena.taken()
    forward, backward = (
        Pending(**group, span=max(side.rows.shape[1], 1) * widest)
        for group, side in zip(pending, sides, strict=True)
    )
    slots = np.empty(sizes.steps, dtype=np.int64)
    arrays |= _taken(arena, bulky)
    room = Relaxing(**relaxing, bits=bits, top_bits=top_bits)
    memory = Memory(**arrays, slots=slots, forward=forward, backward=backward, relaxing=room)
    return memory, cleared


def _taken(arena: Arena, shapes: _Shapes) -> dict[str, Numbers]:
    return {key: arena.take(shape) for key, shape in shapes.items()}
