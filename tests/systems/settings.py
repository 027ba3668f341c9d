"""The systems that the tests of the contract run on; to test a new one, add an entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from support import BACKWARD, FORWARD, named, normal, seeded
from systems.perturbed_example import DEVIATION, Perturbed
from systems.recurrent_example import Recurrent as TestRecurrent

from metaplast.reservoirs.algorithm import Algorithm
from metaplast.reservoirs.network import Dynamics
from metaplast.reservoirs.tasks import PEN, Task
from metaplast.systems.choice import Choice
from metaplast.systems.constrained import constrained
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.leaky import Leaky
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.reservoir import Reservoir
from metaplast.systems.system import System
from metaplast.systems.timing import Timing
from metaplast.tasks.batch import EpisodeBatch
from metaplast.terms.algebra import (
    W,
    dot,
    eligible,
    outer,
    post,
    pre,
    reward,
    scalar,
    sign,
    surprise,
    trace,
)
from metaplast.terms.term import Term


@dataclass(frozen=True)
class Setting:
    """A system, the terms that learn in it, and the shape of an input without [episode, sample].

    `make_target` returns targets for [episode, sample]; None draws classes. `noise_shape` is the
    shape of a step's noise; None gives none. `together` examples are the mini-batch of a step.
    """

    system: System
    terms: tuple[Term, ...]
    input_shape: tuple[int, ...]
    make_target: Callable[[tuple[int, int], int], torch.Tensor] | None = None
    size: float = 0.03
    noise_shape: tuple[int, ...] | None = None
    together: int = 1

    def batch(self, episodes: int = 2, steps: int = 5, queries: int = 3) -> EpisodeBatch:
        """Return random episodes."""
        steps *= self.together
        parts = []
        for seed, count in enumerate((steps, queries)):
            parts.append(normal(episodes, count, *self.input_shape, seed=seed).abs())
            parts.append(self._targets((episodes, count), seed))
        noise = None
        if self.noise_shape is not None:
            noise = normal(episodes, steps, *self.noise_shape, seed=13)
        batch = EpisodeBatch(*parts, noise=noise)
        return batch if self.together == 1 else batch.in_batches(self.together)

    def _targets(self, samples: tuple[int, int], seed: int) -> torch.Tensor:
        if self.make_target is not None:
            return self.make_target(samples, seed)
        return torch.randint(self.system.outputs, samples, generator=seeded(seed))


def vectors(*shape: int) -> Callable[[tuple[int, int], int], torch.Tensor]:
    return lambda samples, seed: normal(*samples, *shape, seed=seed + 7)


def classes(steps: int) -> Callable[[tuple[int, int], int], torch.Tensor]:
    """Return targets that are classes 0 … 2 at each of some steps."""
    return lambda samples, seed: torch.randint(3, (*samples, steps), generator=seeded(seed))


DRIVEN = Term("driven", outer(post.signal("drive"), pre.activity), "made up")
GATED = Term(
    "gated", dot(post.error, post.signal("drive")) * outer(post.error, pre.activity), "made up"
)
GATED_DECAY = Term("gated_decay", dot(post.activity, post.activity) * (-0.1 * W), "made up")
PROJECTED = Term("projected", outer(post.signal("drive"), W.T @ post.signal("drive")), "made up")
RECURRENT_TERMS = (
    *named("error_hebbian", "error_error", "oja", "decay"),
    DRIVEN, GATED, GATED_DECAY, PROJECTED,
)  # fmt: skip

NODE_PERTURBATION = Term(
    "node_perturbation", scalar("reward") * outer(DEVIATION, pre.activity), "made up"
)
FORGETTING = Term("forgetting", scalar("loss") * (-0.1 * W), "made up")
REWARDED_OJA = Term(
    "rewarded_oja",
    scalar("reward")
    * (outer(post.activity, pre.activity) - outer(post.activity, W.T @ post.activity)),
    "made up",
)
TWICE_GATED = Term(
    "twice_gated",
    scalar("loss")
    * (scalar("reward") * (dot(DEVIATION, post.activity) * outer(post.activity, pre.one))),
    "made up",
)
PERTURBED_TERMS = (
    *named("oja", "decay"), NODE_PERTURBATION, FORGETTING, REWARDED_OJA, TWICE_GATED,
)  # fmt: skip

# Rates far from saturation, and gates, ones and projections of every kind of signal.
FIXED_TERMS = (
    *named("error_hebbian", "error_error", "oja", "decay", "gated_error_hebbian",
           "presynaptic_error", "reparameterised", "reparameterised_ungated"),
    GATED_DECAY,
)  # fmt: skip
TIGHT = {"tolerance": 1e-13, "rate": 0.9}
OJAS = named("drive_oja", "potential_oja")
PREDICTION = Term(
    "prediction", -outer(post.signal("prediction_error"), pre.signal("relaxed")), "made up"
)
EXPECTED = Term(
    "expected",
    dot(pre.signal("prediction_error"), pre.signal("feedforward"))
    * outer(post.signal("feedforward"), pre.signal("prediction_error")),
    "made up",
)

HEBB = outer(post.activity, pre.activity)
# A factor of each neuron, gates, traces, functions, projections and powers, inside and outside.
ELIGIBLE_TERMS = (
    *named("error_hebbian", "decay"),
    Term("delayed_delta", -(post.error * eligible(outer(post.activity, pre.activity), 3)), "m"),
    Term(
        "delayed_oja",
        dot(post.error, post.activity)
        * eligible(HEBB - outer(post.activity, W.T @ post.activity) - 0.5 * (W * (W * HEBB)), 2.5),
        "m",
    ),
    Term(
        "two_kept",
        eligible(dot(post.activity, post.error) * outer(post.activity**2, pre.activity), 4)
        + post.activity * eligible(outer(sign(post.error), trace(pre.activity, 3)), 2)
        - 2 * HEBB,
        "m",
    ),
    Term("fading", scalar("error_size") * (-0.1 * W) - 0.1 * eligible(W + 0.2 * HEBB, 5), "m"),
)
SURE_TERM = Term("sure", scalar("confidence") * eligible(HEBB, 4), "m")
REWARDED_TERMS = (
    NODE_PERTURBATION,
    Term("eligible", surprise * eligible(outer(DEVIATION, pre.activity), 3), "m"),
    Term("expected", trace(reward, 4) * eligible(reward * (W * HEBB), 2), "m"),
)


class DrawnOnce(Choice):
    """With fixed draws, and away from where an action flips, the loss is differentiable."""

    differentiable = True


CHOICE_TERMS = (
    *named("reinforce", "reinforce_delayed", "mean_reward_eligibility", "decay"),
    Term("chosen", trace(reward, 3) * outer(post.signal("choice"), pre.activity), "m"),
)

LEAKY_TERMS = (
    *named("rflo", "e_prop", "output_delta", "oja", "decay"),
    Term("traced", outer(post.error, trace(pre.activity, 3)), "m"),
)

# Every gate is open, and a few neurons are enough for every equation.
SMALL = Dynamics(5, 0.6, time_step=4.0)
READOUT_TERMS = named("node_perturbation", "recursive_least_squares", "oja", "decay")
ARM = Task((1.8, 1.2, 0.6))
COSTLY = Algorithm("costly", threshold=100.0, costs=(0.1, 0.05, 0.0), cost_of="output")

SETTINGS = {
    "stack, fixed": Setting(FullyConnected((5, 4, 3)), FORWARD, (5,)),
    "stack, plastic": Setting(
        FullyConnected((5, 4, 4, 3), "tanh", feedback_name="plastic"), FORWARD + BACKWARD, (5,)
    ),
    "stack, direct, mse": Setting(
        FullyConnected((4, 5, 2), "tanh", feedback_name="direct", objective_name="mse"),
        named("error_hebbian", "oja", "decay"), (4,), vectors(2),
    ),
    "test recurrent": Setting(TestRecurrent(), RECURRENT_TERMS, (4, 3)),
    "test recurrent, mse": Setting(
        TestRecurrent(classes=2, objective_name="mse"), RECURRENT_TERMS, (3, 3), vectors(2)
    ),
    "recurrent, delayed": Setting(Recurrent((3, 4, 3), Timing(1, 2, 5)), FORWARD + OJAS, (1, 3)),
    "recurrent, backprop, each step": Setting(
        Recurrent((2, 4, 3), Timing(3, 1, 3, each=True), "softplus:10", feedback_name="symmetric"),
        named("error_hebbian", "summed_error_hebbian", "oja") + OJAS, (3, 2), classes(3),
    ),
    "recurrent, plastic, mse": Setting(
        Recurrent((3, 4, 2), Timing(2, 2, 5), feedback_name="plastic", objective_name="mse"),
        named("error_hebbian", "error_error", "gated_error_hebbian", "decay", "drive_oja",
              "backward_hebbian", "backward_decay"), (2, 3), vectors(2), size=0.01,
    ),
    "recurrent, truncated, mse at each step": Setting(
        Recurrent((3, 4, 2), Timing(3, 1, 4, each=True), feedback_name="truncated:2",
                  objective_name="mse"),
        named("error_hebbian", "oja") + OJAS, (3, 3), vectors(4, 2),
    ),
    "stack, strict": Setting(
        FullyConnected((5, 4, 4, 3), "tanh", feedback_name="predictive-coding:strict,eta=0.2,n=3"),
        (*FORWARD, PREDICTION, EXPECTED), (5,),
    ),
    "stack, fixed prediction, mse": Setting(
        FullyConnected(
            (4, 5, 4, 2), feedback_name="predictive-coding:fixed,eta=0.5,n=4", objective_name="mse"
        ),
        (*named("error_hebbian", "oja", "decay"), PREDICTION), (4,), vectors(2),
    ),
    "choice, delayed": Setting(
        DrawnOnce((3, 4), 2, "normal:0.5"), CHOICE_TERMS, (3,), vectors(4), size=0.3,
        noise_shape=(1,),
    ),
    "leaky, rates, each step": Setting(
        Leaky((2, 3, 2), Timing(3, 1, 4, each=True), 3.0, objective_name="mse"), LEAKY_TERMS,
        (3, 2), vectors(4, 2), size=0.1,
    ),
    "leaky, potentials, last step": Setting(
        Leaky((2, 3, 3), Timing(1, 2, 4), 2.5, "potential", feedback_name="lesson-symmetric"),
        LEAKY_TERMS, (1, 2), size=0.1,
    ),
    "stack, eligible": Setting(
        FullyConnected((4, 3, 3), "tanh"), (*ELIGIBLE_TERMS, SURE_TERM), (4,), size=0.1
    ),
    "recurrent, eligible, mse": Setting(
        Recurrent((2, 3, 2), Timing(3, 1, 4, each=True), objective_name="mse"), ELIGIBLE_TERMS,
        (3, 2), vectors(4, 2), size=0.001,
    ),
    "recurrent, eligible, last step": Setting(
        Recurrent((2, 3, 3), Timing(1, 2, 4)), (*ELIGIBLE_TERMS, SURE_TERM), (1, 2)
    ),
    "fixed point, eligible, mini-batches": Setting(
        FixedPoint((3, 4, 3), **TIGHT), ELIGIBLE_TERMS[:-1], (3,), together=3
    ),
    "perturbed, eligible": Setting(
        Perturbed(), REWARDED_TERMS, (3,), size=0.3, noise_shape=(1, 4)
    ),
    "perturbed, eligible, four times": Setting(
        Perturbed(), REWARDED_TERMS, (3,), size=0.3, noise_shape=(4, 4)
    ),
    "perturbed": Setting(Perturbed(), PERTURBED_TERMS, (3,), size=0.3, noise_shape=(1, 4)),
    "perturbed, four times, mse": Setting(
        Perturbed(classes=2, objective_name="mse"), PERTURBED_TERMS, (3,), vectors(2),
        noise_shape=(4, 4),
    ),
    "fixed point": Setting(FixedPoint((3, 5, 3), **TIGHT), FIXED_TERMS, (3,)),
    "fixed point, gmres, softplus": Setting(
        FixedPoint((3, 5, 2), "softplus:3", solver="gmres", **TIGHT), FIXED_TERMS, (3,)
    ),
    "fixed point, mini-batches": Setting(
        FixedPoint((3, 5, 3), **TIGHT), FIXED_TERMS, (3,), together=4
    ),
    "fixed point, linear, mse": Setting(
        FixedPoint((4, 4, 4), "linear", "mse", gain=0.2, drive="direct", readout="direct", **TIGHT),
        FIXED_TERMS, (4,), vectors(4), size=0.002,
    ),
    "reservoir, pen": Setting(
        Reservoir(PEN, Algorithm("pen", threshold=100.0, smooth=False), SMALL, 2), READOUT_TERMS,
        (2,), vectors(2), size=0.3, noise_shape=(7,),
    ),
    "reservoir, arm with costs": Setting(
        Reservoir(ARM, COSTLY, SMALL, 1), READOUT_TERMS, (3,), vectors(2), size=0.3,
        noise_shape=(8,),
    ),
    "reservoir, exploration alone": Setting(
        Reservoir(PEN, Algorithm("pen", mastery_rate=0.0, one_sided=True), SMALL),
        named("node_perturbation", "oja", "decay"), (2,), vectors(2), size=0.3, noise_shape=(7,),
    ),
    "stack, plastic, dale": Setting(
        constrained(
            FullyConnected((5, 4, 4, 3), "tanh", feedback_name="plastic"), "dale:fraction=0.6"
        ),
        FORWARD + BACKWARD, (5,), size=0.05,
    ),
    "stack, symmetric, non-negative, eligible": Setting(
        constrained(FullyConnected((4, 3, 3), feedback_name="symmetric"), "nonnegative"),
        (*ELIGIBLE_TERMS, SURE_TERM), (4,), size=0.1,
    ),
    "recurrent, dale, inputs free": Setting(
        constrained(Recurrent((3, 4, 3), Timing(1, 2, 5)), "dale:fraction=0.5,inputs=free"),
        FORWARD + OJAS, (1, 3), size=0.1,
    ),
    "leaky, bounds": Setting(
        constrained(Leaky((2, 3, 3), Timing(1, 2, 4), 2.5), "bounds:-0.4,0.3"), LEAKY_TERMS,
        (1, 2), size=0.1,
    ),
    "fixed point, dale, mini-batches": Setting(
        constrained(FixedPoint((3, 5, 3), **TIGHT), "dale"), FIXED_TERMS, (3,), together=4,
        size=0.1,
    ),
    "choice, non-negative": Setting(
        constrained(DrawnOnce((3, 4), 1, "normal:0.5"), "nonnegative"), CHOICE_TERMS, (3,),
        vectors(4), size=0.3, noise_shape=(1,),
    ),
    "reservoir, dale": Setting(
        constrained(
            Reservoir(PEN, Algorithm("force", 0.0, 1.0, supervised=True), SMALL, 2), "dale"
        ),
        named("recursive_least_squares", "oja", "decay"), (2,), vectors(2), size=0.3,
        noise_shape=(7,),
    ),
    "reservoir, supervised": Setting(
        Reservoir(PEN, Algorithm("force", 0.0, 1.0, supervised=True), SMALL, 2),
        named("recursive_least_squares", "oja", "decay"), (2,), vectors(2), size=0.3,
        noise_shape=(7,),
    ),
}  # fmt: skip
# The settings of the short suite: each kind of system, an eligibility, and a constraint.
KINDS = (
    "stack, fixed", "stack, plastic", "test recurrent", "recurrent, delayed", "stack, strict",
    "choice, delayed", "leaky, rates, each step", "stack, eligible", "perturbed", "fixed point",
    "reservoir, pen", "leaky, bounds",
)  # fmt: skip
