"""The whole algorithm as a plain loop, one line for each equation: the slow reference.

`Simulation` computes the same numbers much faster.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.reservoirs.algorithm import Algorithm
from metaplast.reservoirs.network import Dynamics, Network, Noise, Schedule
from metaplast.reservoirs.tasks import Task

# The factor of the filter of e, from which the distance D is computed.
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


@dataclass
class _Plain:
    """The state of one run, with the parts of a step as methods."""

    task: Task
    algorithm: Algorithm
    dynamics: Dynamics
    J: Numbers
    Q: Numbers
    x: Numbers

    def __post_init__(self) -> None:
        K, N = self.task.outputs, self.dynamics.neurons
        self.costs = np.asarray(self.algorithm.costs or [0.0] * K)
        self.W1, self.W2, self.P = np.zeros((K, N)), np.zeros((K, N)), np.eye(N) / 10
        self.r, self.z = np.tanh(self.x), np.zeros(K)
        self.b = FIRST_NOISE if self.algorithm.explores else 0.0
        self.z2_mean = self.z_mean = self.z
        self.e_mean = self.m = np.nan  # Before the first step.

    def present(self, fed: Numbers, noise: tuple[Numbers, Numbers] | None) -> None:
        """Run a step of the reservoir and of the output; None for no noise, as in the test."""
        self.x = self.x + self.dynamics.leak * (-self.x + self.J @ self.r + self.Q @ fed)
        self.r = np.tanh(self.x)
        if noise is not None:
            self.r = self.r + noise[0]
            self.z2 = self.W2 @ self.r + self.b * noise[1][: self.task.outputs]
        elif self.algorithm.masters:
            self.z2 = np.zeros(self.task.outputs)
        else:
            self.z2 = self.W2 @ self.r
        self.z = self.W1 @ self.r + self.z2

    def judge(self, wanted: Numbers, learns: bool) -> None:
        """Compute e, and the filters of z_2, of z and of e."""
        a, how = self.algorithm.memory, self.algorithm
        if np.isnan(self.m):
            self.z2_mean, self.z_mean = self.z2, self.z
        if learns or how.masters or how.cost_of == "output":
            self.z2_mean = a * self.z2_mean + (1 - a) * self.z2
        self.z_mean = a * self.z_mean + (1 - a) * self.z
        movement = self.z - (self.z2_mean if how.cost_of == "exploration" else self.z_mean)
        distance = self.task.position(self.z) - wanted
        self.e = float((distance**2).sum() + (self.costs * np.abs(movement)).sum())
        if np.isnan(self.m):
            self.e_mean, self.m = self.e, self.e
        self.m = FILTER * self.m + (1 - FILTER) * self.e
        if learns:
            self.e_mean = 0.8 * self.e_mean + 0.2 * self.e

    def explore(self) -> None:
        """Change W_2, and the size of the next noise."""
        how, d = self.algorithm, self.e_mean - self.e
        self.b = how.noise_size * (10 * self.e_mean) ** how.noise_power
        phi = 5 * abs(d) ** 0.25
        if d < 0:
            phi = 0.0 if how.one_sided else -phi
        push = how.exploration_rate * phi * (self.z2 - self.z2_mean)
        self.W2 = self.W2 + np.outer(push, self.r)

    def master(self, wanted: Numbers) -> float:
        """Change P and W_1; return the gate s."""
        how = self.algorithm
        if how.supervised:
            s, q = 1.0, wanted - self.z
        else:
            s = 0.5 * (1 - np.tanh(SHARPNESS * (self.e_mean - how.threshold)))
            q = self.z2_mean if how.smooth else self.z2
        k = self.P @ self.r
        c = 1 / (1 + self.r @ k)
        self.P = self.P - s * c * np.outer(k, k)
        self.W1 = self.W1 + how.mastery_rate * s * c * np.outer(q, k)
        return float(s)


def run_plainly(
    task: Task, algorithm: Algorithm, target: Numbers, dynamics: Dynamics, schedule: Schedule,
    network: Network, noise: Iterator[tuple[Numbers, Numbers]],
) -> Trajectory:  # fmt: skip
    """Run one algorithm on one task.

    Args:
        task: the map from outputs to positions.
        algorithm: its coefficients.
        target: one period, [step, 2].
        dynamics: the reservoir's constants.
        schedule: steps of learning and of the test.
        network: J, Q and x_0.
        noise: the noise of each step of learning: of the rates [neuron], and U(−1, 1) [output].
    """
    feedback = network.feedback[:, : task.outputs]
    run = _Plain(task, algorithm, dynamics, network.dense(), feedback, network.start)
    outputs: list[Numbers] = []
    distances, gates = [], []
    for i in range(schedule.steps):
        learns, wanted = i < schedule.learning, target[i % schedule.period]
        fed = run.z
        if not learns:
            fed = outputs[i - schedule.lag * schedule.period] if task.is_arm else wanted
        run.present(fed, next(noise) if learns else None)
        run.judge(wanted, learns)
        if learns and algorithm.explores:
            run.explore()
        if learns and algorithm.masters and (i + 1) % schedule.mastery_every == 0:
            gates.append(run.master(wanted))
        outputs.append(run.z)
        distances.append(np.sqrt(run.m))
    positions = task.position(np.array(outputs))
    return Trajectory(np.array(distances), positions, np.array(gates), run.W2, run.W1, run.P)


def step_by_step(noise: Noise) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield the noise of one step after another, without end."""
    while True:
        yield from zip(*noise.draw(), strict=True)
