"""The gradient of the deviance over long recordings, by reverse mode with checkpoints.

The forward sensitivities of `kernel` cost one matrix for each coefficient. If only the gradient is
needed, and no information matrix, reverse mode is cheaper by about the number of coefficients. The
weights are kept every √T steps, and the steps in between are run again in the backward pass. With
M̄ = ∂L/∂W after a step, per synapse,

    θ̄_k += η M̄·F_k,    ȳ += η M̄·∂g/∂y,    M̄ ← M̄ (1 + η ∂g/∂W) + f'(z) ȳ x.

Weights V that were observed before a step add 2 λ (W − V) to M̄, with the precision λ of `moments`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import require
from metaplast.recordings.arrays import Flags, Places
from metaplast.recordings.kernel import (
    LARGEST,
    activity,
    compiled,
    inlined,
    most,
    raise_power,
    raise_powers,
)
from metaplast.recordings.moments import Problem
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.pieces import DivergedError, Parameters
from metaplast.recordings.published import initial
from metaplast.recordings.remembering import clocks_of
from metaplast.recordings.trajectory import Trajectory


@inlined
def _tables(
    terms: Places,
    theta: Numbers,
    rs: Numbers,
    ys: Numbers,
    xs: Numbers,
    table: Numbers,
    parts: Numbers,
) -> None:
    """Write the coefficients of 1, W, W², … at each synapse, with derivatives with respect to y.

    `parts` is [2, power of W, pre]: Σ_k θ_k r^d y^b x^a, and its derivative with respect to y.
    """
    table[:] = 0.0
    for k in range(theta.shape[0]):
        if theta[k] != 0.0:
            a, b, c, d = terms[k, 0], terms[k, 1], terms[k, 2], terms[k, 3]
            common = theta[k] * rs[d]
            table[0, c, a] += common * ys[b]
            if b > 0:
                table[1, c, a] += common * b * ys[b - 1]
    for side in range(2):
        for c in range(parts.shape[1]):
            for j in range(parts.shape[2]):
                parts[side, c, j] = table[side, c, 0]
            for a in range(1, xs.shape[0]):
                factor = table[side, c, a]
                for j in range(parts.shape[2]):
                    parts[side, c, j] += factor * xs[a, j]


@compiled
def _forward(
    code: int, eta: float, theta: Numbers, terms: Places, x: Numbers, r: Numbers, plastic: Flags,
    w: Numbers, kept: Numbers, y: Numbers,
) -> bool:  # fmt: skip
    """Run some steps; write y, and write the weights before each step to `kept`."""
    pres = w.shape[1]
    most_x, most_w = most(terms, 0), most(terms, 2)
    xs, table = np.ones((most_x, pres)), np.zeros((2, most_w, most_x))
    ys, rs = np.ones(4), np.ones(4)
    parts = np.zeros((2, most_w, pres))
    for t in range(x.shape[0]):
        if kept.shape[0] > 0:
            kept[t] = w
        raise_powers(x[t], xs)
        raise_power(r[t], rs)
        for i in range(w.shape[0]):
            z = 0.0
            for j in range(pres):
                z += w[i, j] * x[t, j]
            y[t, i], _ = activity(code, z)
            if not plastic[t]:
                continue
            raise_power(y[t, i], ys)
            _tables(terms, theta, rs, ys, xs, table, parts)
            largest = 0.0
            for j in range(pres):
                change = parts[0, most_w - 1, j]
                for c in range(most_w - 2, -1, -1):
                    change = change * w[i, j] + parts[0, c, j]
                w[i, j] += eta * change
                largest = max(largest, abs(w[i, j]))
            if not largest < LARGEST:
                return False
    return True


@inlined
def _sums(
    w: Numbers, m: Numbers, xs: Numbers, parts: Numbers, power: Numbers, own: Numbers,
    sums: Numbers,
) -> float:  # fmt: skip
    """Write Σ_j M̄ x^a W^c, which give every θ̄_k, and M̄ ∂g/∂W; return M̄·∂g/∂y."""
    most_x, most_w, pres = xs.shape[0], parts.shape[1], w.shape[0]
    through = 0.0
    own[:] = 0.0
    for j in range(pres):
        power[j] = m[j]
    for c in range(most_w):
        for a in range(most_x):
            found = 0.0
            for j in range(pres):
                found += power[j] * xs[a, j]
            sums[a, c] = found
        if c + 1 < most_w:
            for j in range(pres):
                own[j] += (c + 1) * parts[0, c + 1, j] * power[j]
        for j in range(pres):
            through += power[j] * parts[1, c, j]
            power[j] *= w[j]
    return through


@compiled
def _back(
    code: int, eta: float, theta: Numbers, terms: Places, x: Numbers, r: Numbers, plastic: Flags,
    kept: Numbers, y_bar: Numbers, w_bar: Numbers, theta_bar: Numbers,
) -> None:  # fmt: skip
    """Run the backward pass of some steps; change `w_bar` from ∂L/∂W after them to that before."""
    pres = w_bar.shape[1]
    most_x, most_w = most(terms, 0), most(terms, 2)
    xs, table = np.ones((most_x, pres)), np.zeros((2, most_w, most_x))
    ys, rs = np.ones(4), np.ones(4)
    parts, sums = np.zeros((2, most_w, pres)), np.zeros((most_x, most_w))
    power, own = np.empty(pres), np.empty(pres)
    for t in range(x.shape[0] - 1, -1, -1):
        raise_powers(x[t], xs)
        raise_power(r[t], rs)
        for i in range(w_bar.shape[0]):
            w, m = kept[t, i], w_bar[i]
            z = 0.0
            for j in range(pres):
                z += w[j] * x[t, j]
            y, slope = activity(code, z)
            through = y_bar[t, i]
            if plastic[t]:
                raise_power(y, ys)
                _tables(terms, theta, rs, ys, xs, table, parts)
                through += eta * _sums(w, m, xs, parts, power, own, sums)
                for k in range(theta_bar.shape[0]):
                    factor = eta * ys[terms[k, 1]] * rs[terms[k, 3]]
                    theta_bar[k] += factor * sums[terms[k, 0], terms[k, 2]]
                for j in range(pres):
                    m[j] += eta * own[j]
            for j in range(pres):
                m[j] += slope * through * x[t, j]


def gradient(
    problem: Problem, terms: tuple[MonomialTerm, ...], at: Parameters
) -> tuple[float, Numbers]:
    """Return the deviance and its gradient with respect to the coefficients, [term].

    For a trajectory of T steps, it keeps the weights of 2 √T steps in memory. Held-out steps do not
    enter the deviance.

    Args:
        problem: data, network and loss; the neurons themselves must be observed.
        terms: the terms of the rule.
        at: the parameters.

    Raises:
        UserError: if a term has a trace or an eligibility.
        DivergedError: if the weights diverge.
    """
    require(
        not clocks_of(terms),
        "gradient() takes terms without traces and eligibilities; use Problem.moments for terms "
        "that have them.",
    )
    total, theta_bar = 0.0, np.zeros(len(terms))
    powers = np.array([term.exponents for term in terms], dtype=np.int64).reshape(-1, 4)
    for each in problem.data.trajectories:
        total += _one(problem, each, powers, at, theta_bar)
    return total, theta_bar


def _one(
    problem: Problem, each: Trajectory, powers: Places, at: Parameters, theta_bar: Numbers
) -> float:
    code, eta = problem.layer.code, problem.layer.eta
    theta = np.ascontiguousarray(at.theta, dtype=float)
    w = np.array(initial(each, at), dtype=float)
    length = max(1, math.isqrt(each.steps))
    y, nothing = np.empty((each.steps, len(w))), np.empty((0, *w.shape))
    spans = _spans(each, length)
    checkpoints = []
    for span in spans:
        checkpoints.append(w.copy())
        fine = _forward(
            code, eta, theta, powers, each.inputs[span], each.reward[span], each.plastic[span], w,
            nothing, y[span],
        )  # fmt: skip
        if not fine:
            raise DivergedError
    mean = problem.loss.within(problem.layer.mean(y, at.gain))
    seen = ~np.isnan(each.observed) & (each.cluster >= 0)[:, None]
    observed = np.where(seen, each.observed, 0.0)
    y_bar = np.where(seen, -2 * at.gain * problem.loss.score(observed, mean), 0.0)
    w_bar = np.zeros_like(w)
    kept = np.empty((length, *w.shape))
    total = float(np.where(seen, problem.loss.deviance(observed, mean), 0.0).sum())
    for span, before in zip(spans[::-1], checkpoints[::-1], strict=True):
        seen_weights = each.weights.get(span.start)
        errors = np.zeros_like(w)
        if seen_weights is not None and each.cluster[span.start] >= 0:
            errors = np.nan_to_num(before - seen_weights)
        inputs, reward, plastic = each.inputs[span], each.reward[span], each.plastic[span]
        _forward(
            code, eta, theta, powers, inputs, reward, plastic, before, kept[: len(inputs)], y[span]
        )
        _back(
            code, eta, theta, powers, inputs, reward, plastic, kept, y_bar[span], w_bar, theta_bar,
        )  # fmt: skip
        w_bar += 2 * problem.precision * errors
        total += problem.precision * float(np.square(errors).sum())
    return total


def _spans(each: Trajectory, length: int) -> list[slice]:
    """Return stretches of at most `length` steps; a new one begins where weights were observed."""
    starts = sorted({*range(0, each.steps, length), *each.weights})
    return [slice(start, end) for start, end in pairwise([*starts, each.steps])]
