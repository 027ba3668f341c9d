"""Weights with the sign of their presynaptic neuron."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metaplast.base.errors import UserError, require, shown
from metaplast.base.words import assignments
from metaplast.systems.constraint import Limits, WeightConstraint, plain_number

_USAGE = "--weights dale:fraction=0.8"


@dataclass(frozen=True)
class Dale(WeightConstraint):
    """Dale's principle: all synapses of a neuron excite, or all inhibit.

        P(V)_ij = s_j max(s_j V_ij, 0),     s_j = 1 for excitatory neurons j, −1 for inhibitory ones

    The first round(fraction · n) of a population's n neurons are excitatory, the others inhibitory.
    Weights are drawn alike for all neurons, so it does not matter which ones they are, and the signs
    need no place in the state. Inputs are excitatory.

    Drawn weights begin balanced, with the mean 0 and the mean square as drawn in each row:

        W_ij ← √(I/E) |W_ij| of excitatory neurons,   −√(E/I) |W_ij| of inhibitory ones

    for E excitatory and I inhibitory neurons; s_j |W_ij| if all are of one kind.

    Attributes:
        fraction: of excitatory neurons in each population, from 0 to 1.
    """

    fraction: float = 0.8

    name = "dale"
    summary = (
        "dale:fraction=0.8: weights have the sign of their presynaptic neuron, and this fraction "
        "of neurons excites"
    )

    @property
    def written(self) -> str:
        """Name, and the fraction unless it is the usual one."""
        usual = self.fraction == Dale.fraction
        return self.name if usual else f"{self.name}:fraction={plain_number(self.fraction)}"

    @property
    def text(self) -> str:
        """Which neurons excite."""
        return (
            f"weights have the sign of their presynaptic neuron: the first {self.fraction:g} of each "
            f"population and all inputs excite, the others inhibit"
        )

    @property
    def projection(self) -> tuple[str, ...]:
        """Clip the columns by their signs."""
        return (
            *self._signs,
            "return {xp}.where(excites, {xp}.clip(W, 0, None), {xp}.clip(W, None, 0))",
        )

    @property
    def beginning(self) -> tuple[str, ...]:
        """Give the columns their signs, in balance."""
        return (
            *self._signs,
            "ratio = (inhibitory / excitatory) ** 0.5 if inhibitory and excitatory else 1.0",
            "return {xp}.where(excites, abs(W) * ratio, -abs(W) / ratio)",
        )

    @property
    def _signs(self) -> tuple[str, ...]:
        return (
            f"share = 1.0 if from_inputs else {self.fraction!r}",
            "excitatory = round(share * W.shape[1])",
            "inhibitory = W.shape[1] - excitatory",
            "excites = {xp}.arange(W.shape[1]{place}) < excitatory",
        )

    def configured(self, argument: str) -> Dale:
        """Return the constraint written as `dale:fraction=0.8`.

        Raises:
            UserError: if the fraction is not a number from 0 to 1, or the setting is unknown.
        """
        if not argument:
            return self
        given = assignments("dale", argument.split(","), ("fraction",), _USAGE)["fraction"]
        try:
            fraction = float(given)
        except ValueError:
            raise UserError(
                f"the fraction of excitatory neurons must be a number, got {shown(given)}; write "
                f"{_USAGE}."
            ) from None
        require(
            0 <= fraction <= 1,
            f"the fraction of excitatory neurons must be from 0 to 1, got {fraction:g}; write "
            f"{_USAGE}.",
        )
        return Dale(fraction)

    def limits(self, columns: int, *, from_inputs: bool) -> Limits:
        """Return 0 and ∞ for excitatory neurons, −∞ and 0 for inhibitory ones."""
        excitatory = self.excitatory(columns, from_inputs=from_inputs)
        inhibitory = columns - excitatory
        low = (0.0,) * excitatory + (-math.inf,) * inhibitory
        high = (math.inf,) * excitatory + (0.0,) * inhibitory
        return Limits(low, high)

    def start(self, drawn: Tensor, *, from_inputs: bool) -> Tensor:
        """Return |W| with the signs of the columns, in balance."""
        columns = drawn.shape[-1]
        excitatory = self.excitatory(columns, from_inputs=from_inputs)
        inhibitory = columns - excitatory
        ratio = math.sqrt(inhibitory / excitatory) if inhibitory and excitatory else 1.0
        scale = torch.full((columns,), ratio, dtype=drawn.dtype, device=drawn.device)
        scale[excitatory:] = -1 / ratio
        return drawn.abs() * scale

    def excitatory(self, columns: int, *, from_inputs: bool) -> int:
        """Return how many of a population's neurons, or of the inputs, are excitatory."""
        return columns if from_inputs else round(self.fraction * columns)


dale = Dale()
