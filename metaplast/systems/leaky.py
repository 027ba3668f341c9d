"""A recurrent network of leaky neurons, for online rules: no error goes back in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaplast.base.errors import require, shown
from metaplast.systems.feedback import ChainFeedback, ErrorPass, feedback_for
from metaplast.systems.sequence_network import SITES, SequenceNetwork
from metaplast.systems.state import View
from metaplast.systems.system import Examples, Group, Presented
from metaplast.systems.timing import Timing
from metaplast.terms.algebra import Signal, W, post, pre
from metaplast.terms.synapses import Synapses

MOST_TAU = 1e9
LEAKS = ("rate", "potential")
FEEDBACK = "readout_feedback"
LESSON, SLOPE = post.signal("lesson"), post.signal("slope")
OUTPUT_ERROR = post.signal("output_error")
_HIDDEN = frozenset({post.activity, post.error, LESSON, SLOPE, pre.activity})


class Path(NamedTuple):
    """The rates h_1 … h_T, the previous rates h_0 … h_{T−1}, and σ′, [episode, time, neuron]."""

    activities: Tensor
    before: Tensor
    slopes: Tensor


@dataclass(frozen=True)
class Leaky(SequenceNetwork):
    """A recurrent network of leaky neurons without biases, at rest when a sequence begins.

        u_t = W_h h_{t−1} + W_x x_t,
        rate:       h_t = (1 − 1/τ) h_{t−1} + σ(u_t)/τ              (Murray 2019),
        potential:  v_t = (1 − 1/τ) v_{t−1} + u_t,  h_t = σ(v_t)    (Bellec et al. 2020, for rates).

    The output is W_o h_T, or W_o h_t at every step, with error ε_t. The lesson B ε_t reaches the
    neurons in the same step; it is zero at steps without an output. Groups and their occurrences:

    - "input", W_x: pre x_t, post h_t, for t = 1 … T;
    - "recurrent", W_h: pre h_{t−1}, post h_t, for t = 1 … T;
    - "readout", W_o: pre h_t and the output, for the last step or for all.

    The first two offer post.activity, post.lesson, post.slope (σ′(u_t), or σ′(v_t)) and post.error
    (lesson · slope). "readout" offers the output's activity, and ε as post.error and as
    post.output_error, which no other group has. Traces and eligibilities restart with each
    sequence.

    Attributes:
        widths: features of an input at one time step, neurons, outputs.
        timing: how the frames of an input follow each other, and which steps have a target.
        tau: τ, in time steps, at least 1.
        leak: "rate" or "potential".
        activation: σ, as `parse_activation` reads it.
        init: how weights are drawn, as `Init` reads it.
        feedback_name: the feedback, which gives B.
        objective_name: the objective of the output.
    """

    widths: tuple[int, ...]
    timing: Timing
    tau: float = 10.0
    leak: str = "rate"
    activation: str = "tanh"
    init: str = "xavier"
    feedback_name: str = "lesson"
    objective_name: str = "cross-entropy"

    name = "leaky"
    summary = "a recurrent network of leaky neurons that learns online"

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            UserError: if a number is out of range, a name is unknown, the feedback does not serve
                this system, or a value has the wrong type.
        """
        super().__post_init__()
        require(
            1 <= self.tau <= MOST_TAU,
            f"tau of a leaky network must be from 1 to {MOST_TAU:g} steps, got {self.tau:g}.",
        )
        require(
            self.leak in LEAKS,
            f"the leak must be {' or '.join(LEAKS)}, got {shown(self.leak)}.",
        )
        object.__setattr__(self, "feedback_name", self.feedback.written)
        object.__setattr__(self, "objective_name", self.objective.name)

    @cached_property
    def feedback(self) -> ChainFeedback:
        """The source of the lessons."""
        found = feedback_for(Leaky.name, self.feedback_name)
        require(
            isinstance(found, ChainFeedback) and not found.is_plastic,
            f"the feedback {found.name} must be a ChainFeedback that does not learn to serve the "
            f"system {self.name}; take {self.name!r} from its systems.",
        )
        assert isinstance(found, ChainFeedback)
        return found

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """W_x, W_h and W_o, each [post, pre], then B if the feedback has a matrix of its own."""
        inputs, neurons, outputs = self.widths
        own = self.feedback.shapes((neurons, outputs))
        weights = {
            "input": (neurons, inputs), "recurrent": (neurons, neurons),
            "readout": (outputs, neurons),
        }  # fmt: skip
        return weights | ({FEEDBACK: own[0]} if own else {})

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """W_x, W_h and W_o."""
        last = frozenset({post.activity, post.error, OUTPUT_ERROR, pre.activity})
        offers = (_HIDDEN, _HIDDEN, last)
        return tuple(
            Group(name, W, site, offered, from_inputs=name == "input")
            for site, (name, offered) in enumerate(zip(SITES, offers, strict=True))
        )

    def run(self, view: View, inputs: Tensor) -> Path:
        """Return the signals of all time steps, each [episode, sample, time, neuron].

        Args:
            view: the matrices.
            inputs: [episode, sample, frame, feature].
        """
        samples = inputs.shape[1]
        arrived = view.matrices["input"].matmul(inputs.flatten(1, 2))
        frames = arrived.reshape(len(arrived), samples, -1, arrived.shape[-1])
        keep, sigma = 1 - 1 / self.tau, self.nonlinearity
        h = v = frames[:, :, 0] * 0
        before, after, slopes = [], [], []
        for t in range(self.timing.time):
            before.append(h)
            u = view.matrices["recurrent"].matmul(h)
            frame = self.timing.frame(t)
            u = u if frame is None else u + frames[:, :, frame]
            if self.leak == "rate":
                rate = sigma.apply(u)
                h = keep * h + rate / self.tau
            else:
                v = keep * v + u
                rate = h = sigma.apply(v)
            after.append(h)
            slopes.append(sigma.derivative(rate))
        return Path(torch.stack(after, 2), torch.stack(before, 2), torch.stack(slopes, 2))

    def output(self, view: View, inputs: Tensor) -> Tensor:
        """Return W_o h_T, [episode, sample, output], or [episode, sample, time, output]."""
        activities = self.run(view, inputs).activities
        if not self.timing.each:
            return view.matrices["readout"].matmul(activities[:, :, -1])
        found = view.matrices["readout"].matmul(activities.flatten(1, 2))
        return found.reshape(*activities.shape[:3], -1)

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the signals of all groups after one example, [episode, occurrence, neuron]."""
        path = Path(*(x[:, 0] for x in self.run(view, example.input[:, None])))
        read = path.activities if self.timing.each else path.activities[:, -1:]
        output = view.matrices["readout"].matmul(read)
        target = example.target if self.timing.each else example.target[:, None]
        error = self.objective.checked_error(output, target)
        lesson = self._lesson(view, error)
        missing = self.timing.time - lesson.shape[1]
        lesson = torch.nn.functional.pad(lesson, (0, 0, missing, 0))
        hidden = {
            post.activity: path.activities, post.error: lesson * path.slopes, LESSON: lesson,
            SLOPE: path.slopes,
        }  # fmt: skip
        signals = {
            "input": {**hidden, pre.activity: self.timing.expanded(example.input)},
            "recurrent": {**hidden, pre.activity: path.before},
            "readout": {
                post.activity: self.objective.activity(output), post.error: error,
                OUTPUT_ERROR: error, pre.activity: read,
            },
        }  # fmt: skip
        shown_steps = {"input": self.timing.shown}
        return Presented({
            name: Synapses(
                view.matrices[name], signals[name], arriving=shown_steps.get(name), restarts=True
            )
            for name in SITES
        })  # fmt: skip

    def _lesson(self, view: View, error: Tensor) -> Tensor:
        """Return B ε at the K steps with an output, [episode, K, neuron]."""
        backward = [view.matrices[FEEDBACK]] if FEEDBACK in self.shapes else []
        given = ErrorPass([view.matrices["readout"]], backward, (), error, self.nonlinearity)
        return self.feedback.below(0, error, given)

    @property
    def description(self) -> str:
        """Widths, steps, time constant, activation and how weights are drawn."""
        widths = "-".join(map(str, self.widths))
        return (
            f"{self.name} {widths}, {self.timing.time} steps, {self.leak} with tau {self.tau:g}, "
            f"{self.activation}, {self.init}"
        )

    def spec(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {
            "system": self.name, "widths": list(self.widths), **self.timing.spec(),
            "tau": self.tau, "leak": self.leak, "activation": self.activation, "init": self.init,
            "feedback": self.feedback_name, "objective": self.objective_name,
        }  # fmt: skip
