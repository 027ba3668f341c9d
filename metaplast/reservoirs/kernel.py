"""The compiled steps of a simulation, for all lanes at once.

Arrays are flat: [neuron, lane], [output, lane], and [neuron, output, lane] for readouts. This
module imports numba; it is imported only when a simulation begins.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.reservoirs.lane_vectors import WIDTH, multiply_add, row_product, scaled_add
from metaplast.reservoirs.plain_loop import FILTER
from metaplast.reservoirs.tasks import SHOULDER
from metaplast.reservoirs.vector_tanh import compiled, entry_point, inlined, tanh_of

_SHOULDER_X, _SHOULDER_Y = SHOULDER
_FILTER = FILTER


class Coefficients(NamedTuple):
    """The coefficients that differ between lanes, [lane] or [output, lane]."""

    arm: Numbers  # 1 for an arm, 0 for a pen.
    lengths: Numbers  # [output, lane], 0 beyond the last segment.
    used: Numbers  # [output, lane], 1 for each output of the lane.
    costs: Numbers  # [output, lane]
    whole: Numbers  # 1 if costs count z − z̄, 0 if z − z̄_2.
    explores: Numbers
    masters: Numbers
    rate: Numbers  # λ
    one_sided: Numbers
    memory: Numbers  # a
    test_memory: Numbers  # of z̄_2 in the test.
    size: Numbers
    power: Numbers


class State(NamedTuple):
    """The variables that change in each step; all arrays are float64."""

    x: Numbers  # [neuron, lane]
    r: Numbers
    drive: Numbers
    mastery: Numbers  # W_1, [neuron, output, lane]
    exploration: Numbers  # W_2
    k: Numbers  # [neuron, lane], of the last update of the mastery readout
    change: Numbers  # κ s c q, [output, lane]; not yet added to W_1
    z: Numbers  # [output, lane]
    z1: Numbers
    z2: Numbers
    z2_mean: Numbers
    z_mean: Numbers
    push: Numbers  # λ φ (z_2 − z̄_2), [output, lane]
    error: Numbers  # [lane]
    error_mean: Numbers
    bound: Numbers  # b
    filtered: Numbers  # m
    before: Numbers  # D at the end of learning
    total: Numbers  # Σ (D − before) over the test
    squares: Numbers  # Σ (D − before)²
    position: Numbers  # [2, lane]
    history: Numbers  # [lag · period, output, lane]


@inlined
def _filtered(c: Coefficients, s: State, lane: int, first: bool, learning: bool) -> float:
    """Set z and the filters of z_2 and z of a lane; return the cost of moving."""
    outputs, lanes = c.lengths.shape
    moved = 0.0
    for j in range(outputs):
        at = j * lanes + lane
        z2 = s.z2[at]
        z = s.z1[at] + z2
        s.z[at] = z
        if first:
            s.z2_mean[at] = z2
            s.z_mean[at] = z
        a = c.memory[lane] if learning else c.test_memory[lane]
        s.z2_mean[at] = a * s.z2_mean[at] + (1 - a) * z2
        a = c.memory[lane]
        s.z_mean[at] = a * s.z_mean[at] + (1 - a) * z
        usual = s.z_mean[at] if c.whole[lane] else s.z2_mean[at]
        moved += c.costs[j, lane] * abs(z - usual)
    return moved


@inlined
def _position(c: Coefficients, s: State, lane: int) -> tuple[float, float]:
    """Return h(z) of a lane."""
    outputs, lanes = c.lengths.shape
    if not c.arm[lane]:
        return s.z[lane], s.z[lanes + lane]
    x, y, angle = 0.0, 0.0, 0.0
    for j in range(outputs):
        if c.used[j, lane]:
            angle += s.z[j * lanes + lane]
            x += c.lengths[j, lane] * np.sin(np.pi * angle)
            y += c.lengths[j, lane] * np.cos(np.pi * angle)
    return x + _SHOULDER_X, y + _SHOULDER_Y


@inlined
def _explore(c: Coefficients, s: State, lane: int, e: float) -> None:
    """Set ē, b and λ φ (z_2 − z̄_2) of a lane."""
    outputs, lanes = c.lengths.shape
    e_mean = 0.8 * s.error_mean[lane] + 0.2 * e
    s.error_mean[lane] = e_mean
    d = e_mean - e
    phi = 5 * np.sqrt(np.sqrt(abs(d)))
    if d < 0:
        phi = 0.0 if c.one_sided[lane] else -phi
    if c.explores[lane]:
        s.bound[lane] = c.size[lane] * (10 * e_mean) ** c.power[lane]
    for j in range(outputs):
        at = j * lanes + lane
        s.push[at] = c.rate[lane] * phi * (s.z2[at] - s.z2_mean[at])


@compiled
def _judge(c: Coefficients, s: State, wanted: Numbers, first: bool, learning: bool) -> None:
    """Set h(z), e, its means, b and λ φ (z_2 − z̄_2) of every lane, from z_1 and z_2."""
    lanes = c.lengths.shape[1]
    for lane in range(lanes):
        moved = _filtered(c, s, lane, first, learning)
        x, y = _position(c, s, lane)
        s.position[lane], s.position[lanes + lane] = x, y
        e = (x - wanted[0]) ** 2 + (y - wanted[1]) ** 2 + moved
        s.error[lane] = e
        if first:
            s.error_mean[lane] = e
            s.filtered[lane] = e
        m = _FILTER * s.filtered[lane] + (1 - _FILTER) * e
        s.filtered[lane] = m
        if learning:
            s.before[lane] = np.sqrt(m)
            _explore(c, s, lane, e)
        else:
            more = np.sqrt(m) - s.before[lane]
            s.total[lane] += more
            s.squares[lane] += more**2


@compiled
def _read(s: State, rate_noise: Numbers, ones: Numbers, learning: bool, registers: Any) -> None:
    """Add the noise to r, and set z_1 = W_1 r and z_2 = W_2 r."""
    lanes = WIDTH * len(registers)
    outputs = s.z1.shape[0] // lanes
    for at in range(outputs * lanes):
        s.z1[at] = 0
        s.z2[at] = 0
    for i in range(s.x.shape[0] // lanes):
        at = i * lanes
        if learning:
            scaled_add(s.r, at, rate_noise[i], ones, 0, registers)
        for j in range(outputs):
            place = (i * outputs + j) * lanes
            multiply_add(s.z1, j * lanes, s.mastery, place, s.r, at, registers)
            multiply_add(s.z2, j * lanes, s.exploration, place, s.r, at, registers)


@compiled
def _add_outer(weights: Numbers, pushed: Numbers, rates: Numbers, registers: Any) -> None:
    """Change a readout by the outer product of a vector over outputs and one over neurons."""
    lanes = WIDTH * len(registers)
    outputs = pushed.shape[0] // lanes
    for i in range(rates.shape[0] // lanes):
        for j in range(outputs):
            place = (i * outputs + j) * lanes
            multiply_add(weights, place, pushed, j * lanes, rates, i * lanes, registers)


@compiled
def _relax(
    s: State, rows: Any, columns: Any, values: Any, feedback: Numbers, fed: Numbers, leak: float,
    registers: Any,
) -> None:  # fmt: skip
    """Set x and r = tanh x of the next step."""
    lanes = WIDTH * len(registers)
    neurons, outputs = feedback.shape
    for i in range(neurons):
        row_product(s.drive, i * lanes, values, columns, rows[i], rows[i + 1], s.r, registers)
        for j in range(outputs):
            scaled_add(s.drive, i * lanes, feedback[i, j], fed, j * lanes, registers)
    for n in range(s.x.shape[0]):
        s.x[n] += leak * (s.drive[n] - s.x[n])
    tanh_of(s.x, s.r)


@compiled
def _feed(
    c: Coefficients, s: State, wanted: Numbers, past: Numbers, learning: bool, fed: Numbers
) -> None:
    """Set the input of Q: z, or in the test the target for a pen and an earlier z for an arm."""
    outputs, lanes = c.lengths.shape
    for j in range(outputs):
        for lane in range(lanes):
            at = j * lanes + lane
            if learning:
                fed[at] = s.z[at]
            elif c.arm[lane]:
                fed[at] = past[at]
            else:
                fed[at] = wanted[j] if j < 2 else 0.0


@compiled
def _perturb(c: Coefficients, s: State, output_noise: Numbers, learning: bool) -> None:
    """Add the exploration noise to z_2; in the test, set z_2 = 0 for lanes that master."""
    outputs, lanes = c.lengths.shape
    for j in range(outputs):
        for lane in range(lanes):
            if learning:
                s.z2[j * lanes + lane] += c.used[j, lane] * s.bound[lane] * output_noise[j]
            elif c.masters[lane]:
                s.z2[j * lanes + lane] = 0


@entry_point
def _steps(
    registers: Any, c: Coefficients, s: State, rows: Any, columns: Any, values: Any,
    feedback: Numbers, leak: float, target: Numbers, rate_noise: Numbers, output_noise: Numbers,
    first: int, learning: bool,
) -> None:  # fmt: skip
    """Run one step for each row of `output_noise`; the first one is step `first`."""
    lanes = WIDTH * len(registers)
    outputs = feedback.shape[1]
    fed, ones = np.empty(outputs * lanes), np.ones(lanes)
    # W_1 changes by κ s c q kᵀ.
    _add_outer(s.mastery, s.change, s.k, registers)
    for step in range(first, first + output_noise.shape[0]):
        wanted = target[step % target.shape[0]]
        past = s.history[step % s.history.shape[0]]
        _feed(c, s, wanted, past, learning, fed)
        _relax(s, rows, columns, values, feedback, fed, leak, registers)
        _read(s, rate_noise[step - first], ones, learning, registers)
        _perturb(c, s, output_noise[step - first], learning)
        _judge(c, s, wanted, step == 0, learning)
        for at in range(outputs * lanes):
            past[at] = s.z[at]
        if learning:
            # W_2 changes by λ φ (z_2 − z̄_2) rᵀ.
            _add_outer(s.exploration, s.push, s.r, registers)


def compiled_steps(groups: int) -> Callable[..., None]:
    """Return the function that runs several steps of WIDTH · `groups` lanes."""
    return partial(_steps, (0,) * groups)
