"""The whole algorithm as a plain loop, one line for one equation: slow, and the reference.

`simulate` computes the same numbers much faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.reservoirs.algorithm import Algorithm
from metaplast.reservoirs.network import Network, Noise, Reservoir, Schedule
from metaplast.reservoirs.tasks import Task

# Of the filter of e, from which the distance D is computed.
FILTER = 0.9998
# The exploration noise of the first step.
FIRST_NOISE = 0.01
# How sharply the gate of mastery closes.
SHARPNESS = 5e5


@dataclass
class Trajectory:
    """Everything that a plain loop computed.

    Attributes:
        distance: D_i = √m_i with m_i = 0.9998 m_{i−1} + 0.0002 e_i, [step].
        position: h(z), [step, 2].
        gate: s of every update of the mastery readout, [update].
        exploration, mastery: W_2 and W_1 at the end, [output, neuron].
        inverse: P at the end, [neuron, neuron].
    """

    distance: Numbers
    position: Numbers
    gate: Numbers
    exploration: Numbers
    mastery: Numbers
    inverse: Numbers


def run_plainly(
    task: Task, algorithm: Algorithm, target: Numbers, reservoir: Reservoir, schedule: Schedule,
    network: Network, noise: Iterator[tuple[Numbers, Numbers]],
) -> Trajectory:  # fmt: skip
    """Return what one algorithm does on one task.

    Args:
        task: from outputs to positions.
        algorithm: its coefficients.
        target: one period, [step, 2].
        reservoir: its constants.
        schedule: steps of learning and of the test.
        network: J, Q and x_0.
        noise: of each step of learning: of the rates [neuron], and U(−1, 1) [output].
    """
    K, N, a = task.outputs, reservoir.neurons, algorithm.memory
    J, Q, x = network.dense(), network.feedback[:, :K], network.start.copy()
    costs = np.asarray(algorithm.costs or [0.0] * K)
    W1, W2, P = np.zeros((K, N)), np.zeros((K, N)), np.eye(N) / 10
    r, z = np.tanh(x), np.zeros(K)
    b = FIRST_NOISE if algorithm.explores else 0.0
    fed_back: list[Numbers] = []
    distances, positions, gates = [], [], []
    for i in range(schedule.steps):
        learns = i < schedule.learning
        wanted = target[i % schedule.period]
        if learns:
            fed = z
        else:
            fed = fed_back[i - schedule.lag * schedule.period] if task.is_arm else wanted
        x = x + reservoir.leak * (-x + J @ r + Q @ fed)
        r = np.tanh(x)
        z2 = W2 @ r
        if learns:
            rate_noise, output_noise = next(noise)
            r = r + rate_noise
            z2 = W2 @ r + b * output_noise[:K]
        elif algorithm.masters:
            z2 = np.zeros(K)
        z1 = W1 @ r
        z = z1 + z2
        fed_back.append(z)
        if i == 0:
            z2_mean, z_mean = z2, z
        stands = not learns and not algorithm.masters and algorithm.cost_of == "exploration"
        z2_mean = z2_mean if stands else a * z2_mean + (1 - a) * z2
        z_mean = a * z_mean + (1 - a) * z
        movement = z - (z2_mean if algorithm.cost_of == "exploration" else z_mean)
        e = float(((task.position(z) - wanted) ** 2).sum() + (costs * np.abs(movement)).sum())
        if i == 0:
            e_mean, m = e, e
        m = FILTER * m + (1 - FILTER) * e
        distances.append(np.sqrt(m))
        positions.append(task.position(z))
        if not learns:
            continue
        e_mean = 0.8 * e_mean + 0.2 * e
        if algorithm.explores:
            b = algorithm.noise_size * (10 * e_mean) ** algorithm.noise_power
            d = e_mean - e
            phi = 5 * abs(d) ** 0.25
            if d < 0:
                phi = 0.0 if algorithm.one_sided else -phi
            W2 = W2 + algorithm.exploration_rate * phi * np.outer(z2 - z2_mean, r)
        if algorithm.masters and (i + 1) % schedule.mastery_every == 0:
            if algorithm.supervised:
                s, q = 1.0, wanted - z
            else:
                s = 0.5 * (1 - np.tanh(SHARPNESS * (e_mean - algorithm.threshold)))
                q = z2_mean if algorithm.smooth else z2
            k = P @ r
            c = 1 / (1 + r @ k)
            P = P - s * c * np.outer(k, k)
            W1 = W1 + algorithm.mastery_rate * s * c * np.outer(q, k)
            gates.append(s)
    return Trajectory(
        np.array(distances), np.array(positions), np.array(gates), W2, W1, P
    )


def step_by_step(noise: Noise) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the noise of one step after another, without end."""
    while True:
        yield from zip(*noise.draw(), strict=True)
