"""A recurrent learner as arrays of numbers for the kernel, without names of terms or signals.

All vectors of one step lie in one flat array, each signal as rows, one for each occurrence. Every
step overwrites the first part of the array. Then come blocks, one for each step, which are kept for
the backward sweep. An offset is relative to the first part if `kept` is 0, and to a block if it is
1. The adjoints lie in a second array at the same offsets, with only one block.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
Numbers = npt.NDArray[Any]


class Side(NamedTuple):
    """One matrix [height, width] and the terms that change it.

    Attributes:
        site: row of θ.
        times: number of occurrences, K.
        height, tall: rows of the matrix, and the same padded.
        width, wide: columns of the matrix, and the same padded.
        w, turned: offset of the matrix, and of its transpose.
        rows: row vectors a: offset, kept, occurrences, [a, 3].
        columns: column vectors r: offset, kept, whether r needs a gradient, [b, 3].
        cells: cells of G in use: row, column, occurrences, [cell, 3].
        gates: offset and kept of both vectors, their length, occurrences, [gate, 6].
        entries: θ's index, the cell or -1 for a decay, then gates or -1, [monomial, 2 + depth].
        coefficients: [monomial].
        projections: products Wᵀu: offset and kept of u, offset of the product, which is kept,
            occurrences, [product, 4].
        grows: whether a term changes the matrix in proportion to itself.
    """

    site: int
    times: int
    height: int
    tall: int
    width: int
    wide: int
    w: int
    turned: int
    rows: Integers
    columns: Integers
    cells: Integers
    gates: Integers
    entries: Integers
    coefficients: Numbers
    projections: Integers
    grows: bool


class Net(NamedTuple):
    """Sizes and offsets that do not depend on the rule.

    Attributes:
        neurons, inputs, outputs, n, m, o: widths, and the same padded.
        time, frames, show, shown, reads: T, frames of an input, steps of a frame, steps with an
            input, and steps with a target.
        reach: first time step with an error.
        x: the inputs [shown, m].
        y, e, c: activities, errors, and errors before they are multiplied by σ', [time, n], kept.
        output, error: softmax and output errors, [reads, o], kept.
        below, has_below: errors at the inputs [time, m], kept, and whether terms read them.
        z, logit, has_potential: potentials of the neurons [time, n] and of the output [reads, o],
            kept, and whether terms read them.
        u, has_drive: drives W_h σ(z_{t-1}) [time, n], kept, and whether terms read them.
        first: length of the part that every step overwrites.
        size: length of a step's block.
        weights: length of all matrices.
        down, up: matrices that carry errors down, and their transposes, [3].
        sizes: offsets of |M|, the magnitudes of SIGNED feedback, [3].
        source: STILL, SYMMETRIC, DETACHED or SIGNED.
        sigma: the activation, as `scans.activations` numbers it.
        lanes: numbers in a register.
        turned: length of the transposes and of the matrices that carry errors.
    """

    neurons: int
    inputs: int
    outputs: int
    n: int
    m: int
    o: int
    time: int
    frames: int
    show: int
    shown: int
    reads: int
    reach: int
    x: int
    y: int
    e: int
    c: int
    output: int
    error: int
    below: int
    has_below: bool
    z: int
    logit: int
    has_potential: bool
    u: int
    has_drive: bool
    first: int
    size: int
    weights: int
    down: Integers
    up: Integers
    sizes: Integers
    source: int
    sigma: int
    lanes: int
    turned: int


class Program(NamedTuple):
    """The whole learner: the network, and what changes W_x, W_h and W_o.

    `ones` lists the blocks of ones: offset, rows, numbers in a row, and the same padded.
    """

    net: Net
    input: Side
    recurrent: Side
    readout: Side
    ones: Integers
