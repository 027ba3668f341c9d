"""The kernel's working memory for one episode; the kernel allocates nothing while it runs.

Matrices lie one after another in flat arrays, each [padded rows, padded columns]. The padding is
zero, so a sum that includes it equals the sum over the neurons.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metaplast.engines.fused.program import Numbers


class Pending(NamedTuple):
    """The change of each layer's matrix in a step, and the change's adjoint.

    Two steps alternate: index `turn · layers + layer`, each with room for the widest layer.

    Attributes:
        a, v: the factors a [rank, rows] and V_a [rank, columns], one after another.
        g: the plasticity tensor G written out row by row, [turn · layers, cell].
        growth: −δ, [turn · layers].
        a_bar, v_bar, growth_bar: adjoints, one turn only; the last of growth_bar is scratch.
        span: length reserved for one layer's a or v.
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


class Relaxing(NamedTuple):
    """The arrays that a relaxation writes; see `metaplast.scans.relaxation_kernel`.

    Attributes:
        p, q, d, e, c, g: the vectors of one example, sweep by sweep.
        p_bar, q_bar: adjoints of the products.
        layers: ε, errors, adjoints of ε, of errors and of z, and three for intermediate results,
            each for layers 1 … L.
        hidden: adjoints of d and of the activities, for hidden layers.
        target: the label's one-hot vector.
        work, top: memory of the activations, and of the softmax; bits, top_bits: views of it.
    """

    p: Numbers
    q: Numbers
    d: Numbers
    e: Numbers
    c: Numbers
    g: Numbers
    p_bar: Numbers
    q_bar: Numbers
    layers: Numbers
    hidden: Numbers
    target: Numbers
    work: Numbers
    top: Numbers
    bits: Numbers
    top_bits: Numbers


class Memory(NamedTuple):
    """Everything that an episode reads and writes.

    Attributes:
        w, w_bar: forward weights and their adjoint.
        b, b_bar: the matrices that carry errors (see `Net.b`), and the adjoint of plastic B.
        kept: copies of w (and plastic b) before certain steps, one after another.
        slots: the position in `kept` of the weights before a step, or -1, [step].
        history: the saved signals of each step; empty without a gradient.
        signals: the signals of two steps, alternating.
        adjoints: the adjoints of one step's signals.
        trace_bar: adjoint of the traces of the step after it.
        forward, backward: pending changes of W and B.
        relaxing: the arrays that a relaxation writes; empty if nothing relaxes.
        left, right: factors of the terms that a step adds to a matrix's adjoint, [term, neuron].
        zeros: a vector of zeros.
        query_y, query_k, query_bar: activity, gain, and net input's adjoint of the query set, one
            layer after another, each [query, neuron].
        query_t: one layer's query_bar, transposed.
        final, final_b: the learned weights, and plastic backward weights.
        final_traces: the traces after the last step.
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
    trace_bar: Numbers
    forward: Pending
    backward: Pending
    relaxing: Relaxing
    left: Numbers
    right: Numbers
    zeros: Numbers
    query_y: Numbers
    query_k: Numbers
    query_bar: Numbers
    query_t: Numbers
    final: Numbers
    final_b: Numbers
    final_traces: Numbers
    lost: Numbers
    lost_v: Numbers
    lost_p: Numbers
    lost_scale: Numbers


class Task(NamedTuple):
    """One episode's data.

    Attributes:
        x: support images, [step, pixel]; gain: σ'(x) if a term or a trace reads e_0, else x.
        label: [step].
        fadings: [step, fading].
        pixels: which pixels are kept.
        query_x, query_target: [query, pixel], and class probabilities [query, class].
        theta: [layer, term]; theta_bar: its adjoint, to be filled.
        beta: the β of the softplus.
        spacing: most steps between two kept copies of the weights.
        limit: largest factor by which undoing the steps between two copies may amplify an error.
    """

    x: Numbers
    gain: Numbers
    label: npt.NDArray[np.int64]
    fadings: Numbers
    pixels: npt.NDArray[np.int64]
    query_x: Numbers
    query_target: Numbers
    theta: Numbers
    theta_bar: Numbers
    beta: Any
    spacing: int
    limit: float
