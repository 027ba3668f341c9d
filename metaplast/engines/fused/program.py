"""A learner as arrays of numbers for the kernel: without any names of terms or signals.

All vectors of one step lie in one array, the *signals*; each vector is identified by its offset in
it. The adjoints of the signals lie in a second array at the same offsets. The first `saved`
elements are kept for every step, because the backward sweep cannot recompute them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metaplast.systems.learner import Learner
from metaplast.terms.algebra import Gate, Kind, Population, Projection, Signal, Vector, pre
from metaplast.terms.compiled import CompiledTerms, Entry

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[Any]

PAD = 16
KINDS: tuple[Kind, ...] = ("activity", "error", "one")
NONE = -1
_ONE = -2
# Source of the errors: a fixed matrix, Wᵀ, |M|ᵀ ⊙ sign(W), or plastic B.
STILL, SYMMETRIC, SIGNED, PLASTIC = range(4)
SOFTPLUS, TANH, RELU, SOFTMAX, ERROR, NOTHING = range(6)
_ACTIVATIONS = {"softplus": SOFTPLUS, "tanh": TANH, "relu": RELU}


def padded(width: int) -> int:
    """Return the padded length of a vector of `width` numbers, in whole registers."""
    return -(-width // PAD) * PAD


class Side(NamedTuple):
    """One plasticity tensor, of W or of B, for every layer.

    Attributes:
        rows: offsets of the row vectors a, [layer, a].
        columns: offsets of the column vectors r, [layer, b].
        gates: offsets of both vectors and their length, [layer, gate, 3].
        entries: θ's index, the cell of G (a·columns + b), then gates or -1, [monomial, 2 + depth];
            entries first, then decays.
        coefficients: [monomial].
        filled: how many monomials are entries.
        early: (u, Mᵀu) offsets that can be formed while M is swept forward, [layer, job, 2], -1
            after the last.
        late: (u, Mᵀu) offsets that need an error first, likewise.
        changes: whether any term changes the matrix.
    """

    rows: Integers
    columns: Integers
    gates: Integers
    entries: Integers
    coefficients: Numbers
    filled: int
    early: Integers
    late: Integers
    changes: bool


class Net(NamedTuple):
    """Sizes and offsets that do not depend on the rule.

    Attributes:
        widths: neurons of each layer 0 … L, dropped pixels not counted.
        pads: the same, in whole registers.
        w: offset of W_ℓ [pads ℓ, pads ℓ-1], ℓ = 1 … L, and the total, [layer + 1].
        b: offset of the matrix that carries errors to level ℓ-1, and the total, [layer + 1].
        y, e, k, c, z: offsets of activity, error, gain σ', carried error, net input, by layer.
        ones: offsets of vectors of ones, by layer, or -1.
        signals: how many numbers a step's signals take.
        saved: how many of them are kept for every step.
        state: how many numbers W, and B if it is plastic, take.
        lowest: lowest layer with an error.
        source: STILL, SYMMETRIC, SIGNED or PLASTIC.
        direct: whether the output error goes straight to each layer.
        detached: whether W's part in the feedback has no gradient.
        activation: SOFTPLUS, TANH or RELU.
    """

    widths: Integers
    pads: Integers
    w: Integers
    b: Integers
    y: Integers
    e: Integers
    k: Integers
    c: Integers
    z: Integers
    ones: Integers
    signals: int
    saved: int
    state: int
    lowest: int
    source: int
    direct: bool
    detached: bool
    activation: int


class Program(NamedTuple):
    """The whole learner: net, forward and backward plasticity.

    `lost` says what each column vector of W_1 is at a dropped pixel: -1 zero, -2 one, or the offset
    of u where it is Wᵀu.
    """

    net: Net
    forward: Side
    backward: Side
    lost: Integers


class _Places:
    """Allocates places in the signals array."""

    def __init__(self) -> None:
        self.total = 0

    def take(self, width: int) -> int:
        """Return the offset of a new vector."""
        self.total += padded(width)
        return self.total - padded(width)


class _Builder:
    """Places of the vectors of one learner."""

    def __init__(self, learner: Learner, inputs: int) -> None:
        self.learner = learner
        self.widths = (inputs, *learner.network.widths[1:])
        self.layers = learner.network.layers
        self.lowest = lowest_error(learner)
        self.sides = {"W": learner.forward_plasticity, "B": learner.backward_plasticity}
        self.symmetric = learner.network.feedback.kernel == "symmetric"
        self.y, self.e, self.k, self.c, self.z = ([NONE] * (self.layers + 1) for _ in range(5))
        self.ones = [NONE] * (self.layers + 1)
        self.projections: dict[tuple[str, int, str], int] = {}
        self.places = _Places()
        self._place_saved()
        self.saved = self.places.total
        self._place_others()

    def _place_saved(self) -> None:
        take = self.places.take
        for level in range(1, self.layers + 1):
            self.y[level] = take(self.widths[level])
            if self._reads_net_input:
                self.z[level] = take(self.widths[level])
        for level in range(1, self.layers):
            self.k[level] = take(self.widths[level])
        for level in range(self.lowest, self.layers):
            self.c[level] = take(self.widths[level])
        for name, plasticity in self.sides.items():
            for vector in dict.fromkeys(plasticity.vectors):
                if isinstance(vector, Projection) and self._is_formed(plasticity, vector):
                    self._place_projection(name, vector)

    def _place_projection(self, name: str, vector: Projection) -> None:
        for layer in range(1, self.layers + 1):
            level = layer - 1 if name == "W" else layer
            shared = name == "W" and vector.signal.kind == "error" and self.symmetric
            if shared and level >= self.lowest:
                place = self.c[level]  # Wᵀe is the carried error itself.
            else:
                place = self.places.take(self.widths[level])
            self.projections[name, layer, vector.signal.kind] = place

    def _place_others(self) -> None:
        take = self.places.take
        for level in range(self.layers + 1):
            if level == 0:
                self.y[0], self.k[0] = take(self.widths[0]), take(self.widths[0])
            elif self.z[level] == NONE:
                self.z[level] = take(self.widths[level])
            self.ones[level] = take(self.widths[level])
            if level >= self.lowest:
                self.e[level] = take(self.widths[level])
            elif level < self.layers:
                self.c[level] = take(self.widths[level])

    @property
    def _reads_net_input(self) -> bool:
        return any(map(_is_net_input, self.sides["W"].gates))

    def _is_formed(self, plasticity: CompiledTerms, vector: Projection) -> bool:
        """Return whether Mᵀu itself is needed, not only ⟨Wᵀu, y⟩ = ⟨u, z⟩."""
        gates = [gate for gate in plasticity.gates if not _is_net_input(gate)]
        read = {*plasticity.columns, *(side for g in gates for side in (g.left, g.right))}
        return vector in read

    def offset(self, name: str, layer: int, vector: Vector) -> int:
        """Return the offset of a vector at the synapses of a layer's matrix."""
        if isinstance(vector, Projection):
            return self.projections[name, layer, vector.signal.kind]
        level = layer if vector.population == "post" else layer - 1
        return {"activity": self.y, "error": self.e, "one": self.ones}[vector.kind][level]

    def gate(self, name: str, layer: int, gate: Gate) -> tuple[int, int, int]:
        """Return the offsets of a gate's two vectors, and their length."""
        if _is_net_input(gate):
            projection = gate.left if isinstance(gate.left, Projection) else gate.right
            assert isinstance(projection, Projection)
            u = self.offset(name, layer, projection.signal)
            return u, self.z[layer], padded(self.widths[layer])
        level = layer if gate.left.population == "post" else layer - 1
        left, right = (self.offset(name, layer, side) for side in (gate.left, gate.right))
        return left, right, padded(self.widths[level])

    def jobs(self, name: str, layer: int, kinds: tuple[Kind, ...]) -> list[tuple[int, int]]:
        """Return the (u, Mᵀu) offsets of one layer."""
        found = []
        for kind in kinds:
            place = self.projections.get((name, layer, kind))
            if place is None or place in self.c:  # In `c`: the feedback forms it anyway.
                continue
            population: Population = "post" if name == "W" else "pre"
            found.append((self.offset(name, layer, Signal(population, kind)), place))
        return found

    def lost(self) -> Integers:
        """Return what each column vector of W_1 is at a dropped pixel, see `Program`."""
        codes = []
        for vector in self.sides["W"].columns:
            if isinstance(vector, Projection):
                codes.append(self.offset("W", 1, vector.signal))
            else:
                codes.append(_ONE if vector.kind == "one" else NONE)
        return _table(codes, 1)

    def side(self, name: str, dtype: npt.DTypeLike) -> Side:
        """Return one plasticity tensor."""
        plasticity = self.sides[name]
        layers = range(1, self.layers + 1)
        monomials = (*plasticity.entries, *plasticity.decays)
        # For W, a hidden layer's activity is known as soon as its row is; an error is not.
        early: tuple[Kind, ...] = ("activity", "one") if name == "W" else KINDS
        late: tuple[Kind, ...] = ("error",) if name == "W" else ()
        return Side(
            _table([[self.offset(name, x, v) for v in plasticity.rows] for x in layers], 2),
            _table([[self.offset(name, x, v) for v in plasticity.columns] for x in layers], 2),
            _table([[self.gate(name, x, g) for g in plasticity.gates] for x in layers], 3),
            _entries(monomials, len(plasticity.columns)),
            np.array([m.coefficient for m in monomials], dtype=dtype),
            len(plasticity.entries),
            _jobs([self.jobs(name, x, early) for x in layers]),
            _jobs([self.jobs(name, x, late) for x in layers]),
            bool(plasticity.entries or plasticity.decays),
        )


def _is_net_input(gate: Gate) -> bool:
    """Return whether the gate is ⟨Wᵀu, y_{ℓ-1}⟩, which is ⟨u, z_ℓ⟩ and needs no product."""
    sides = (gate.left, gate.right)
    return any(
        isinstance(a, Projection) and a.matrix.name == "W" and b == Signal("pre", "activity")
        for a, b in (sides, sides[::-1])
    )


def _table(values: Any, dimensions: int) -> Integers:
    """Return nested lists as an array; empty ones get a last axis of the right length."""
    array = np.array(values, dtype=np.int64)
    if array.ndim < dimensions:
        array = array.reshape(*array.shape, *[0] * (dimensions - array.ndim))
    return np.ascontiguousarray(array)


def _starts(sizes: list[int]) -> Integers:
    """Return where each of several blocks begins, and where the last one ends."""
    return np.cumsum([0, *sizes]).astype(np.int64)


def _jobs(layers: list[list[tuple[int, int]]]) -> Integers:
    """Return jobs as [layer, job, 2], the last of each layer followed by -1."""
    table = np.full((len(layers), len(KINDS) + 1, 2), NONE, dtype=np.int64)
    for row, jobs in zip(table, layers, strict=True):
        for cell, job in zip(row, jobs, strict=False):
            cell[:] = job
    return table


def _entries(monomials: tuple[Entry, ...], width: int) -> Integers:
    depth = max((len(m.gates) for m in monomials), default=0)
    table = np.full((len(monomials), 2 + depth), NONE, dtype=np.int64)
    for row, monomial in zip(table, monomials, strict=True):
        row[0], row[1] = monomial.term, monomial.cell(width)
        row[2 : 2 + len(monomial.gates)] = monomial.gates
    return table


def build(learner: Learner, inputs: int, dtype: npt.DTypeLike) -> Program:
    """Return the program of a learner whose images have `inputs` pixels after dropping."""
    builder = _Builder(learner, inputs)
    widths, pads = builder.widths, [padded(w) for w in builder.widths]
    sizes = [pads[x] * pads[x + 1] for x in range(builder.layers)]
    kernel = learner.network.feedback.kernel
    direct = kernel == "direct"
    carried = [pads[x] * pads[-1] for x in range(builder.layers)] if direct else sizes
    source = _source(learner)
    if source == SYMMETRIC:
        carried = [0] * builder.layers
    net = Net(
        widths=_table(widths, 1),
        pads=_table(pads, 1),
        w=_starts(sizes),
        b=_starts(carried),
        y=_table(builder.y, 1),
        e=_table(builder.e, 1),
        k=_table(builder.k, 1),
        c=_table(builder.c, 1),
        z=_table(builder.z, 1),
        ones=_table(builder.ones, 1),
        signals=builder.places.total,
        saved=builder.saved,
        state=sum(sizes) + (sum(carried) if source == PLASTIC else 0),
        lowest=builder.lowest,
        source=source,
        direct=direct,
        detached=kernel == "detached",
        activation=_ACTIVATIONS[learner.network.nonlinearity.kind],
    )
    forward, backward = builder.side("W", dtype), builder.side("B", dtype)
    return Program(net, forward, backward, builder.lost())


def lowest_error(learner: Learner) -> int:
    """Return 0 if a term reads the synthetic input error e_0, else 1: only terms need it."""
    return 0 if pre.error in learner.reads else 1


def may_drop(learner: Learner) -> bool:
    """Return whether pixels that are zero in every image of an episode can be left out exactly.

    True if the error at such a pixel is zero or not in use, and no gate and no product with B sums
    anything else over the pixels.
    """
    if lowest_error(learner) == 0 and learner.network.nonlinearity.kind == "tanh":
        return False
    forward, backward = learner.forward_plasticity, learner.backward_plasticity
    for gate in (*forward.gates, *backward.gates):
        vanishes = any(
            isinstance(side, Signal) and side.kind != "one" for side in (gate.left, gate.right)
        )
        if gate.left.population == "pre" and not vanishes:
            return False
    ones = [Signal("pre", "one")]
    return not any(
        (v in ones) or (isinstance(v, Projection) and v.signal in ones)
        for v in (*backward.rows, *backward.columns, *_sides(backward))
    )


def _sides(plasticity: CompiledTerms) -> tuple[Vector, ...]:
    return tuple(side for gate in plasticity.gates for side in (gate.left, gate.right))


def _source(learner: Learner) -> int:
    kernel = learner.network.feedback.kernel
    if kernel in ("symmetric", "detached"):
        return SYMMETRIC
    if kernel == "signed":
        return SIGNED
    return STILL if learner.backward_plasticity.is_empty else PLASTIC
