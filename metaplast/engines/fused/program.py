"""A learner as arrays of numbers for the kernel, without names of terms or signals.

All vectors of one step lie in one array, the *signals*; each vector is identified by its offset in
it. The adjoints of the signals lie in a second array at the same offsets. The first `saved`
elements are kept for every step, because the backward sweep cannot recompute them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metaplast.engines.fused.places import NONE, Places, padded
from metaplast.engines.fused.relaxation import Relaxation
from metaplast.engines.fused.served import source_of, stack_of
from metaplast.systems.learner import Learner
from metaplast.terms.algebra import Kind, Projection, Signal
from metaplast.terms.compiled import Entry

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[Any]

KINDS: tuple[Kind, ...] = ("activity", "error", "one")
_ONE = -2
# Source of the errors: a fixed matrix, Wᵀ, |M|ᵀ ⊙ sign(W), or plastic B.
STILL, SYMMETRIC, SIGNED, PLASTIC = range(4)
SOFTPLUS, TANH, RELU, SOFTMAX, ERROR, NOTHING = range(6)
# Functions of signals.
SAME, SQUARE, CUBE, SIGN, RECTIFIED, MAGNITUDE = range(6)
_FUNCTIONS = {
    "same": SAME, "square": SQUARE, "cube": CUBE, "sign": SIGN, "rectified": RECTIFIED,
    "magnitude": MAGNITUDE,
}  # fmt: skip
_ACTIVATIONS = {"softplus": SOFTPLUS, "tanh": TANH, "relu": RELU}


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
        early: offsets of (u, Mᵀu) for products formed while M is swept forward, [layer, job, 2], -1
            after the last.
        late: the same for products that need an error first.
        slow: the same for products in which u is a trace.
        changes: whether any term changes the matrix.
        decays: whether a term changes it in proportion to itself.
    """

    rows: Integers
    columns: Integers
    gates: Integers
    entries: Integers
    coefficients: Numbers
    filled: int
    early: Integers
    late: Integers
    slow: Integers
    changes: bool
    decays: bool


class Net(NamedTuple):
    """Sizes and offsets that do not depend on the rule.

    Attributes:
        widths: neurons of each layer 0 … L, dropped pixels not counted.
        pads: the same, padded to whole registers.
        w: offset of W_ℓ [pads ℓ, pads ℓ-1], ℓ = 1 … L, and the total, [layer + 1].
        b: offset of the matrix that carries errors to level ℓ-1, and the total, [layer + 1].
        f, y, e, k, c, z: offsets of the forward activity, activity, error, gain σ', carried error,
            net input, by layer.
        ones: offsets of vectors of ones, by layer, or -1.
        fadings: offset of each fading.
        signals: length of a step's signals.
        saved: how many of these numbers are kept for every step.
        state: size of W, and of B if it is plastic.
        lowest: lowest layer with an error.
        source: STILL, SYMMETRIC, SIGNED or PLASTIC.
        direct: whether the output error goes straight to each layer.
        detached: whether W's part in the feedback has no gradient.
        relaxes: whether activities relax, so that y is not f.
        carried: the errors of the levels `lowest` … `carried` − 1 are carried through a matrix.
        activation: SOFTPLUS, TANH or RELU.
    """

    widths: Integers
    pads: Integers
    w: Integers
    b: Integers
    f: Integers
    y: Integers
    e: Integers
    k: Integers
    c: Integers
    z: Integers
    ones: Integers
    fadings: Integers
    signals: int
    saved: int
    state: int
    lowest: int
    source: int
    direct: bool
    detached: bool
    relaxes: bool
    carried: int
    activation: int


class Traces(NamedTuple):
    """The traces x̄ ← (1 − 1/τ) x̄ + f(x)/τ of a step, one after another among its signals.

    Attributes:
        table: offsets of x̄, length, offset of x, and f, [trace, 4]; x may be an earlier trace.
        keep: 1 − 1/τ, [trace].
        share: 1/τ, [trace].
        first: offset of the first.
        size: length of all of them.
    """

    table: Integers
    keep: Numbers
    share: Numbers
    first: int
    size: int


class Program(NamedTuple):
    """The whole learner: net, forward and backward plasticity, traces.

    `lost` gives the value of each column vector of W_1 at a dropped pixel: -1 for zero, -2 for one,
    or the offset of u if the vector is Wᵀu. Each row of `maps` is a function of signals: its
    offset, its length, and the offset and function of both factors, -1 if there is only one.
    """

    net: Net
    forward: Side
    backward: Side
    lost: Integers
    maps: Integers
    traces: Traces
    relaxation: Relaxation | None

    @property
    def sweeps(self) -> int:
        """Number of sweeps of a relaxation; 0 if nothing relaxes."""
        return 0 if self.relaxation is None else self.relaxation.sweeps


def build(learner: Learner, inputs: int, dtype: npt.DTypeLike) -> Program:
    """Return the program of a learner whose images have `inputs` pixels after dropping."""
    places = Places(learner, inputs)
    widths, pads = places.widths, [padded(w) for w in places.widths]
    sizes = [pads[x] * pads[x + 1] for x in range(places.layers)]
    stack = stack_of(learner)
    kernel = source_of(stack)
    direct = kernel == "direct"
    carried = [pads[x] * pads[-1] for x in range(places.layers)] if direct else sizes
    source = _source(learner)
    if source == SYMMETRIC:
        carried = [0] * places.layers
    net = Net(
        widths=_table(widths, 1),
        pads=_table(pads, 1),
        w=_starts(sizes),
        b=_starts(carried),
        f=_table(places.f, 1),
        y=_table(places.y, 1),
        e=_table(places.e, 1),
        k=_table(places.k, 1),
        c=_table(places.c, 1),
        z=_table(places.z, 1),
        ones=_table(places.ones, 1),
        fadings=_table(list(places.fadings.values()), 1),
        signals=places.total,
        saved=places.saved,
        state=sum(sizes) + (sum(carried) if source == PLASTIC else 0),
        lowest=places.lowest,
        source=source,
        direct=direct,
        detached=kernel == "detached",
        relaxes=places.relaxes,
        # A relaxation finds the errors of all levels but the input's.
        carried=1 if places.relaxes else places.layers,
        activation=_ACTIVATIONS[stack.nonlinearity.kind],
    )
    forward, backward = _side(places, "W", dtype), _side(places, "B", dtype)
    traces = _traces(places, dtype)
    relaxation = Relaxation.of(stack, pads, np.dtype(dtype).type)
    return Program(net, forward, backward, _lost(places), _maps(places), traces, relaxation)


def _maps(places: Places) -> Integers:
    """Return the functions of signals, see `Program`."""
    maps = [
        (place, length, first, _FUNCTIONS[one], second, _FUNCTIONS.get(other, NONE))
        for place, length, first, one, second, other in places.maps()
    ]
    return np.array(maps, dtype=np.int64).reshape(-1, 6)


def _traces(places: Places, dtype: npt.DTypeLike) -> Traces:
    """Return the traces, see `Traces`."""
    rows = [(to, length, x, _FUNCTIONS[f]) for to, length, x, f in places.trace_rows()]
    taus = [place.followed.tau for place in places.followed]
    return Traces(
        np.array(rows, dtype=np.int64).reshape(-1, 4),
        np.array([1 - 1 / tau for tau in taus], dtype=dtype),
        np.array([1 / tau for tau in taus], dtype=dtype),
        rows[0][0] if rows else 0,
        sum(length for _, length, *_ in rows),
    )


def _side(places: Places, name: str, dtype: npt.DTypeLike) -> Side:
    """Return one plasticity tensor."""
    plasticity = places.sides[name]
    layers = range(1, places.layers + 1)
    monomials = (*plasticity.entries, *plasticity.decays)
    # For W, a hidden layer's activity is known as soon as its row is; an error is not.
    early: tuple[Kind, ...] = ("activity", "one") if name == "W" else KINDS
    late: tuple[Kind, ...] = ("error",) if name == "W" else ()
    if places.relaxes:  # Activities are not known either, before they have relaxed.
        early, late = ("one",), ("activity", "error")
    return Side(
        _table([[places.offset(name, x, v) for v in plasticity.rows] for x in layers], 2),
        _table([[places.offset(name, x, v) for v in plasticity.columns] for x in layers], 2),
        _table([places.gates(name, x) for x in layers], 3),
        _entries(monomials, len(plasticity.columns)),
        np.array([m.coefficient for m in monomials], dtype=dtype),
        len(plasticity.entries),
        _jobs([places.jobs(name, x, early) for x in layers]),
        _jobs([places.jobs(name, x, late) for x in layers]),
        _jobs([places.trace_jobs(name, x) for x in layers]),
        bool(plasticity.entries or plasticity.decays),
        bool(plasticity.decays),
    )


def _lost(places: Places) -> Integers:
    """Return what each column vector of W_1 is at a dropped pixel, see `Program`."""
    codes = []
    for vector in places.sides["W"].columns:
        if isinstance(vector, Projection):
            codes.append(places.offset("W", 1, vector.signal))
        else:
            is_one = isinstance(vector, Signal) and vector.kind == "one"
            codes.append(_ONE if is_one else NONE)
    return _table(codes, 1)


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
    most = max(len(KINDS), *map(len, layers))
    table = np.full((len(layers), most + 1, 2), NONE, dtype=np.int64)
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


def _source(learner: Learner) -> int:
    kernel = source_of(stack_of(learner))
    if kernel in ("symmetric", "detached", "relaxed"):
        return SYMMETRIC
    if kernel == "signed":
        return SIGNED
    return STILL if learner.backward_plasticity.is_empty else PLASTIC
