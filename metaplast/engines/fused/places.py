"""The offset of each vector of a step in the array of signals that the kernel works on.

The vectors that the backward sweep cannot recompute come first; among them, all traces.
"""

from __future__ import annotations

from metaplast.engines.fused.served import fadings_of, lowest_error, source_of, stack_of, traces_of
from metaplast.systems.learner import Learner
from metaplast.systems.traced import TracePlace
from metaplast.terms.algebra import (
    Gate,
    Kind,
    Mapped,
    Population,
    Projection,
    Signal,
    Vector,
)
from metaplast.terms.compiled import CompiledTerms

PAD = 16
NONE = -1


def padded(width: int) -> int:
    """Return the padded length of a vector of `width` numbers, in whole registers."""
    return -(-width // PAD) * PAD


class _Room:
    """Allocates space in the signals array, from its start."""

    def __init__(self) -> None:
        self.total = 0

    def take(self, width: int) -> int:
        """Return the offset of a new vector."""
        self.total += padded(width)
        return self.total - padded(width)


class Places:
    """The offset of every vector of one learner, by layer; NONE where there is no such vector.

    Attributes:
        f, y, e, k, c, z: activity of the forward pass, activity as terms read it, error, gain σ',
            carried error, net input. f is y, unless activities relax.
        ones: vectors of ones.
        mapped: functions of signals, by level and by offset and function of each factor.
        followed: the traces, in order.
        traces: their offsets, by matrix, layer and signal.
        fadings: each fading, as a vector whose first element it is and whose others are zero.
        sides: the compiled terms of W and of B.
        lowest: lowest layer with an error.
        saved: how many numbers of a step are kept.
        total: length of a step's signals.
    """

    def __init__(self, learner: Learner, inputs: int) -> None:
        self.learner = learner
        stack = stack_of(learner)
        self.widths = (inputs, *stack.widths[1:])
        self.layers = stack.layers
        self.lowest = lowest_error(learner)
        self.sides = {"W": learner.forward_plasticity, "B": learner.backward_plasticity}
        self.symmetric = source_of(stack) == "symmetric"
        self.relaxes = source_of(stack) == "relaxed"
        self.y, self.e, self.k, self.c, self.z = ([NONE] * (self.layers + 1) for _ in range(5))
        self.ones = [NONE] * (self.layers + 1)
        self.projections: dict[tuple[str, int, str], int] = {}
        self.mapped: dict[tuple[int, tuple[tuple[int, str], ...]], int] = {}
        self.followed = traces_of(learner)
        self.traces: dict[tuple[str, int, Signal], int] = {}
        self.fadings: dict[str, int] = {}
        self._room = _Room()
        self.f = self.y
        (self._place_relaxed if self.relaxes else self._place_levels)()
        self._place_saved()
        self.saved = self._room.total
        self._place_others()
        self.f = [self.y[0], *self.f[1:]]
        self.total = self._room.total

    def _place_relaxed(self) -> None:
        """Place what the loops of a relaxation read, each kind for all levels in one piece."""
        below, top = range(1, self.layers), self.layers
        self.f = [NONE] * (self.layers + 1)
        for kind in (self.f, self.k, self.y):
            for level in below:
                kind[level] = self._room.take(self.widths[level])
        for kind in (self.z, self.e):
            for level in (*below, top):
                kind[level] = self._room.take(self.widths[level])
        self.f[top] = self.y[top] = self._room.take(self.widths[top])
        if self.lowest == 0:
            self.c[0] = self._room.take(self.widths[0])

    def _place_levels(self) -> None:
        take = self._room.take
        for level in range(1, self.layers + 1):
            self.y[level] = take(self.widths[level])
            if self._reads_net_input:
                self.z[level] = take(self.widths[level])
        for level in range(1, self.layers):
            self.k[level] = take(self.widths[level])
        for level in range(self.lowest, self.layers):
            self.c[level] = take(self.widths[level])

    def _place_saved(self) -> None:
        take = self._room.take
        for name, plasticity in self.sides.items():
            for vector in dict.fromkeys(plasticity.vectors):
                if isinstance(vector, Projection) and self._is_formed(plasticity, vector):
                    self._place_projection(name, vector)
        for place in self.followed:
            name, layer = _matrix(place)
            level = _level(layer, place.signal.population)
            self.traces[name, layer, place.signal] = take(self.widths[level])

    def _place_projection(self, name: str, vector: Projection) -> None:
        for layer in range(1, self.layers + 1):
            level = layer - 1 if name == "W" else layer
            shared = name == "W" and vector.signal.kind == "error" and self.symmetric
            if shared and level >= self.lowest:
                place = self.c[level]  # Wᵀe is the carried error itself.
            else:
                place = self._room.take(self.widths[level])
            self.projections[name, layer, vector.signal.kind] = place

    def _place_others(self) -> None:
        take = self._room.take
        for level in range(self.layers + 1):
            if level == 0:
                self.y[0], self.k[0] = take(self.widths[0]), take(self.widths[0])
            elif self.z[level] == NONE:
                self.z[level] = take(self.widths[level])
            self.ones[level] = take(self.widths[level])
            if level >= self.lowest and self.e[level] == NONE:
                self.e[level] = take(self.widths[level])
            elif level < self.layers and self.c[level] == NONE:
                self.c[level] = take(self.widths[level])
        self._place_mapped()
        self.fadings = {name: take(1) for name in fadings_of(self.learner)}

    def _place_mapped(self) -> None:
        read = (
            (name, vector)
            for name, side in self.sides.items()
            for vector in side.vectors
            if isinstance(vector, Mapped)
        )
        for name, vector in dict.fromkeys(read):
            for layer in range(1, self.layers + 1):
                key = self._mapped_key(name, layer, vector)
                if key not in self.mapped:
                    self.mapped[key] = self._room.take(self.widths[key[0]])

    def _mapped_key(
        self, name: str, layer: int, vector: Mapped
    ) -> tuple[int, tuple[tuple[int, str], ...]]:
        """Return the level of a function's signals, and their offsets with their functions."""
        factors = (
            (self._signal(name, layer, signal), function) for signal, function in vector.factors
        )
        return _level(layer, vector.population), tuple(factors)

    @property
    def _reads_net_input(self) -> bool:
        return any(map(self._is_net_input, self.sides["W"].gates))

    def _is_formed(self, plasticity: CompiledTerms, vector: Projection) -> bool:
        """Return whether Mᵀu itself is needed, not only ⟨Wᵀu, y⟩ = ⟨u, z⟩."""
        gates = [gate for gate in plasticity.gates if not self._is_net_input(gate)]
        read = {*plasticity.columns, *(side for g in gates for side in (g.left, g.right))}
        return vector in read

    def offset(self, name: str, layer: int, vector: Vector) -> int:
        """Return the offset of a vector at the synapses of a layer's matrix."""
        if isinstance(vector, Projection):
            return self.projections[name, layer, vector.signal.kind]
        if isinstance(vector, Mapped):
            return self.mapped[self._mapped_key(name, layer, vector)]
        return self._signal(name, layer, vector)

    def _signal(self, name: str, layer: int, signal: Signal) -> int:
        trace = self.traces.get((name, layer, signal))
        if trace is not None:
            return trace
        level = _level(layer, signal.population)
        return {"activity": self.y, "error": self.e, "one": self.ones}[signal.kind][level]

    def maps(self) -> list[tuple[int, int, int, str, int, str]]:
        """Return each function of signals: its offset, its length, and both of its factors.

        A factor is given by its offset and its function; the second factor is (NONE, "") if there
        is only one.
        """
        found = []
        for (level, factors), place in self.mapped.items():
            first, second = [*factors, (NONE, "")][:2]
            found.append((place, padded(self.widths[level]), *first, *second))
        return found

    def trace_rows(self) -> list[tuple[int, int, int, str]]:
        """Return each trace: its offset, its length, and the offset and function of its signal."""
        found = []
        for place in self.followed:
            name, layer = _matrix(place)
            length = padded(self.widths[_level(layer, place.signal.population)])
            source = self._signal(name, layer, place.followed.signal)
            to = self.traces[name, layer, place.signal]
            found.append((to, length, source, place.followed.function))
        return found

    def gates(self, name: str, layer: int) -> list[tuple[int, int, int]]:
        """Return the gates of a layer's matrix: offsets of their two vectors, and their length.

        The scalar products come first, then the fadings, each as ⟨u, 1⟩.
        """
        side, ones = self.sides[name], self.ones[layer]
        products = [self._gate(name, layer, gate) for gate in side.gates]
        return products + [(self.fadings[scalar], ones, PAD) for scalar in side.scalars]

    def _gate(self, name: str, layer: int, gate: Gate) -> tuple[int, int, int]:
        """Return the offsets of a gate's two vectors, and their length."""
        if self._is_net_input(gate):
            projection = gate.left if isinstance(gate.left, Projection) else gate.right
            assert isinstance(projection, Projection)
            u = self.offset(name, layer, projection.signal)
            return u, self.z[layer], padded(self.widths[layer])
        level = _level(layer, gate.left.population)
        left, right = (self.offset(name, layer, side) for side in (gate.left, gate.right))
        return left, right, padded(self.widths[level])

    def _is_net_input(self, gate: Gate) -> bool:
        """Return whether the gate is ⟨Wᵀu, y_{ℓ-1}⟩, which is ⟨u, z_ℓ⟩ and needs no product."""
        sides = (gate.left, gate.right)
        return not self.relaxes and any(
            isinstance(a, Projection) and a.matrix.name == "W" and b == Signal("pre", "activity")
            for a, b in (sides, sides[::-1])
        )

    def jobs(self, name: str, layer: int, kinds: tuple[Kind, ...]) -> list[tuple[int, int]]:
        """Return the (u, Mᵀu) offsets of one layer."""
        found = []
        for kind in kinds:
            place = self.projections.get((name, layer, kind))
            if place is None or place in self.c:  # If in `c`, the feedback computes it anyway.
                continue
            population = _row_side(name)
            found.append((self.offset(name, layer, Signal(population, kind)), place))
        return found

    def trace_jobs(self, name: str, layer: int) -> list[tuple[int, int]]:
        """Return the (u, Mᵀu) offsets of one layer where u is a trace."""
        kinds = {s.kind: None for matrix, at, s in self.traces
                 if (matrix, at, s.population) == (name, layer, _row_side(name))}  # fmt: skip
        return self.jobs(name, layer, tuple(kinds))


def _matrix(place: TracePlace) -> tuple[str, int]:
    """Return the name of the matrix whose synapses read a trace, and its layer, from 1."""
    return place.group.matrix.name, place.group.site + 1


def _row_side(name: str) -> Population:
    return "post" if name == "W" else "pre"


def _level(layer: int, population: Population) -> int:
    return layer if population == "post" else layer - 1
