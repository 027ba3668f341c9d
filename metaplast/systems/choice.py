"""A network that chooses actions and learns from the rewards that they bring, now or later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from metaplast.base.coerce import coerce
from metaplast.base.errors import require, shown
from metaplast.base.words import amount
from metaplast.systems.drawn import DrawnSystem
from metaplast.systems.feedback import feedback_for
from metaplast.systems.initialisation import Init
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples, Group, Presented
from metaplast.terms.algebra import Signal, W, post, pre
from metaplast.terms.synapses import Synapses

MOST_WIDTH = 1_000_000
MOST_DELAY = 100_000
DEVIATION, CHOICE = post.signal("deviation"), post.signal("choice")


@dataclass(frozen=True)
class Choice(DrawnSystem):
    """Softmax neurons that choose an action in each step:

        p = softmax(W x),    a ~ p,    reward_t = r_{t−delay},

    with r_t the reward of the action of step t.

    The rule sees post.activity (p), post.choice (1 for the chosen action, 0 for the others),
    post.deviation (choice − p, the gradient of log p_a with respect to W x), pre.activity (x), and
    the scalar reward, which is zero in the first `delay` steps. No error reaches the synapses.

    An example contains the reward that each action would bring in this step, [action], and uniform
    noise in [0, 1), [1], which draws the action. Only the reward of the chosen action is used.
    Without noise, the most probable action is chosen. Drawn actions do not depend smoothly on the
    weights, so the loss has no gradient with respect to a rule's coefficients.

    Attributes:
        widths: numbers of inputs and of actions.
        delay: steps from an action to its reward.
        init: how weights are drawn, as `Init` reads it.
        objective_name: the objective of the output.
    """

    widths: tuple[int, ...]
    delay: int = 0
    init: str = "normal:0.01"
    objective_name: str = "reward"

    name = "choice"
    summary = "softmax neurons that choose actions and learn from delayed rewards"
    feedback_name = "none"
    differentiable = False

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            UserError: if a width or the delay is out of range, a name is unknown, the objective is
                not "reward", or a value has the wrong type.
        """
        coerce(self)
        require(
            len(self.widths) == 2 and min(self.widths) >= 1 and max(self.widths) <= MOST_WIDTH,
            f"a choice needs numbers of inputs and actions, each from 1 to {MOST_WIDTH:,}, got "
            f"{shown(self.widths)}; write Choice((1, 2)).",
        )
        require(
            0 <= self.delay <= MOST_DELAY,
            f"the delay of a reward must be 0 to {MOST_DELAY:,} steps, got {self.delay}.",
        )
        Init(self.init)
        require(
            self.objective.name == "reward",
            f"the system choice learns from rewards, got --objective {self.objective.name}; use "
            f"--objective reward.",
        )

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """W, [action, input]."""
        return {"W": (self.widths[1], self.widths[0])}

    @property
    def carried(self) -> Mapping[str, int]:
        """The pending rewards, the next one first."""
        return {"pending": self.delay} if self.delay else {}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """W."""
        offers = frozenset({post.activity, CHOICE, DEVIATION, pre.activity})
        return (Group("W", W, 0, offers, frozenset({"reward"}), from_inputs=True),)

    @property
    def sites(self) -> tuple[str, ...]:
        """W."""
        return ("W",)

    def draw(
        self, episodes: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> State:
        """Return drawn weights, with no reward pending."""
        return self._waiting(super().draw(episodes, generator, dtype))

    def complete(
        self, initial: State, episodes: int, generator: torch.Generator, dtype: torch.dtype
    ) -> State:
        """Return prescribed weights, with no reward pending unless `initial` has one."""
        begun = self._waiting(super().complete(initial, episodes, generator, dtype))
        given = {k: v for k, v in initial.carry.items() if k in begun.carry}
        return State(begun.matrices, {**begun.carry, **given})

    def _waiting(self, state: State) -> State:
        weights = state.matrices["W"]
        zeros = {key: weights.new_zeros(len(weights), n) for key, n in self.carried.items()}
        return State(state.matrices, zeros)

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the signals after an action, and the reward that arrives now."""
        x = example.input[:, None]
        p = torch.softmax(view.matrices["W"].matmul(x), -1)
        chosen = _drawn(p.detach(), example.noise)
        earned = (chosen[:, 0] * example.target).sum(-1, keepdim=True)
        arriving, carry = earned, dict(view.carry)
        if self.delay:
            pending = view.carry["pending"]
            arriving = pending[:, :1]
            carry["pending"] = torch.cat([pending[:, 1:], earned], 1)
        signals = {
            post.activity: p, CHOICE: chosen, DEVIATION: chosen - p, pre.activity: x,
        }  # fmt: skip
        ends = Synapses(view.matrices["W"], signals, scalars={"reward": arriving})
        return Presented({"W": ends}, carry=carry)

    def output(self, view: View, inputs: Tensor) -> Tensor:
        """Return W x, whose softmax gives the probabilities of the actions."""
        return view.matrices["W"].matmul(inputs)

    def with_feedback(self, feedback: str) -> Choice:
        """Return this system, whose only feedback is "none".

        Raises:
            UserError: if `feedback` is not "none".
        """
        feedback_for(self.name, feedback)
        return self

    @property
    def description(self) -> str:
        """Inputs, actions and the delay."""
        inputs, actions = self.widths
        later = amount(self.delay, "steps")
        return f"{self.name} {inputs}-{actions}, rewards {later} later, {self.init}"

    def spec(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {
            "system": self.name, "widths": list(self.widths), "delay": self.delay,
            "init": self.init, "feedback": self.feedback_name, "objective": self.objective_name,
        }  # fmt: skip


def _drawn(p: Tensor, noise: Tensor | None) -> Tensor:
    """Return the one-hot action that uniform noise [episode, 1] draws, [episode, 1, action]."""
    if noise is None:
        chosen = p.argmax(-1)
    else:
        below = p.cumsum(-1) <= noise[:, :, None]
        # A sum of probabilities may round to less than the noise.
        chosen = below.sum(-1).clamp(max=p.shape[-1] - 1)
    found: Tensor = torch.nn.functional.one_hot(chosen, p.shape[-1]).to(p)
    return found
