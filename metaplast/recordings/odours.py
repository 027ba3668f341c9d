"""Simulated choices between two odours whose rewards are baited, with a plastic layer.

The task has the sizes in the released code of Mehta et al. 2024. In a trial, one of two odours is
drawn again and again until the animal accepts it, with p(accept) = σ(v · y), y = tanh(W x). The
weights then change once, by

    ΔW = η Σ_k θ_k F_k(x, y, W, r),    r = R − mean of the last `memory` rewards R,

with x and y of the last odour. In each trial, a reward is placed on each odour with the probability
of its block, and stays there until the animal takes it. The fit sees the inputs that produced the
choices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.seeds import numpy_generator
from metaplast.recordings.model import Layer
from metaplast.recordings.plain_rule import PlainRule

# How many times in a row the animal may refuse before the trial ends without a choice.
_MOST_REFUSALS = 100
_READOUT = 5.0


@dataclass(frozen=True)
class Odours:
    """The task.

    Attributes:
        neurons: the number of neurons in the plastic layer.
        trials: in each block.
        blocks: for each block, the probabilities that the two odours are baited.
        memory: number of trials whose mean reward is the expected reward.
        mean, variance: of the input that an odour drives; the other input has mean 0 and the same
            variance.
        weight_scale: standard deviation of the initial weights.
        eta: the rate η.
    """

    neurons: int = 10
    trials: int = 80
    blocks: tuple[tuple[float, float], ...] = ((0.2, 0.8), (0.9, 0.1), (0.2, 0.8))
    memory: int = 10
    mean: float = 0.75
    variance: float = 0.015
    weight_scale: float = 0.01
    eta: float = 0.5

    @property
    def layer(self) -> Layer:
        """The network."""
        return Layer("tanh", self.eta, "readout", (_READOUT / self.neurons,) * self.neurons)


def simulate_odours(rule: PlainRule, task: Odours, *, seed: int = 0) -> dict[str, Numbers]:
    """Return a recording of one animal in the form that `Recording.of` takes; its rewards are R.

    Args:
        rule: how the weights change.
        task: the task.
        seed: seed of all random numbers.
    """
    draw = numpy_generator(seed, "simulate", "odours")
    w = task.weight_scale * draw.normal(size=(1, task.neurons, 2))
    start, layer = w[0], task.layer
    last, baited = [0.0] * task.memory, np.zeros(2, dtype=bool)
    seen: list[list[Numbers]] = []
    taken, accepted = list[float](), list[bool]()
    for probabilities in task.blocks:
        for _ in range(task.trials):
            baited |= draw.random(2) < probabilities
            shown, odour, is_accepted = _presentations(layer, w[0], task, draw)
            reward = float(is_accepted and baited[odour])
            baited[odour] &= not is_accepted
            expected = np.mean(last[-task.memory :])
            change = np.full((1, 1), reward - expected)
            once = np.ones((1, 1), dtype=bool)
            if is_accepted:
                _, w = rule.run(layer, shown[-1][None, None], change, once, w)
            last.append(reward)
            seen.append(shown)
            taken.append(reward)
            accepted.append(is_accepted)
    return _arrays(seen, taken, accepted, start, layer)


def _presentations(
    layer: Layer, w: Numbers, task: Odours, draw: np.random.Generator
) -> tuple[list[Numbers], int, bool]:
    """Return the inputs up to the accepted one, the last odour, and whether it was accepted."""
    shown: list[Numbers] = []
    for _ in range(_MOST_REFUSALS):
        odour = int(draw.integers(2))
        x = np.sqrt(task.variance) * draw.normal(size=2)
        x[odour] += task.mean
        shown.append(x)
        chance = layer.mean(np.tanh(w @ x)[None])[0, 0]
        if draw.random() < chance:
            return shown, odour, True
    return shown, odour, False


def _arrays(
    seen: list[list[Numbers]], taken: list[float], accepted: list[bool], start: Numbers,
    layer: Layer,
) -> dict[str, Numbers]:  # fmt: skip
    lengths = np.array([len(shown) for shown in seen])
    shape = len(seen), int(lengths.max())
    inputs, choices = np.zeros((*shape, 2)), np.full(shape, np.nan)
    plastic = np.zeros(shape)
    for trial, shown in enumerate(seen):
        inputs[trial, : len(shown)] = shown
        choices[trial, : len(shown)] = 0
        choices[trial, len(shown) - 1] = plastic[trial, len(shown) - 1] = accepted[trial]
    return {
        "inputs": inputs, "choices": choices, "plastic": plastic, "reward": np.array(taken),
        "lengths": lengths, "readout": np.array(layer.readout), "initial_weights": start,
        "continues": np.array(1),
    }  # fmt: skip


def less_expected(reward: Numbers, lengths: tuple[int, ...], memory: int) -> Numbers:
    """Return rewards minus the mean of the last `memory` trials' rewards, [trial, time].

    The reward of a trial is that of its last step. Rewards before the first trial count as 0.

    Args:
        reward: R, [trial, time].
        lengths: steps of each trial.
        memory: number of trials.
    """
    last = [float(reward[trial, steps - 1]) for trial, steps in enumerate(lengths)]
    padded = np.concatenate([np.zeros(memory), last])
    sums = np.cumsum(np.concatenate([[0.0], padded]))
    means = (sums[memory:-1] - sums[: len(last)]) / memory
    return np.asarray(reward - means[: len(last), None])
