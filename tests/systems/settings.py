"""The systems that the tests of the contract run on; to test a new one, add an entry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from support import BACKWARD, FORWARD, named, normal, seeded
from systems.recurrent_example import Recurrent

from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.system import System
from metaplast.tasks.batch import EpisodeBatch
from metaplast.terms.algebra import W, dot, outer, post, pre
from metaplast.terms.term import Term


@dataclass(frozen=True)
class Setting:
    """A system, the terms that learn in it, and the shape of an input without [episode, sample].

    `make_target` returns targets for [episode, sample]; None draws classes.
    """

    system: System
    terms: tuple[Term, ...]
    input_shape: tuple[int, ...]
    make_target: Callable[[tuple[int, int], int], torch.Tensor] | None = None
    size: float = 0.03

    def batch(self, episodes: int = 2, steps: int = 5, queries: int = 3) -> EpisodeBatch:
        """Return random episodes."""
        parts = []
        for seed, count in enumerate((steps, queries)):
            parts.append(normal(episodes, count, *self.input_shape, seed=seed).abs())
            parts.append(self._targets((episodes, count), seed))
        return EpisodeBatch(*parts)

    def _targets(self, samples: tuple[int, int], seed: int) -> torch.Tensor:
        if self.make_target is not None:
            return self.make_target(samples, seed)
        return torch.randint(self.system.outputs, samples, generator=seeded(seed))


def vectors(outputs: int) -> Callable[[tuple[int, int], int], torch.Tensor]:
    return lambda samples, seed: normal(*samples, outputs, seed=seed + 7)


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

SETTINGS = {
    "stack, fixed": Setting(FullyConnected((5, 4, 3)), FORWARD, (5,)),
    "stack, plastic": Setting(
        FullyConnected((5, 4, 4, 3), "tanh", feedback_name="plastic"), FORWARD + BACKWARD, (5,)
    ),
    "stack, direct, mse": Setting(
        FullyConnected((4, 5, 2), "tanh", feedback_name="direct", objective_name="mse"),
        named("error_hebbian", "oja", "decay"), (4,), vectors(2),
    ),
    "recurrent": Setting(Recurrent(), RECURRENT_TERMS, (4, 3)),
    "recurrent, mse": Setting(
        Recurrent(classes=2, objective_name="mse"), RECURRENT_TERMS, (3, 3), vectors(2)
    ),
}  # fmt: skip
