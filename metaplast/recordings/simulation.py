"""Recordings simulated from a rule, with any terms, network, noise and observed fraction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import require, require_choice, require_seed, require_within
from metaplast.base.seeds import numpy_generator
from metaplast.base.settings import Settings
from metaplast.recordings.model import Layer
from metaplast.recordings.plain_rule import PlainRule

OBSERVE = ("activity", "counts", "choices", "weights")


@dataclass(frozen=True)
class Design(Settings):
    """What is simulated: one layer, fresh inputs at every step.

    The inputs are normal with mean 0. "counts" are Poisson with mean y, and "choices" are 1 with
    probability y, else 0.
    """

    GROUP: ClassVar[str] = "layer"

    inputs: int = 50
    """Number of inputs."""
    neurons: int = 10
    """Number of neurons."""
    trials: int = 50
    """Number of trials. Without --continues, each has its own initial weights."""
    steps: int = 50
    """Number of time steps in a trial."""
    input_variance: float = 0.1
    """Variance of the inputs."""
    weight_scale: float = 1.4142135623730951
    """Standard deviation of the initial weights times the square root of the number of inputs."""
    observe: str = "activity"
    """What is observed: activity, counts, choices (0 or 1 for each neuron), or only weights."""
    noise: float = 0.0
    """Standard deviation of the noise on the activity."""
    weights_every: int = 0
    """Observe the weights too, at the start of a trial and after every N steps; 0: never."""
    weight_noise: float = 0.0
    """Standard deviation of the noise on observed weights."""
    observed: float = 1.0
    """Share of the neurons that is observed."""
    continues: bool = False
    """Carry the weights over from trial to trial."""
    reward: bool = False
    """Write a random reward (normal, at every step) even if the rule does not read it."""

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            UserError: if a value is out of range, or of a wrong type.
        """
        super().__post_init__()
        for name in ("inputs", "neurons", "trials", "steps"):
            require_within(f"--{name}", getattr(self, name), 1, 10**7)
        require_choice("--observe", self.observe, OBSERVE)
        require_within("--noise", self.noise, 0.0, 1e6)
        require_within("--weights-every", self.weights_every, 0, self.steps)
        require_within("--weight-noise", self.weight_noise, 0.0, 1e6)
        require(
            self.observe != "weights" or self.weights_every > 0,
            f"--observe weights needs --weights-every N; {self.steps} observes the weights at the "
            f"start and the end of each trial.",
        )
        require(
            not self.weight_noise or self.weights_every > 0,
            "--weight-noise needs observed weights; give --weights-every N.",
        )
        require_within("--input-variance", self.input_variance, 0.0, 1e6)
        require_within("--weight-scale", self.weight_scale, 0.0, 1e6)
        require(
            0 < self.observed <= 1, f"--observed must be above 0, at most 1, got {self.observed:g}."
        )


@dataclass(frozen=True, eq=False)
class Simulated:
    """A simulated recording, with the ground truth that an experiment would not show.

    Attributes:
        arrays: the arrays of the recording, in the layout of `recording`.
        activity: y of all neurons without noise, [trial, time, neuron].
        weights: W at the end of each trial, [trial, neuron, input].
    """

    arrays: dict[str, Numbers]
    activity: Numbers
    weights: Numbers = field(repr=False)


def simulate(rule: PlainRule, layer: Layer, design: Design, *, seed: int = 0) -> Simulated:
    """Return a recording of a layer that learns by a rule.

    The reward r is normally distributed at every step, because with r = ±1, r² would be the same as
    the constant 1. Traces begin at zero in each trial.

    Args:
        rule: how the layer learns.
        layer: the network.
        design: what is simulated.
        seed: seed of all random numbers.

    Raises:
        UserError: if the weights diverge, or a mean of counts or choices is out of range.
    """
    require_seed("--seed", seed)
    draw = {
        name: numpy_generator(seed, "simulate", name) for name in ("x", "w", "r", "noise", "seen")
    }
    shape = (design.trials, design.steps)
    x = np.sqrt(design.input_variance) * draw["x"].normal(size=(*shape, design.inputs))
    size = design.weight_scale / np.sqrt(design.inputs)
    starts = 1 if design.continues else design.trials
    initial = size * draw["w"].normal(size=(starts, design.neurons, design.inputs))
    reward = np.zeros(shape)
    has_reward = rule.has_reward or design.reward
    if has_reward:
        reward = draw["r"].normal(size=shape)
    activity, final, seen = _run(rule, layer, x, reward, initial, design)
    count = max(1, round(design.observed * design.neurons))
    hidden = draw["seen"].permutation(design.neurons)[count:]
    arrays = {
        "inputs": x, "initial_weights": initial[0] if design.continues else initial,
        "continues": np.array(int(design.continues)),
    }  # fmt: skip
    if design.observe != "weights":
        arrays[design.observe] = _observed(activity, design, draw["noise"])
        arrays[design.observe][:, :, hidden] = np.nan
    if design.weights_every:
        noise = numpy_generator(seed, "simulate", "noise of weights").normal(size=seen.shape)
        arrays["weights"] = seen + design.weight_noise * noise
        arrays["weights"][:, :, hidden] = np.nan
    if has_reward:
        arrays["reward"] = reward
    return Simulated(arrays, activity, final)


def _run(
    rule: PlainRule, layer: Layer, x: Numbers, reward: Numbers, initial: Numbers, design: Design
) -> tuple[Numbers, Numbers, Numbers]:
    """Return the activity of each trial, the weights at its end, and those that are observed."""
    always, every = np.ones(x.shape[:2], dtype=bool), design.weights_every
    whole = (len(x), x.shape[1] + 1, *initial.shape[1:])
    seen = np.full(whole if every else (len(x), 0), np.nan)
    y, final, w = [], [], initial
    # Trials with their own initial weights are independent and run together.
    together = 1 if design.continues else len(x)
    for start in range(0, len(x), together):
        some = slice(start, start + together)

        def watch(step: int, weights: Numbers, some: slice = some) -> None:
            if every and step % every == 0:
                seen[some, step] = weights

        found, w = rule.run(layer, x[some], reward[some], always[some], w, watch)
        watch(x.shape[1], w)
        y.append(found)
        final.append(w)
    return np.concatenate(y), np.concatenate(final), seen


def _observed(activity: Numbers, design: Design, draw: np.random.Generator) -> Numbers:
    if design.observe == "activity":
        return np.asarray(activity + design.noise * draw.normal(size=activity.shape))
    low, high = float(activity.min()), float(activity.max())
    if design.observe == "counts":
        require(
            low >= 0, "counts need an activity that is never negative; give --activation softplus."
        )
        return draw.poisson(activity).astype(float)
    require(
        low >= 0 and high <= 1, "choices need an activity from 0 to 1; give --activation sigmoid."
    )
    return (draw.random(activity.shape) < activity).astype(float)
