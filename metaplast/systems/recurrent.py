"""The recurrent network, which reads a sequence; a feedback carries errors back through time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.scans.functions import advance, serves
from metaplast.systems.diagnostics import angle
from metaplast.systems.feedback import ChainFeedback, feedback_for
from metaplast.systems.sequence_network import SITES, SequenceNetwork
from metaplast.systems.state import View
from metaplast.systems.system import Examples, Group, Presented
from metaplast.systems.through_time import Reading, ThroughTime, Trajectory, split
from metaplast.systems.timing import Timing
from metaplast.terms.algebra import B, Signal, W, post, pre
from metaplast.terms.operator import Products
from metaplast.terms.synapses import Synapses

FEEDBACK = "_feedback"

_COMMON = frozenset({post.activity, post.error, pre.activity, pre.error})
_POST_Z, _PRE_Z, _DRIVE = post.signal("potential"), pre.signal("potential"), post.signal("drive")
OFFERED: Mapping[str, frozenset[Signal]] = {
    "input": _COMMON | {_POST_Z},
    "recurrent": _COMMON | {_POST_Z, _PRE_Z, _DRIVE},
    "readout": _COMMON | {_POST_Z, _PRE_Z},
}


@dataclass(frozen=True)
class Recurrent(SequenceNetwork):
    """A recurrent network without biases (Shervani-Tabar et al. 2024, section 2.4).

        z_{t+1} = W_h σ(z_t) + W_x x_{t+1},   z_1 = W_x x_1,   output W_o σ(z_T), or W_o σ(z_t)
                                                               at every step.

    Its errors come from a feedback, which carries them back through time:

        e_t = (B_o ε_t + B_h e_{t+1}) ⊙ σ'(z_t),

    with ε the output's error. Groups and their occurrences:

    - "input", W_x: pre x_t, post z_t, for t = 1 … T;
    - "recurrent", W_h: pre z_t, post z_{t+1}, for t = 1 … T−1;
    - "readout", W_o: pre z_T and the output, for the last step or for all.

    All offer activity σ(z), error e and the potential z; "recurrent" also offers the drive
    W_h σ(z_t), which is z_{t+1} without the new input.

    Attributes:
        widths: features of an input at one time step, recurrent neurons, output neurons.
        timing: how the frames of an input follow each other, and which steps have a target.
        activation: σ, as `parse_activation` reads it.
        init: how weights are drawn, as `Init` reads it.
        feedback_name: the feedback that supplies the errors, written out with its arguments.
        objective_name: the objective of the output; an alias becomes the objective's own name.
    """

    widths: tuple[int, ...]
    timing: Timing
    activation: str = "tanh"
    init: str = "xavier"
    feedback_name: str = "fixed"
    objective_name: str = "cross-entropy"

    name = "recurrent"
    summary = "a recurrent network, with errors through time"

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            UserError: if a width is out of range, a name is unknown, the feedback does not serve
                recurrent networks, or a value has the wrong type.
        """
        super().__post_init__()
        object.__setattr__(self, "feedback_name", self.feedback.written)
        object.__setattr__(self, "objective_name", self.objective.name)

    @cached_property
    def feedback(self) -> ChainFeedback:
        """The source of the errors."""
        found = feedback_for(Recurrent.name, self.feedback_name)
        require(
            isinstance(found, ChainFeedback),
            f"the feedback {found.name} must be a ChainFeedback to serve the system {self.name}; "
            f"take {self.name!r} from its systems.",
        )
        assert isinstance(found, ChainFeedback)
        return found

    @cached_property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """W_x, W_h and W_o, each [post, pre], then the feedback's own matrices."""
        inputs, neurons, outputs = self.widths
        widths = (inputs, neurons, neurons, outputs)
        weights = zip(widths[1:], widths[:-1], strict=True)
        own = self.feedback.shapes(widths)
        names = (site + FEEDBACK for site in SITES)
        return dict(zip(SITES, weights, strict=True)) | dict(zip(names, own, strict=False))

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """W_x, W_h and W_o, and the matrices of a plastic feedback, which share the sites."""
        kinds = ((W, ""), (B, FEEDBACK)) if self.feedback.is_plastic else ((W, ""),)
        return tuple(
            Group(site + end, matrix, index, OFFERED[site], from_inputs=site + end == "input")
            for matrix, end in kinds
            for index, site in enumerate(SITES)
        )

    def run(self, view: View, inputs: Tensor) -> Trajectory:
        """Return the signals of all time steps.

        Args:
            view: the matrices.
            inputs: [episode, sample, frame, feature].
        """
        # One product for all frames.
        arrived = view.matrices["input"].matmul(inputs.flatten(1, 2))
        frames = split(arrived, inputs.shape[1], -1).transpose(1, 2)
        scanned = self._scanned(view, frames)
        return self._looped(view, frames) if scanned is None else scanned

    def _scanned(self, view: View, frames: Tensor) -> Trajectory | None:
        """Return the signals from one operation over all steps, or None if a loop is needed."""
        sigma, show, time = self.nonlinearity.scanned, self.timing.show, self.timing.time
        if not serves(sigma, frames):
            return None

        def products(matrix: Tensor, known: Tensor | None) -> Products:
            before = None if known is None else split(known, -1, frames.shape[2])
            z, y, drives = advance(sigma, show, time, frames, matrix, before)
            found = Trajectory(z, y, drives)
            return Products(y[:, :-1].flatten(1, 2), drives.flatten(1, 2), found)

        path: Trajectory | None = view.matrices["recurrent"].scan(products)
        return path

    def _looped(self, view: View, frames: Tensor) -> Trajectory:
        """Return the signals step by step."""
        activate, inputs = self.nonlinearity.apply, frames.unbind(1)
        potentials = [inputs[0]]
        drives: list[Tensor] = []  # torch cannot compile list[Tensor]().
        activities = [activate(inputs[0])]
        for t in range(1, self.timing.time):
            drives.append(view.matrices["recurrent"].matmul(activities[-1]))
            frame = self.timing.frame(t)
            potentials.append(drives[-1] if frame is None else drives[-1] + inputs[frame])
            activities.append(activate(potentials[-1]))
        return Trajectory(*(torch.stack(x, 1) for x in (potentials, activities, drives)))

    def output(self, view: View, inputs: Tensor) -> Tensor:
        """Return W_o σ(z_T), [episode, sample, output], or [episode, sample, time, output]."""
        _, output = self._read(view, self.run(view, inputs))
        return output.transpose(1, 2) if self.timing.each else output[:, 0]

    def _read(self, view: View, path: Trajectory) -> tuple[Tensor, Tensor]:
        """Return σ(z) at the K steps with an output, and W_o σ(z), [episode, K, sample, neuron]."""
        read = path.activities if self.timing.each else path.activities[:, -1:]
        output = view.matrices["readout"].matmul(read.flatten(1, 2))
        return read, split(output, *read.shape[1:3])

    def reading(self, view: View, path: Trajectory, target: Tensor) -> Reading:
        """Return outputs and errors after a run.

        Args:
            view: the matrices.
            path: the signals of the run.
            target: [episode, sample, …], or [episode, sample, time, …] if every step has a target.
        """
        activities, output = self._read(view, path)
        target = target.transpose(1, 2) if self.timing.each else target[:, None]
        error = self.objective.checked_error(output.flatten(1, 2), target.flatten(1, 2))
        error = split(error, *output.shape[1:3])
        hidden = self._carrier(view).errors(path.activities, error)
        return Reading(activities, output, error, hidden)

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the signals of all groups after one example, [episode, occurrence, neuron]."""
        path = self.run(view, example.input[:, None])
        reading = self.reading(view, path, example.target[:, None])
        z, y, drives = (signal.squeeze(2) for signal in path)
        e, output = reading.hidden.squeeze(2), reading.output.squeeze(2)
        x = self.timing.expanded(example.input)
        last = slice(None) if self.timing.each else slice(-1, None)
        signals: dict[str, dict[Signal, Tensor]] = {
            "input": {post.activity: y, post.error: e, pre.activity: x},
            "recurrent": {
                post.activity: y[:, 1:],
                post.error: e[:, 1:],
                pre.activity: y[:, :-1],
                pre.error: e[:, :-1],
            },
            "readout": {
                post.activity: self.objective.activity(output),
                post.error: reading.error.squeeze(2),
                pre.activity: y[:, last],
                pre.error: e[:, last],
            },
        }
        # Computed only if a term reads them.
        if pre.error in reads:
            signals["input"][pre.error] = self._carrier(view).below_input(
                example.input, self.timing, e
            )
        if _DRIVE in reads:
            signals["recurrent"][_DRIVE] = drives
        if {_POST_Z, _PRE_Z} & reads:
            signals["input"][_POST_Z] = z
            signals["recurrent"] |= {_POST_Z: z[:, 1:], _PRE_Z: z[:, :-1]}
            signals["readout"] |= {_POST_Z: output, _PRE_Z: z[:, last]}
        return Presented({
            g.name: Synapses(
                view.matrices[g.name], signals[SITES[g.site]],
                arriving=self.timing.shown if SITES[g.site] == "input" else None,
            )
            for g in self.groups
        })  # fmt: skip

    def _carrier(self, view: View) -> ThroughTime:
        names = (site + FEEDBACK for site in SITES)
        return ThroughTime(
            self.feedback,
            [view.matrices[site] for site in SITES],
            [view.matrices[name] for name in names if name in self.shapes],
            self.nonlinearity,
        )

    def error_angles(self, view: View, query: Examples) -> Tensor:
        """Return the angle between the feedback's errors and BPTT's, in degrees, [episode, 1].

        Each side is the mean over the queries of e_1 … e_T, taken as one vector.
        """
        path = self.run(view, query.input)
        means = [
            system.reading(view, path, query.target).hidden.mean(2).flatten(1)
            for system in (self, replace(self, feedback_name="symmetric"))
        ]
        return angle(*means)[:, None]

    @property
    def description(self) -> str:
        """Widths, steps, activation and how weights are drawn."""
        widths = "-".join(map(str, self.widths))
        return f"{self.name} {widths}, {self.timing.time} steps, {self.activation}, {self.init}"

    def spec(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {
            "system": self.name,
            "widths": list(self.widths),
            **self.timing.spec(),
            "activation": self.activation,
            "init": self.init,
            "feedback": self.feedback_name,
            "objective": self.objective_name,
        }
