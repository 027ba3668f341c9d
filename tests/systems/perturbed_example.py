"""A system outside metaplast that learns from a reward: node perturbation.

Noise ξ_k of the example perturbs a layer below a fixed readout, K times over,

    h = tanh(W x),   h_k = tanh(W x + σ ξ_k),   reward_k = L(V h) − L(V h_k),

and `scalar("reward") * outer(post.deviation, pre.activity)` with deviation_k = σ ξ_k changes W, on
average over the noise, by −σ² ∂L/∂W + O(σ⁴). No error reaches the layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from systems.example_system import ExampleSystem

from metaplast.systems.objective import get_objective
from metaplast.systems.state import State
from metaplast.systems.system import Group, Presented
from metaplast.terms.algebra import W, post, pre
from metaplast.terms.term import Synapses

DEVIATION = post.signal("deviation")


@dataclass(frozen=True)
class Perturbed(ExampleSystem):
    features: int = 3
    neurons: int = 4
    classes: int = 3
    size: float = 0.5
    objective_name: str = "cross-entropy"

    name = "test-perturbed"
    summary = "a layer that learns from a reward, below a fixed readout"

    @cached_property
    def objective(self):
        return get_objective(self.objective_name)

    @property
    def shapes(self):
        return {"W": (self.neurons, self.features), "readout": (self.classes, self.neurons)}

    @property
    def groups(self):
        offers = frozenset({post.activity, pre.activity, DEVIATION})
        return (Group("W", W, 0, offers, frozenset({"reward", "loss"})),)

    @property
    def sites(self):
        return ("W",)

    def draw(self, episodes, generator, dtype=torch.float32):
        return State(self.draw_matrices(episodes, generator, dtype))

    def _loss(self, view, activity, target):
        output = view.matrices["readout"].matmul(activity)
        targets = target[:, None].expand(len(target), activity.shape[1], *target.shape[1:])
        return self.objective.loss(output, targets)

    def present(self, view, example, reads):
        x, deviation = example.input[:, None], self.size * example.noise
        drive = view.matrices["W"].matmul(x)
        activity = torch.tanh(drive + deviation)
        loss = self._loss(view, activity, example.target)
        signals = {
            post.activity: activity,
            DEVIATION: deviation,
            pre.activity: x.expand(-1, deviation.shape[1], -1),
        }
        reward = self._loss(view, torch.tanh(drive), example.target) - loss
        weight = 1 / deviation.shape[1]
        scalars = {"reward": reward, "loss": loss}
        return Presented({"W": Synapses(view.matrices["W"], signals, weight, scalars)})

    def output(self, view, inputs):
        return view.matrices["readout"].matmul(torch.tanh(view.matrices["W"].matmul(inputs)))

    def spec(self):
        return {"system": self.name, "neurons": self.neurons}
