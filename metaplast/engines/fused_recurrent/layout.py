"""The offsets of a recurrent learner's vectors and matrices in the kernel's arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metaplast.engines.fused.places import NONE, padded
from metaplast.engines.fused.vector_code import REGISTER
from metaplast.engines.fused_recurrent.program import Integers, Net, Program, Side
from metaplast.engines.fused_recurrent.sources import DETACHED, SIGNED, SOURCES, SYMMETRIC
from metaplast.scans.activations import KINDS
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.terms.algebra import Gate, Population, Projection, Signal, Vector, pre
from metaplast.terms.compiled import CompiledTerms


class _Room:
    """Allocates space in an array, from its start."""

    def __init__(self) -> None:
        self.total = 0

    def take(self, rows: int, width: int) -> int:
        """Return the offset of newly allocated rows."""
        at = self.total
        self.total += rows * width
        return at


class _Place(NamedTuple):
    """A signal: its offset, 1 if it is kept, and at how many occurrences it may be nonzero."""

    at: int
    kept: int
    times: int


class _Layout:
    """Gives an offset to every vector and matrix of a learner."""

    def __init__(self, learner: Learner, system: Recurrent, dtype: npt.DTypeLike) -> None:
        self.learner, self.system, self.dtype = learner, system, np.dtype(dtype)
        self.sizes = system.widths[1], system.widths[0], system.widths[2]
        self.n, self.m, self.o = map(padded, self.sizes)
        timing = system.timing
        self.time, self.shown = timing.time, timing.shown
        self.reads = timing.time if timing.each else 1
        self.anew, self.kept, self.turned = _Room(), _Room(), _Room()
        self.x = self.anew.take(self.shown, self.m)
        self.y, self.e, self.c = (self.kept.take(self.time, self.n) for _ in range(3))
        self.output, self.error = (self.kept.take(self.reads, self.o) for _ in range(2))
        self.has_below = pre.error in learner.plasticity(system.groups[0]).vectors
        self.below = self.kept.take(self.time * self.has_below, self.m)
        kinds = {signal.kind for signal in learner.reads}
        self.has_potential, self.has_drive = "potential" in kinds, "drive" in kinds
        self.z = self.kept.take(self.time * self.has_potential, self.n)
        self.logit = self.kept.take(self.reads * self.has_potential, self.o)
        self.u = self.kept.take(self.time * self.has_drive, self.n)
        self.ones: dict[int, int] = {}

    def program(self) -> Program:
        """Return the learner's program."""
        heights = (self.n, self.m), (self.n, self.n), (self.o, self.n)
        starts = np.cumsum([0, *(tall * wide for tall, wide in heights)]).tolist()
        turned = [self.turned.take(tall, wide) for tall, wide in heights]
        sides = [self._side(g, starts[g], turned[g]) for g in range(3)]
        widths = (self.n, self.m, self.o)
        ones = [(at, self.time, self.sizes[i], widths[i]) for i, at in self.ones.items()]
        net = self._net(starts[-1], heights, turned)
        return Program(net, sides[0], sides[1], sides[2], _table(ones, 4))

    def _net(self, weights: int, heights: Any, turned: list[int]) -> Net:
        system, timing, feedback = self.system, self.system.timing, self.system.feedback
        source = SOURCES[feedback.kernel or "symmetric"]
        down = [self.turned.take(tall, wide) for tall, wide in heights]
        reuses = source in (SYMMETRIC, DETACHED)
        up = turned if reuses else [self.turned.take(tall, wide) for tall, wide in heights]
        signed = [self.turned.take(tall, wide) if source == SIGNED else 0 for tall, wide in heights]
        reach = 0 if feedback.reach is None else max(0, timing.time - 1 - feedback.reach)
        neurons, inputs, outputs = self.sizes
        down_at, up_at, signed_at = (np.array(x, dtype=np.int64) for x in (down, up, signed))
        return Net(
            neurons, inputs, outputs, self.n, self.m, self.o, timing.time, timing.frames,
            timing.show, timing.shown, self.reads, reach, self.x, self.y, self.e, self.c,
            self.output, self.error, self.below, self.has_below, self.z, self.logit,
            self.has_potential, self.u, self.has_drive, self.anew.total, self.kept.total, weights,
            down_at, up_at, signed_at, source, KINDS[system.nonlinearity.kind],
            REGISTER // self.dtype.itemsize, self.turned.total,
        )  # fmt: skip

    def _count(self, group: int) -> int:
        return (self.time, self.time - 1, self.reads)[group]

    def _place(self, group: int, signal: Signal) -> _Place:
        """Return where a signal is at the synapses of a group."""
        count, is_post = self._count(group), signal.population == "post"
        if signal.kind == "one":
            return _Place(self._ones(group, signal.population), 0, count)
        if group == 0 and signal == pre.activity:
            return _Place(self.x, 0, self.shown)
        if group == 0 and signal == pre.error:
            return _Place(self.below, 1, count)
        if group == 2 and is_post:
            at = {"activity": self.output, "error": self.error, "potential": self.logit}
            return _Place(at[signal.kind], 1, count)
        at = {"activity": self.y, "error": self.e, "potential": self.z, "drive": self.u}
        first = (0, int(is_post), self.time - self.reads)[group]
        return _Place(at[signal.kind] + first * self.n, 1, count)

    def _wide(self, group: int, population: Population) -> int:
        """Return the length of a vector."""
        if population == "post":
            return self.o if group == 2 else self.n
        return self.m if group == 0 else self.n

    def _ones(self, group: int, population: Population) -> int:
        """Return the offset of rows of ones, with one number for each neuron of a population."""
        key = (2 if group == 2 else 0) if population == "post" else (1 if group == 0 else 0)
        if key not in self.ones:
            self.ones[key] = self.anew.take(self.time, (self.n, self.m, self.o)[key])
        return self.ones[key]

    def _side(self, group: int, w: int, turned: int) -> Side:
        terms = self.learner.plasticity(self.system.groups[group])
        count, wide = self._count(group), self._wide(group, "pre")
        used = _occurrences(terms, lambda s: self._place(group, s).times, count)
        places: dict[Vector, _Place] = {}
        projections = []
        for vector in dict.fromkeys(terms.vectors):
            if isinstance(vector, Projection):
                u, at = self._place(group, vector.signal), self.kept.take(count, wide)
                places[vector] = _Place(at, 1, used[vector])
                projections.append((u.at, u.kept, at, used[vector]))
            else:
                assert isinstance(vector, Signal)
                places[vector] = self._place(group, vector)
        return self._tables(group, terms, places, (w, turned), projections)

    def _tables(
        self, group: int, terms: CompiledTerms, places: dict[Vector, _Place], at: tuple[int, int],
        projections: Sequence[tuple[int, ...]],
    ) -> Side:  # fmt: skip
        pairs = dict.fromkeys((e.row or 0, e.column or 0) for e in terms.entries)
        cells = [(a, b, places[terms.columns[b]].times) for a, b in pairs]
        most = [max(c for r, _, c in cells if r == a) for a in range(len(terms.rows))]
        rows = [(*places[v][:2], count) for v, count in zip(terms.rows, most, strict=True)]
        columns = [(*places[v][:2], places[v] != self._input(group)) for v in terms.columns]
        numbers = {pair: index for index, pair in enumerate(pairs)}
        entries = [(e, numbers[e.row or 0, e.column or 0]) for e in terms.entries]
        entries += [(decay, NONE) for decay in terms.decays]
        depth = max((len(e.gates) for e, _ in entries), default=0)
        rest = [NONE] * depth
        height, width = list(self.system.shapes.values())[group]
        return Side(
            group, self._count(group), height, padded(height), width, padded(width), *at,
            _table(rows, 3), _table(columns, 3), _table(cells, 3),
            _table([self._gate(group, gate, places) for gate in terms.gates], 6),
            _table([(e.term, cell, *e.gates, *rest[len(e.gates) :]) for e, cell in entries],
                   2 + depth),
            np.array([e.coefficient for e, _ in entries], dtype=self.dtype),
            _table(projections, 4), bool(terms.decays),
        )  # fmt: skip

    def _input(self, group: int) -> _Place | None:
        return self._place(0, pre.activity) if group == 0 else None

    def _gate(self, group: int, gate: Gate, places: dict[Vector, _Place]) -> tuple[int, ...]:
        left, right = places[gate.left], places[gate.right]
        width = self._wide(group, gate.left.population)
        return *left[:2], *right[:2], width, min(left.times, right.times)


def _occurrences(
    terms: CompiledTerms, known: Callable[[Signal], int], most: int
) -> dict[Vector, int]:
    """Return at how many occurrences each vector is read.

    Vectors of columns are read at all occurrences, those of gates only where the other side of the
    gate may be nonzero.
    """
    found: dict[Vector, int] = dict.fromkeys(terms.columns, most)
    for gate in terms.gates:
        for one, other in (gate.vectors, gate.vectors[::-1]):
            partner = known(other) if isinstance(other, Signal) else most
            found[one] = max(found.get(one, 0), partner)
    return found


def _table(rows: Sequence[Sequence[int]], width: int) -> Integers:
    return np.array(rows, dtype=np.int64).reshape(-1, width)


def build(learner: Learner, system: Recurrent, dtype: npt.DTypeLike) -> Program:
    """Return the program of a learner that `served.refusal` accepts."""
    return _Layout(learner, system, dtype).program()
