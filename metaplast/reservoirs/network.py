"""A reservoir's fixed parts, drawn from a seed, and its noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from metaplast.base.bands import Numbers
from metaplast.base.coerce import coerce
from metaplast.base.errors import require
from metaplast.base.seeds import numpy_generator


@dataclass(frozen=True)
class Dynamics:
    """Sizes and constants of a reservoir; the defaults are as published.

        x += (dt/τ)(−x + J r + Q z),   r = tanh x + U(−noise, noise)

    Attributes:
        neurons: N.
        density: probability that an entry of J is not zero.
        gain: g; the other entries are N(0, g²/(density · N)).
        time_step: dt.
        time_constant: τ, in the same unit.
        noise: the noise of the rates while learning.
    """

    neurons: int = 1000
    density: float = 0.1
    gain: float = 1.5
    time_step: float = 0.2
    time_constant: float = 10.0
    noise: float = 0.025

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: if one is invalid.
        """
        coerce(self)
        require(self.neurons >= 1, f"neurons must be at least 1, not {self.neurons}.")
        require(0 < self.density <= 1, f"density must be in (0, 1], not {self.density}.")
        require(math.isfinite(self.gain), f"gain must be a finite number, not {self.gain}.")
        require(
            0 <= self.noise < math.inf,
            f"noise must be a finite number of at least 0, not {self.noise}.",
        )
        require(
            0 < self.time_step <= self.time_constant < math.inf,
            f"time_step must be positive and at most time_constant, and both finite, not "
            f"{self.time_step} and {self.time_constant}.",
        )

    @property
    def leak(self) -> float:
        """dt/τ."""
        return self.time_step / self.time_constant


class Network(NamedTuple):
    """The fixed parts of a reservoir, and its initial state.

    Attributes:
        rows: [neuron + 1]; entries `rows[i]` to `rows[i + 1]` belong to row i of J.
        columns: the column of each entry of J, in order.
        values: the value of each entry of J.
        feedback: Q, [neuron, output].
        start: x_0, [neuron].
    """

    rows: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]
    feedback: Numbers
    start: Numbers

    def dense(self) -> Numbers:
        """Return J as a matrix, [neuron, neuron]."""
        matrix = np.zeros((len(self.start), len(self.start)))
        post = np.repeat(np.arange(len(self.start)), np.diff(self.rows))
        matrix[post, self.columns] = self.values
        return matrix


def draw(dynamics: Dynamics, outputs: int, seed: int) -> Network:
    """Return J, Q ~ U(−1, 1) and x_0 ~ U(−½, ½).

    J has the precision of float32, which halves the memory that a simulation reads. With fewer
    outputs, Q consists of the first columns of the Q with more.
    """
    n = dynamics.neurons
    random = numpy_generator(seed, "reservoir", "J")
    filled = random.random((n, n)) < dynamics.density
    size = dynamics.gain / np.sqrt(dynamics.density * n)
    post, pre = np.nonzero(filled)
    values = (size * random.standard_normal(len(post))).astype(np.float32)
    rows = np.concatenate([[0], np.cumsum(filled.sum(1))]).astype(np.int64)
    columns = [numpy_generator(seed, "reservoir", "Q", k).uniform(-1, 1, n) for k in range(outputs)]
    start = numpy_generator(seed, "reservoir", "x").uniform(-0.5, 0.5, n)
    return Network(rows, pre.astype(np.int32), values, np.stack(columns, 1), start)


class Noise:
    """The random numbers of all steps of a run, drawn in blocks.

    Args:
        dynamics: size, and noise of the rates.
        outputs: number of outputs.
        seed: the seed of the run.
        block: number of steps in a block; it does not change the numbers of a step.
    """

    def __init__(self, dynamics: Dynamics, outputs: int, seed: int, block: int) -> None:
        self._dynamics, self._block = dynamics, block
        self._rates = numpy_generator(seed, "reservoir", "noise of rates")
        self._outputs = [
            numpy_generator(seed, "reservoir", "noise of outputs", k) for k in range(outputs)
        ]

    def draw(self) -> tuple[Numbers, Numbers]:
        """Return the next block of noise: of the rates [step, neuron], U(−1, 1) [step, output]."""
        size, shape = self._dynamics.noise, (self._block, self._dynamics.neurons)
        rates = self._rates.random(shape)
        rates *= 2 * size
        rates -= size
        return rates, np.stack([each.uniform(-1, 1, self._block) for each in self._outputs], 1)

    def skip(self, blocks: int) -> None:
        """Skip the next blocks, as a resumed run does."""
        for _ in range(blocks):
            self.draw()


@dataclass(frozen=True)
class Schedule:
    """How long a run learns, and how long it is tested; the defaults are as published.

    Attributes:
        period: steps in which the target is drawn once.
        training: periods of learning.
        test: periods with frozen readouts.
        lag: periods between a step of the test and the output that is fed back in it.
        mastery_every: steps from one update of the mastery readout to the next.
    """

    period: int = 50_000
    training: int = 10
    test: int = 5
    lag: int = 5
    mastery_every: int = 10

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            UserError: if one is invalid.
        """
        coerce(self)
        for name in ("period", "training", "test", "lag", "mastery_every"):
            count = getattr(self, name)
            require(count >= 1, f"{name} must be at least 1, not {count}.")
        require(
            self.period % self.mastery_every == 0,
            f"period must be a multiple of mastery_every = {self.mastery_every}, "
            f"not {self.period}.",
        )
        require(
            self.lag <= self.training,
            f"lag must be at most the {self.training} periods of training, not {self.lag}.",
        )

    @property
    def learning(self) -> int:
        """Steps of learning."""
        return self.period * self.training

    @property
    def steps(self) -> int:
        """All steps."""
        return self.period * (self.training + self.test)
