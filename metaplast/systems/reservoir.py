"""A reservoir with fixed recurrent weights, whose readouts learn from a reward.

In each step, with z of the previous step and noise ξ ~ U(−1, 1) that comes with the example,

    x += (dt/τ)(−x + J r + Q z),   r = tanh x + 0.025 ξ_r,
    z_2 = W_2 r + b ξ_z,   z_1 = W_1 r,   z = z_1 + z_2,   e = ‖h(z) − target‖² + costs.

Filters, noise b, reward φ and the gate s are those of `metaplast.reservoirs.algorithm`. A rule
changes W_2 (`exploration`) and W_1 (`mastery`); the system itself changes P, by −s c k kᵀ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.reservoirs.algorithm import Algorithm, published
from metaplast.reservoirs.network import Dynamics
from metaplast.reservoirs.plain_loop import FIRST_NOISE
from metaplast.reservoirs.tasks import PEN, Task
from metaplast.systems.drawing_error import drawing_error, filtered, gate, position, reward
from metaplast.systems.objective import Objective, get_objective
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples, Group, Presented, System
from metaplast.terms.algebra import Signal, W, post, pre
from metaplast.terms.change import LowRankUpdate
from metaplast.terms.synapses import Synapses

DEVIATION, LESSON = post.signal("deviation"), post.signal("lesson")
DECORRELATED = pre.signal("decorrelated")


@dataclass(frozen=True)
class Reservoir(System):
    """A reservoir that learns to draw; each time step is one example.

    The exploration readout offers post.activity (z_2), post.deviation (z_2 − z̄_2), pre.activity (r)
    and the scalar reward φ(ē − e). The mastery readout offers post.activity (z_1), post.lesson (q),
    pre.activity (r), pre.decorrelated (k = P r) and the scalar consolidation, which is s c in the
    steps that update P, one in `mastery_every`, and 0 in all others.

    An example contains the position of the target, [2], and the noise ξ, [neuron + output]; without
    noise there is no exploration. Its input is used only in the test, where it is fed to Q as
    teacher forcing: the target for a pen, earlier outputs z for an arm. While the reservoir learns,
    its own z is fed to Q.

    Attributes:
        task: maps outputs to positions.
        algorithm: filters, noise, gate and costs. The rates λ and κ are coefficients of terms; here
            they only determine which readouts exist.
        dynamics: size and constants of the reservoir.
        mastery_every: steps from one update of P to the next.
    """

    task: Task = PEN
    algorithm: Algorithm = field(default_factory=lambda: published("supertrex", PEN))
    dynamics: Dynamics = field(default_factory=Dynamics)
    mastery_every: int = 10

    name = "reservoir"
    summary = "a reservoir whose readouts learn from a reward, and by recursive least squares"
    objective_name = "mse"

    def __post_init__(self) -> None:
        """Check that costs fit the task.

        Raises:
            UserError: if the costs do not fit, or `mastery_every` is below 1.
        """
        costs = len(self.algorithm.costs)
        require(
            costs in (0, self.task.outputs),
            f"{self.task.name} has {self.task.outputs} outputs, so it needs as many costs, "
            f"not {costs}.",
        )
        require(self.mastery_every >= 1, f"mastery_every must be at least 1, not "
                                         f"{self.mastery_every}.")  # fmt: skip

    @cached_property
    def objective(self) -> Objective:
        """Half the squared distance of the position to the target."""
        return get_objective(self.objective_name)

    @property
    def _readouts(self) -> tuple[str, ...]:
        how = self.algorithm
        found = (("exploration", how.explores), ("mastery", how.masters))
        return tuple(name for name, exists in found if exists)

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """Readouts, then P if there is mastery, then J and Q, which never change."""
        n, k = self.dynamics.neurons, self.task.outputs
        own = dict.fromkeys(self.own, (n, n))
        return dict.fromkeys(self._readouts, (k, n)) | own | {"J": (n, n), "Q": (n, k)}

    @property
    def carried(self) -> Mapping[str, int]:
        """x, r, z, the filters of z_2, z and e, the noise b, and the number of the step."""
        n, k = self.dynamics.neurons, self.task.outputs
        wide = {"x": n, "r": n, "z": k, "exploration_mean": k, "output_mean": k}
        return wide | {"error_mean": 1, "bound": 1, "step": 1}

    @property
    def own(self) -> tuple[str, ...]:
        """P, if there is mastery."""
        return ("P",) if self.algorithm.masters else ()

    @property
    def groups(self) -> tuple[Group, ...]:
        """The readouts."""
        offers = {
            "exploration": (frozenset({post.activity, DEVIATION, pre.activity}), "reward"),
            "mastery": (
                frozenset({post.activity, LESSON, pre.activity, DECORRELATED}), "consolidation",
            ),
        }  # fmt: skip
        return tuple(
            Group(name, W, site, offers[name][0], frozenset({offers[name][1]}))
            for site, name in enumerate(self._readouts)
        )

    @property
    def sites(self) -> tuple[str, ...]:
        """The readouts."""
        return self._readouts

    @property
    def inputs(self) -> int:
        """Length of the vector that is fed to Q in the test."""
        return self.task.outputs

    @property
    def outputs(self) -> int:
        """2, a position in the plane."""
        return 2

    def draw(
        self, episodes: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> State:
        """Return W = 0, P = I/10, sparse J, Q ~ U(−1, 1) and x ~ U(−½, ½)."""
        n, size = self.dynamics.neurons, self.dynamics

        def uniform(*shape: int) -> Tensor:
            return torch.rand(
                episodes, *shape, generator=generator, dtype=dtype, device=generator.device
            )

        filled = uniform(n, n) < size.density
        normal = torch.randn(
            episodes, n, n, generator=generator, dtype=dtype, device=generator.device
        )
        J = size.gain / math.sqrt(size.density * n) * filled * normal
        return self.start(J, 2 * uniform(n, self.task.outputs) - 1, uniform(n) - 0.5)

    def start(self, J: Tensor, Q: Tensor, x: Tensor) -> State:
        """Return the state of given reservoirs before the first step.

        Args:
            J: [episode, neuron, neuron].
            Q: [episode, neuron, output].
            x: [episode, neuron].
        """
        found = {"J": J, "Q": Q}
        if self.algorithm.masters:
            found["P"] = (
                (torch.eye(x.shape[1], dtype=x.dtype, device=x.device) / 10).expand_as(J).clone()
            )
        empty = x.new_zeros
        found |= {name: empty(len(x), *self.shapes[name]) for name in self._readouts}
        carry = {name: empty(len(x), length) for name, length in self.carried.items()}
        carry |= {"x": x.clone(), "r": torch.tanh(x)}
        if self.algorithm.explores:
            carry["bound"] = carry["bound"] + FIRST_NOISE
        return State({name: found[name] for name in self.shapes}, carry)

    def noise(
        self, episodes: int, steps: int, generator: torch.Generator,
        dtype: torch.dtype = torch.float32,
    ) -> Tensor:  # fmt: skip
        """Return ξ ~ U(−1, 1) for the support examples, [episode, step, neuron + output]."""
        shape = (episodes, steps, self.dynamics.neurons + self.task.outputs)
        drawn = torch.rand(shape, generator=generator, dtype=dtype, device=generator.device)
        return 2 * drawn - 1

    def position(self, z: Tensor) -> Tensor:
        """Return h(z), [..., 2], of outputs [..., output]; differentiable."""
        return position(self.task, z)

    def _relaxed(self, view: View, x: Tensor, r: Tensor, fed: Tensor) -> Tensor:
        """Return x of the next step, [episode, 1, neuron]."""
        drive = view.matrices["J"].matmul(r) + view.matrices["Q"].matmul(fed)
        return x + self.dynamics.leak * (drive - x)

    def _read(self, view: View, name: str, r: Tensor) -> Tensor:
        """Return a readout's output, [episode, 1, output]; 0 if the readout does not exist."""
        if name in self._readouts:
            return view.matrices[name].matmul(r)
        return r.new_zeros(*r.shape[:-1], self.task.outputs)

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the effects of one time step."""
        how, c = self.algorithm, {name: v[:, None] for name, v in view.carry.items()}
        x = self._relaxed(view, c["x"], c["r"], c["z"])
        r, moved = torch.tanh(x), None
        if example.noise is not None:
            noise = example.noise[:, None]
            r = r + self.dynamics.noise * noise[..., : self.dynamics.neurons]
            moved = c["bound"] * noise[..., self.dynamics.neurons :]
        z1, z2 = (self._read(view, name, r) for name in ("mastery", "exploration"))
        z2 = z2 if moved is None else z2 + moved
        z, first = z1 + z2, c["step"] == 0
        exploration_mean = filtered(c["exploration_mean"], z2, first, how.memory)
        output_mean = filtered(c["output_mean"], z, first, how.memory)
        usual = exploration_mean if how.cost_of == "exploration" else output_mean
        target = example.target[:, None]
        error = drawing_error(self.task, how.costs, z, z - usual, target)
        error_mean = filtered(c["error_mean"], error, first, 0.8)
        carry = {
            "x": x, "r": r, "z": z, "exploration_mean": exploration_mean,
            "output_mean": output_mean, "error_mean": error_mean,
            "bound": how.noise_size * (10 * error_mean) ** how.noise_power if how.explores
            else c["bound"],
            "step": c["step"] + 1,
        }  # fmt: skip
        synapses: dict[str, Synapses] = {}
        own: dict[str, LowRankUpdate] = {}
        if how.explores:
            scalar = reward(how, torch.where(first, 0.0, error_mean - error))[..., 0]
            synapses["exploration"] = self._exploration(view, r, z2, exploration_mean, scalar)
        if how.masters:
            lesson = exploration_mean if how.smooth else z2
            lesson = target - z if how.supervised else lesson
            s = torch.where(carry["step"] % self.mastery_every == 0, gate(how, error_mean), 0.0)
            synapses["mastery"], own["P"] = self._mastery(view, r, z1, lesson, s)
        return Presented(synapses, own, {name: value[:, 0] for name, value in carry.items()})

    @staticmethod
    def _exploration(view: View, r: Tensor, z2: Tensor, mean: Tensor, reward: Tensor) -> Synapses:
        """Return the synapses of the exploration readout."""
        signals = {post.activity: z2, DEVIATION: z2 - mean, pre.activity: r}
        return Synapses(view.matrices["exploration"], signals, scalars={"reward": reward})

    @staticmethod
    def _mastery(
        view: View, r: Tensor, z1: Tensor, lesson: Tensor, s: Tensor
    ) -> tuple[Synapses, LowRankUpdate]:
        """Return the synapses of the mastery readout, and the change of P."""
        k = view.matrices["P"].matmul(r)
        strength = s / (1 + (r * k).sum(-1, keepdim=True))
        signals = {post.activity: z1, LESSON: lesson, pre.activity: r, DECORRELATED: k}
        scalars = {"consolidation": strength[..., 0]}
        synapses = Synapses(view.matrices["mastery"], signals, scalars=scalars)
        return synapses, LowRankUpdate(None, -strength * k, k, None)

    def output(self, view: View, inputs: Tensor) -> Tensor:
        """Return positions of a test, [episode, sample, 2]: the samples are time steps, in order.

        Nothing learns, and there is no noise. With mastery, the exploration readout is off.
        """
        x, r = view.carry["x"][:, None], view.carry["r"][:, None]
        readout = "mastery" if self.algorithm.masters else "exploration"
        positions = []
        for step in range(inputs.shape[1]):
            x = self._relaxed(view, x, r, inputs[:, step : step + 1])
            r = torch.tanh(x)
            positions.append(self.position(self._read(view, readout, r)))
        return torch.cat(positions, 1)

    def spec(self) -> dict[str, Any]:
        """Return the system as plain data."""
        return {
            "system": self.name, "task": self.task.name, "neurons": self.dynamics.neurons,
            "algorithm": asdict(self.algorithm), "dynamics": asdict(self.dynamics),
            "mastery_every": self.mastery_every,
        }  # fmt: skip
