"""Weights with the sign of their presynaptic neuron."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from metaplast.base.errors import UserError, require, require_choice, shown
from metaplast.base.words import assignments
from metaplast.systems.constraint import Limits, WeightConstraint, plain_number

EXCITATORY, FREE = "excitatory", "free"
_USAGE = "--weights dale:fraction=0.8,inputs=excitatory"


@dataclass(frozen=True)
class Dale(WeightConstraint):
    """Dale's principle: all synapses of a neuron excite, or all inhibit.

        P(V)_ij = s_j max(s_j V_ij, 0),     s_j = 1 for excitatory neurons j, −1 for inhibitory ones

    The first round(fraction · n) of a population's n neurons are excitatory, the others inhibitory.
    Weights are drawn alike for all neurons, so it does not matter which ones excite. This follows
    from a neuron's position, so the state need not record it. Drawn weights begin as s_j |W_ij|.

    Attributes:
        fraction: the fraction of excitatory neurons in each population, from 0 to 1.
        inputs: "excitatory", or "free" if the weights of inputs may have both signs, as if each
            input also drove inhibitory neurons that are not modelled.
    """

    fraction: float = 0.8
    inputs: str = EXCITATORY

    name = "dale"
    summary = (
        "dale:fraction=0.8,inputs=excitatory: weights have the sign of their presynaptic neuron; "
        "this fraction of neurons excites, and so do the inputs, unless inputs=free"
    )

    @property
    def written(self) -> str:
        """Name, and the settings that differ from the defaults."""
        settings = []
        if self.fraction != Dale.fraction:
            settings.append(f"fraction={plain_number(self.fraction)}")
        if self.inputs != EXCITATORY:
            settings.append(f"inputs={self.inputs}")
        return f"{self.name}:{','.join(settings)}" if settings else self.name

    @property
    def text(self) -> str:
        """A clause that says which neurons excite."""
        free = self.inputs == FREE
        inputs = "weights of inputs may have both signs" if free else "inputs excite"
        return (
            f"weights have the sign of their presynaptic neuron; a fraction {self.fraction:g} of "
            f"each population, its first neurons, excites, the others inhibit; {inputs}"
        )

    @property
    def projection(self) -> tuple[str, ...]:
        """Statements that clip each column by its sign."""
        clipped = "{xp}.clip(W, 0, None)", "{xp}.clip(W, None, 0)"
        return (*self._signs, f"return {{xp}}.where(excites, {', '.join(clipped)})")

    @property
    def beginning(self) -> tuple[str, ...]:
        """Statements that give each column its sign."""
        return (*self._signs, "return {xp}.where(excites, abs(W), -abs(W))")

    @property
    def _signs(self) -> tuple[str, ...]:
        """Statements that find the excitatory columns, and return W unchanged from free inputs."""
        share, free = repr(self.fraction), self.inputs == FREE
        return (
            *(("if from_inputs:", "    return W") if free else ()),
            f"share = {share if free else f'1.0 if from_inputs else {share}'}",
            "excites = {xp}.arange(W.shape[1]{place}) < round(share * W.shape[1])",
        )

    def configured(self, argument: str) -> Dale:
        """Return the constraint written as `dale:fraction=0.8,inputs=excitatory`.

        Raises:
            UserError: if the fraction is not a number from 0 to 1, `inputs` is neither "excitatory"
                nor "free", or a setting is unknown.
        """
        entries = argument.split(",") if argument else ()
        given = assignments("dale", entries, ("fraction", "inputs"), _USAGE)
        text, inputs = given.get("fraction", repr(self.fraction)), given.get("inputs", self.inputs)
        try:
            fraction = float(text)
        except ValueError:
            raise UserError(
                f"the fraction of excitatory neurons must be a number, got {shown(text)}; write "
                f"{_USAGE}."
            ) from None
        require(
            0 <= fraction <= 1,
            f"the fraction of excitatory neurons must be from 0 to 1, got {fraction:g}; write "
            f"{_USAGE}.",
        )
        require_choice("inputs of dale", inputs, (EXCITATORY, FREE))
        return Dale(fraction, inputs)

    def limits(self, columns: int, *, from_inputs: bool) -> Limits:
        """Return 0 and ∞ for excitatory neurons, −∞ and 0 for inhibitory ones."""
        if from_inputs and self.inputs == FREE:
            return Limits.everywhere(columns)
        excitatory = columns if from_inputs else round(self.fraction * columns)
        inhibitory = columns - excitatory
        low = (0.0,) * excitatory + (-math.inf,) * inhibitory
        high = (math.inf,) * excitatory + (0.0,) * inhibitory
        return Limits(low, high)

    def start(self, drawn: Tensor, *, from_inputs: bool) -> Tensor:
        """Return |W| with the signs of the columns; weights from free inputs are unchanged."""
        limits = self.limits(drawn.shape[-1], from_inputs=from_inputs)
        low, high = limits.tensors(drawn)
        signed = torch.where(high > 0, drawn.abs(), -drawn.abs())
        return torch.where(torch.isinf(low) & torch.isinf(high), drawn, signed)


dale = Dale()
