"""A system outside metaplast that uses every freedom of the contract.

A small recurrent network reads a sequence, keeps its state from one example to the next, and
decorrelates it with its own matrix:

    h_t = tanh(W_h h_{t-1} + W_x x_t),   z = W_o (h_T + P h_T),   P ← P − ρ h_T h_Tᵀ.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from systems.example_system import ExampleSystem

from metaplast.systems.objective import get_objective
from metaplast.systems.state import State
from metaplast.systems.system import Group, Presented
from metaplast.terms.algebra import W, post, pre
from metaplast.terms.compiled import LowRankUpdate
from metaplast.terms.term import Synapses

OFFERED = frozenset({post.activity, post.error, pre.activity, pre.error, post.signal("drive")})


@dataclass(frozen=True)
class Recurrent(ExampleSystem):
    features: int = 3
    neurons: int = 4
    classes: int = 3
    rate: float = 0.05
    objective_name: str = "cross-entropy"

    name = "test-recurrent"
    summary = "a recurrent network with a state that lasts"
    input_axes = 2

    @property
    def objective(self):
        return get_objective(self.objective_name)

    @property
    def shapes(self):
        n = self.neurons
        return {
            "input": (n, self.features),
            "recurrent": (n, n),
            "readout": (self.classes, n),
            "P": (n, n),
        }

    @property
    def carried(self):
        return {"h": self.neurons}

    @property
    def own(self):
        return ("P",)

    @property
    def groups(self):
        names = ("input", "recurrent", "readout")
        return tuple(Group(name, W, site, OFFERED) for site, name in enumerate(names))

    @property
    def sites(self):
        return ("input", "recurrent", "readout")

    def draw(self, episodes, generator, dtype=torch.float32):
        matrices = self.draw_matrices(episodes, generator, dtype)
        matrices["P"] = 0.1 * matrices["P"]
        return State(matrices, {"h": torch.zeros(episodes, self.neurons, dtype=dtype)})

    def _run(self, view, sequence, start):
        """Return h_0 … h_T and the recurrent drives, lists of [episode, 1, neuron]."""
        states, drives = [start], []
        for t in range(sequence.shape[1]):
            drives.append(view.matrices["recurrent"].matmul(states[-1]))
            driven = drives[-1] + view.matrices["input"].matmul(sequence[:, t : t + 1])
            states.append(torch.tanh(driven))
        return states, drives

    def _read(self, view, h):
        return view.matrices["readout"].matmul(h + view.matrices["P"].matmul(h))

    def present(self, view, example, reads):
        states, drives = self._run(view, example.input, view.carry["h"][:, None])
        last = states[-1]
        output = self._read(view, last)
        error = self.objective.error(output, example.target[:, None])
        slope = [1 - h.square() for h in states]
        errors = [view.matrices["readout"].transposed(error) * slope[-1]]
        for t in range(len(states) - 2, 0, -1):
            errors.insert(0, view.matrices["recurrent"].transposed(errors[0]) * slope[t])
        h, e = torch.cat(states[1:], 1), torch.cat(errors, 1)
        before, drive = torch.cat(states[:-1], 1), torch.cat(drives, 1)
        hidden = {post.activity: h, post.error: e, post.signal("drive"): drive}
        x = example.input
        synapses = {
            "input": {**hidden, pre.activity: x, pre.error: torch.zeros_like(x)},
            "recurrent": {**hidden, pre.activity: before, pre.error: torch.zeros_like(before)},
            "readout": {
                post.activity: output,
                post.error: error,
                post.signal("drive"): output,
                pre.activity: last,
                pre.error: torch.zeros_like(last),
            },
        }
        found = {name: Synapses(view.matrices[name], signals) for name, signals in synapses.items()}
        own = {"P": LowRankUpdate(None, -self.rate * last, last, None)}
        return Presented(found, own, {"h": last[:, 0]})

    def output(self, view, inputs):
        outputs = []
        for sample in range(inputs.shape[1]):
            states, _ = self._run(view, inputs[:, sample], view.carry["h"][:, None])
            outputs.append(self._read(view, states[-1]))
        return torch.cat(outputs, 1)

    def spec(self):
        return {"system": self.name, "neurons": self.neurons}
