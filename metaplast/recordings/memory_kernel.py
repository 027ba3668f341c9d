"""Compiled steps of a layer whose rule has traces and eligibilities, with all derivatives.

As in `kernel`, S_k = ∂W/∂p_k is carried forward together with the weights. The parameters p are the
coefficients, log τ of traces and eligibilities, and others. With ρ = 1/τ and u = log τ, so that
∂ρ/∂u = −ρ,

    v̄ ← v̄ + ρ (v − v̄),          ∂v̄/∂p_k ← (1 − ρ) ∂v̄/∂p_k + ρ ∂v/∂p_k,
                                ∂v̄/∂u   gains  −ρ (v − v̄),
    E ← (1 − ρ) E + F,          ∂E/∂p_k ← (1 − ρ) ∂E/∂p_k + ∂F/∂p_k,
                                ∂E/∂u   gains  ρ E,

where v̄ and E on the right are the values before the step. F = Y X W^c is the product of a factor Y
of the neuron and a factor X of its input; each is a power of the activity, times a trace if the
term has one. A term of the rule is θ_k R F or θ_k R E with a factor R of the reward. This module
imports numba.
"""

from __future__ import annotations

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.recordings.arrays import Flags
from metaplast.recordings.kernel import LARGEST, compiled, inlined, look, raise_powers
from metaplast.recordings.memory_plan import Factors, Kept, Plan, Row, Traces


@compiled
def _follow(value: Numbers, traces: Traces, kept: Numbers, by_tau: Numbers) -> None:
    """Update traces, [trace, neuron], with the powers of some values, [neuron]."""
    for m in range(kept.shape[0]):
        rate = traces.rate[m]
        for j in range(kept.shape[1]):
            followed = value[j] ** traces.power[m]
            by_tau[m, j] = (1.0 - rate) * by_tau[m, j] - rate * (followed - kept[m, j])
            kept[m, j] = (1.0 - rate) * kept[m, j] + rate * followed


@compiled
def _shared(plan: Plan, x: Numbers, r: float, kept: Kept, factors: Factors) -> None:
    """Update the traces of x and r, and write the factors that all neurons share."""
    _follow(x, plan.x, kept.x, kept.x_by_tau)
    for m in range(kept.r.shape[0]):
        rate = plan.r.rate[m]
        kept.r_by_tau[m] = (1.0 - rate) * kept.r_by_tau[m] - rate * (r - kept.r[m])
        kept.r[m] = (1.0 - rate) * kept.r[m] + rate * r
    for p in range(plan.pre.shape[0]):
        power, m = plan.pre[p, 0], plan.pre[p, 1]
        for j in range(x.shape[0]):
            own = x[j] ** power
            factors.x[p, j] = own if m < 0 else own * kept.x[m, j]
            factors.x_by_tau[p, j] = 0.0 if m < 0 else own * kept.x_by_tau[m, j]
    for d in range(plan.reward.shape[0]):
        power, m = plan.reward[d, 0], plan.reward[d, 1]
        own = r**power
        factors.r[d] = own if m < 0 else own * kept.r[m]
        factors.r_by_tau[d] = 0.0 if m < 0 else own * kept.r_by_tau[m]


@compiled
def _of_neuron(plan: Plan, i: int, y: float, dy: Numbers, kept: Kept, factors: Factors) -> None:
    """Update the traces of a neuron, and write its factors with their derivatives."""
    traces, by = kept.y[i], kept.y_by[i]
    for m in range(traces.shape[0]):
        rate, power = plan.y.rate[m], plan.y.power[m]
        followed = y**power
        slope = rate * power * y ** (power - 1)
        for k in range(dy.shape[0]):
            by[m, k] = (1.0 - rate) * by[m, k] + slope * dy[k]
        if plan.y.clock[m] >= 0 and dy.shape[0] > 0:
            by[m, plan.y.clock[m]] -= rate * (followed - traces[m])
        traces[m] = (1.0 - rate) * traces[m] + rate * followed
    for q in range(plan.post.shape[0]):
        power, m = plan.post[q, 0], plan.post[q, 1]
        own = y**power
        slope = power * y ** (power - 1) if power > 0 else 0.0
        value = 1.0 if m < 0 else traces[m]
        factors.y[q] = own * value
        for k in range(dy.shape[0]):
            factors.y_by[q, k] = slope * value * dy[k]
            if m >= 0:
                factors.y_by[q, k] += own * by[m, k]


@compiled
def _collect(plan: Plan, i: int, slopes: Numbers, kept: Kept, factors: Factors, row: Row) -> None:
    """Update the eligibilities of a row, and the derivatives of those that the rule uses."""
    for e in range(plan.eligible.shape[0]):
        p, q, c = plan.eligible[e, 0], plan.eligible[e, 1], plan.eligible[e, 2]
        place = plan.eligible[e, 3]
        rate, held = plan.decay[e], kept.eligible[i, e]
        if place >= 0 and slopes.shape[0] > 0:
            by = kept.eligible_by[i, place]
            y = factors.y[q]
            for k in range(slopes.shape[0]):
                y_by = factors.y_by[q, k]
                for j in range(slopes.shape[1]):
                    found = y_by * factors.x[p, j] * row.powers[c, j]
                    if c > 0:
                        inner = y * factors.x[p, j] * c * row.powers[c - 1, j]
                        found += inner * slopes[k, j]
                    by[k, j] = (1.0 - rate) * by[k, j] + found
            own, trace = plan.decay_clock[e], plan.pre[p, 1]
            if own >= 0:
                for j in range(slopes.shape[1]):
                    by[own, j] += rate * held[j]
            if trace >= 0 and plan.x.clock[trace] >= 0:
                for j in range(slopes.shape[1]):
                    more = y * factors.x_by_tau[p, j] * row.powers[c, j]
                    by[plan.x.clock[trace], j] += more
        for j in range(held.shape[0]):
            collected = factors.y[q] * factors.x[p, j] * row.powers[c, j]
            held[j] = (1.0 - rate) * held[j] + collected


@compiled
def _change(plan: Plan, i: int, eta: float, kept: Kept, factors: Factors, row: Row) -> None:
    """Write the change of a row, and its derivatives with respect to W and the neuron's factors."""
    row.change[:] = 0.0
    row.by_w[:] = 0.0
    row.by_y[:] = 0.0
    row.uses[:] = False
    for k in range(plan.theta.shape[0]):
        if plan.theta[k] == 0.0:
            continue
        p, q, c = plan.terms[k, 0], plan.terms[k, 1], plan.terms[k, 2]
        d, e = plan.terms[k, 3], plan.terms[k, 4]
        common = eta * plan.theta[k] * factors.r[d]
        if e >= 0:
            for j in range(row.change.shape[0]):
                row.change[j] += common * kept.eligible[i, e, j]
            continue
        row.uses[q] = True
        own = common * factors.y[q]
        for j in range(row.change.shape[0]):
            by_y = common * factors.x[p, j] * row.powers[c, j]
            row.by_y[q, j] += by_y
            row.change[j] += factors.y[q] * by_y
            if c > 0:
                row.by_w[j] += own * factors.x[p, j] * c * row.powers[c - 1, j]


@compiled
def _carry(
    plan: Plan, i: int, eta: float, slopes: Numbers, kept: Kept, factors: Factors, row: Row
) -> None:
    """Carry the derivatives of a row of W, [parameter, pre], over one step."""
    for k in range(slopes.shape[0]):
        for j in range(slopes.shape[1]):
            slopes[k, j] += row.by_w[j] * slopes[k, j]
        for q in range(row.uses.shape[0]):
            if row.uses[q]:
                through = factors.y_by[q, k]
                for j in range(slopes.shape[1]):
                    slopes[k, j] += row.by_y[q, j] * through
    for k in range(plan.theta.shape[0]):
        p, q, c = plan.terms[k, 0], plan.terms[k, 1], plan.terms[k, 2]
        d, e = plan.terms[k, 3], plan.terms[k, 4]
        size = eta * factors.r[d]
        for j in range(slopes.shape[1]):
            if e >= 0:
                slopes[k, j] += size * kept.eligible[i, e, j]
            else:
                slopes[k, j] += size * factors.y[q] * factors.x[p, j] * row.powers[c, j]
        if plan.theta[k] != 0.0:
            _carry_memory(plan, i, k, eta, slopes, kept, factors, row)


@inlined
def _carry_memory(
    plan: Plan, i: int, k: int, eta: float, slopes: Numbers, kept: Kept, factors: Factors, row: Row
) -> None:
    """Add the derivatives of a term that come from its eligibility and its traces of x and r."""
    p, q, c = plan.terms[k, 0], plan.terms[k, 1], plan.terms[k, 2]
    d, e = plan.terms[k, 3], plan.terms[k, 4]
    size = eta * plan.theta[k] * factors.r[d]
    if e >= 0:
        by = kept.eligible_by[i, plan.eligible[e, 3]]
        for other in range(slopes.shape[0]):
            for j in range(slopes.shape[1]):
                slopes[other, j] += size * by[other, j]
    trace = plan.pre[p, 1]
    if e < 0 and trace >= 0 and plan.x.clock[trace] >= 0:
        clock = plan.x.clock[trace]
        for j in range(slopes.shape[1]):
            slopes[clock, j] += size * factors.y[q] * factors.x_by_tau[p, j] * row.powers[c, j]
    trace = plan.reward[d, 1]
    if trace >= 0 and plan.r.clock[trace] >= 0:
        clock, size = plan.r.clock[trace], eta * plan.theta[k] * factors.r_by_tau[d]
        for j in range(slopes.shape[1]):
            if e >= 0:
                slopes[clock, j] += size * kept.eligible[i, e, j]
            else:
                slopes[clock, j] += size * factors.y[q] * factors.x[p, j] * row.powers[c, j]


@compiled
def _forget(kept: Kept) -> None:
    kept.x[:] = 0.0
    kept.x_by_tau[:] = 0.0
    kept.r[:] = 0.0
    kept.r_by_tau[:] = 0.0
    kept.y[:] = 0.0
    kept.y_by[:] = 0.0
    kept.eligible[:] = 0.0
    kept.eligible_by[:] = 0.0


@compiled
def advance_with_memory(
    code: int, eta: float, plan: Plan, inputs: Numbers, reward: Numbers, plastic: Flags,
    starts: Flags, weights: Numbers, slopes: Numbers, kept: Kept, y: Numbers, dy: Numbers,
) -> bool:  # fmt: skip
    """Run some steps of one trajectory; return False if the weights diverge.

    Like `kernel.advance`, but the rule and its time constants come as a plan.

    Args:
        code: the kernel's code for the activation.
        eta: the rate.
        plan: the rule.
        inputs: x, [time, pre].
        reward: r, [time].
        plastic: whether the weights change at a step, [time].
        starts: whether a trial begins at a step, [time].
        weights: W, [post, pre]; changed in place.
        slopes: ∂W/∂parameter, [post, parameter, pre]; changed in place.
        kept: traces and eligibilities; changed in place.
        y: the activities, [time, post]; written.
        dy: their derivatives, [time, post, parameter]; written.
    """
    posts, parameters, pres = slopes.shape
    shared, own = plan.pre.shape[0], plan.post.shape[0]
    factors = Factors(
        np.empty((shared, pres)), np.empty((shared, pres)), np.empty(plan.reward.shape[0]),
        np.empty(plan.reward.shape[0]), np.empty(own), np.empty((own, parameters)),
    )  # fmt: skip
    row = Row(
        np.empty(pres), np.empty(pres), np.empty((own, pres)), np.ones((4, pres)),
        np.empty(own, dtype=np.bool_),
    )  # fmt: skip
    for t in range(inputs.shape[0]):
        if starts[t]:
            _forget(kept)
        _shared(plan, inputs[t], reward[t], kept, factors)
        for i in range(posts):
            y[t, i], _ = look(code, weights[i], inputs[t], slopes[i], dy[t, i])
            _of_neuron(plan, i, y[t, i], dy[t, i], kept, factors)
            raise_powers(weights[i], row.powers)
            _collect(plan, i, slopes[i], kept, factors, row)
            if not plastic[t]:
                continue
            _change(plan, i, eta, kept, factors, row)
            if parameters > 0:
                _carry(plan, i, eta, slopes[i], kept, factors, row)
            largest = 0.0
            for j in range(pres):
                weights[i, j] += row.change[j]
                largest = max(largest, abs(weights[i, j]))
            # The comparison is False for NaN too.
            if not largest < LARGEST:
                return False
    return True
