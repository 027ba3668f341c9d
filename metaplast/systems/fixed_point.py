"""A recurrent rate network at its fixed point: relaxed activity, implicit errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from metaplast.base.coerce import coerce
from metaplast.base.errors import require
from metaplast.base.notices import notice
from metaplast.systems.activation import Activation, parse_activation
from metaplast.systems.fixed_point_checks import require_valid
from metaplast.systems.implicit import SOLVERS, Relaxed, fixed_point, relax
from metaplast.systems.network import Network
from metaplast.systems.reparameterised import LINEARISED, UNGATED, AtRest, linearised, ungated
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples, Group, Presented
from metaplast.terms.algebra import Signal, W, post, pre
from metaplast.terms.operator import Operator
from metaplast.terms.synapses import Synapses

Wiring = Literal["random", "direct"]

OFFERED = frozenset(
    {post.activity, post.error, pre.activity, pre.error, *LINEARISED, *UNGATED}
)  # fmt: skip


@dataclass(frozen=True)
class FixedPoint(Network):
    """A recurrent network that learns at its fixed points; only W learns.

        r ← r + η (−r + f(W r + W_x x))  from r = 0 until max_i |f(W r + W_x x) − r|_i ≤ tolerance,
        z = R r,      e = (I − G Wᵀ)⁻¹ G ∇,      ∇ = Rᵀ ∂loss/∂z,     G = diag f′.

    Terms read r and e on both sides of W, so −e rᵀ is minus the gradient of the loss. They may also
    read the factors of two reparameterised rules,

        linearised_error = (I − W G) G ∇,   linearised_rate = (I − G W)ᵀ (I − G W) r,
        ungated_error    = (I − W G) ∇,     ungated_rate    = (I − W G)ᵀ (I − W G) r.

    An example is an input [episode, feature], or a mini-batch [episode, sample, feature] with a
    target for each sample; the change is then the mean over samples. A sample that does not settle
    is skipped: all its signals, ones included, are 0, and so is its output. Skipped samples are
    counted (`metaplast.base.notices`).

    Attributes:
        widths: inputs, neurons, outputs.
        activation: f, as `parse_activation` reads it, or "linear".
        objective_name: the objective of the output.
        gain: W is drawn from N(0, gain²/neurons), so its spectral radius is about the gain.
        drive: "random" for a fixed W_x from N(0, 1/inputs); "direct" for W_x = I, or the first
            columns of I: each input drives one neuron.
        readout: "random" for a fixed R from N(0, 1/neurons); "direct" for R = I, or the first rows
            of I: each output is one neuron's rate.
        batch: support examples that one step learns together, as a mini-batch.
        rate: η of the relaxation.
        steps: the largest number of relaxation steps; a sample that still moves after them counts
            as not settled.
        tolerance: the tolerance of the relaxation (relative to the largest rate if that is above 1)
            and of iterative solvers.
        solver: the solver of the implicit errors and gradients: "dense" or "gmres".
    """

    widths: tuple[int, int, int]
    activation: str = "tanh"
    objective_name: str = "cross-entropy"
    gain: float = 0.5
    drive: Wiring = "random"
    readout: Wiring = "random"
    rate: float = 0.5
    steps: int = 2000
    tolerance: float = 1e-6
    solver: str = "dense"
    batch: int = 1

    name = "fixed-point"
    summary = (
        "a recurrent network at its fixed point; fixed-point:gain=0.5,tolerance=1e-6,solver=gmres"
    )
    feedback_name = "implicit"
    traceable = False
    takes_batches = True

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            UserError: if a value has the wrong type or is out of range, or a name is unknown.
        """
        coerce(self)
        require_valid(self)
        _ = self.nonlinearity
        object.__setattr__(self, "objective_name", self.objective.name)

    @property
    def neurons(self) -> int:
        """Number of recurrent neurons."""
        return self.widths[1]

    @cached_property
    def nonlinearity(self) -> Activation:
        """f and its derivative."""
        return parse_activation(self.activation, allows_linear=True)

    @property
    def shapes(self) -> Mapping[str, tuple[int, int]]:
        """W, then the fixed input weights and readout, if they are random."""
        inputs, neurons, outputs = self.widths
        found = {"W": (neurons, neurons)}
        if self.drive == "random":
            found["input"] = (neurons, inputs)
        if self.readout == "random":
            found["readout"] = (outputs, neurons)
        return found

    @property
    def groups(self) -> tuple[Group, ...]:
        """W."""
        return (Group("W", W, 0, OFFERED),)

    @property
    def sites(self) -> tuple[str, ...]:
        """The one matrix that learns."""
        return ("W",)

    def draw(
        self, episodes: int, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> State:
        """Return normal matrices: W of variance gain²/neurons, the others of 1/columns.

        Raises:
            UserError: if the tolerance is too small for the precision of the dtype.
        """
        least = 4 * torch.finfo(dtype).eps
        require(
            self.tolerance >= least,
            f"{str(dtype).removeprefix('torch.')} resolves tolerances from {least:.1g} up, got "
            f"{self.tolerance:g}; write tolerance=1e-6, or use --dtype float64.",
        )
        matrices = {}
        for name, shape in self.shapes.items():
            out = torch.empty(episodes, *shape, device=generator.device, dtype=dtype)
            size = (self.gain if name == "W" else 1.0) / math.sqrt(shape[1])
            matrices[name] = out.normal_(generator=generator) * size
        return State(matrices)

    def present(self, view: View, example: Examples, reads: frozenset[Signal]) -> Presented:
        """Return the signals on both sides of W at the fixed point of each sample."""
        x, target = example.input, example.target
        if x.dim() == 2:
            x, target = x[:, None], target[:, None]
        rest = self.at_rest(view, x)
        operator = view.matrices["W"]
        error = self.objective.checked_error(self._read(view, rest.rates), target)
        gradient = self._to_rates(view, error)
        signals = {post.activity: rest.rates, post.one: torch.ones_like(rest.rates)}
        if reads & {post.error, pre.error}:
            # The only signal that needs a linear solve.
            signals[post.error] = self._errors(operator, rest, gradient)
        signals |= {Signal("pre", key.kind): value for key, value in signals.items()}
        if reads & frozenset(LINEARISED):
            signals |= linearised(operator, rest, gradient)
        if reads & frozenset(UNGATED):
            signals |= ungated(operator, rest, gradient)
        seen = {key: value * rest.exists for key, value in signals.items()}
        return Presented({"W": Synapses(operator, seen, 1 / x.shape[1])})

    def output(self, view: View, inputs: Tensor) -> Tensor:
        """Return z = R r, [episode, sample, output]; 0 for a sample that does not settle."""
        return self._read(view, self.at_rest(view, inputs).rates)

    def relaxed(self, view: View, inputs: Tensor) -> Relaxed:
        """Return the end of the relaxation for inputs [episode, sample, feature]; no gradient."""
        with torch.no_grad():
            return self._relaxed(view.matrices["W"], self._drive(view, inputs))

    def _relaxed(self, operator: Operator, drive: Tensor) -> Relaxed:
        return relax(
            self.nonlinearity.apply, operator.constant, drive.detach(), rate=self.rate,
            tolerance=self.tolerance, most=self.steps,
        )  # fmt: skip

    def at_rest(self, view: View, inputs: Tensor) -> AtRest:
        """Return the network at its fixed points for inputs [episode, sample, feature]."""
        f, operator = self.nonlinearity, view.matrices["W"]
        drive = self._drive(view, inputs)
        potential = operator.recall()
        if potential is None:
            with torch.no_grad():
                potential = self._potential(operator, drive)
        exists = torch.isfinite(potential).all(-1, keepdim=True)
        rates = f.apply(torch.where(exists, potential, 0.0) + drive.detach())
        p = fixed_point(
            operator, potential, lambda p: f.apply(p + drive), f.derivative(rates).detach(),
            SOLVERS[self.solver], self.tolerance,
        )  # fmt: skip
        rates = f.apply(p + drive)
        # If W is not finite, the episode has diverged: the signals must not be finite either.
        alive = torch.isfinite(operator.constant.sum((1, 2)))[:, None, None]
        mask = torch.where(exists, 1.0, torch.where(alive, 0.0, math.nan)).to(rates.dtype)
        return AtRest(rates * mask, f.derivative(rates), mask)

    def _potential(self, operator: Operator, drive: Tensor) -> Tensor:
        """Return W r at the fixed point; samples that do not settle are counted and yield NaN."""
        end = self._relaxed(operator, drive)
        failed = ~end.settled
        if failed.any():
            notice(
                "inputs did not settle and were skipped",
                int(failed.sum()), lambda: self._named(operator, end),
            )  # fmt: skip
        return torch.where(end.settled[..., None], end.rates @ operator.constant.mT, math.nan)

    def _named(self, operator: Operator, end: Relaxed) -> str:
        """Return a description of the first sample that did not settle."""
        episode, sample = (int(i) for i in (~end.settled).nonzero()[0])
        matrix = operator.constant[episode]
        radius = math.nan
        if torch.isfinite(matrix).all():
            radius = float(torch.linalg.eigvals(matrix).abs().max())
        return (
            f"sample {sample} of episode {episode} of its batch, with residual "
            f"{float(end.residual[episode, sample]):.2g} after {self.steps} steps; the spectral "
            f"radius of W was {radius:.3g}"
        )

    def _drive(self, view: View, inputs: Tensor) -> Tensor:
        if self.drive == "direct":
            return functional.pad(inputs, (0, self.neurons - self.inputs))
        return view.matrices["input"].matmul(inputs)

    def _read(self, view: View, rates: Tensor) -> Tensor:
        if self.readout == "direct":
            return rates[..., : self.outputs]
        return view.matrices["readout"].matmul(rates)

    def _to_rates(self, view: View, error: Tensor) -> Tensor:
        """Return ∇ = Rᵀ ∂loss/∂z."""
        if self.readout == "direct":
            return functional.pad(error, (0, self.neurons - self.outputs))
        return view.matrices["readout"].transposed(error)

    def _errors(self, operator: Operator, rest: AtRest, gradient: Tensor) -> Tensor:
        """Return e = (I − G Wᵀ)⁻¹ G ∇, as e = G (q + ∇) with q = Wᵀ e."""
        gain, solver = rest.gain, SOLVERS[self.solver]
        q = operator.recall()
        if q is None:
            with torch.no_grad():
                e = solver(gain, operator.constant, gain * gradient, self.tolerance)
                q = e @ operator.constant
        carried = fixed_point(
            operator, q, lambda q: gain * (q + gradient), gain.detach(), solver, self.tolerance,
            transposed=True,
        )  # fmt: skip
        return gain * (carried + gradient)

    @property
    def description(self) -> str:
        """Widths, activation and initial gain."""
        return (
            f"{self.name} {'-'.join(map(str, self.widths))}, {self.activation}, gain {self.gain:g}"
        )

    def spec(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        data = {field.name: getattr(self, field.name) for field in fields(self)}
        data |= {"widths": list(self.widths), "objective": data.pop("objective_name")}
        return {"system": self.name, **data, "feedback": self.feedback_name}
