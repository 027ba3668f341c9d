"""Errors of a recurrent network, carried back through time by a feedback."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from metaplast.scans.functions import carry_back, serves
from metaplast.systems.activation import Activation
from metaplast.systems.feedback import ChainFeedback, ErrorPass
from metaplast.systems.timing import Timing
from metaplast.terms.operator import Operator, Products

INPUT, RECURRENT, READOUT = 0, 1, 2


class Trajectory(NamedTuple):
    """Signals of all steps: z_1 … z_T, σ(z_1) … σ(z_T), and the drives W_h σ(z_t) for t < T.

    Each is [episode, time, sample, neuron].
    """

    potentials: Tensor
    activities: Tensor
    drives: Tensor


class Reading(NamedTuple):
    """The outputs at the K steps at which they are read, and the errors of all steps.

    `activities` σ(z), `output` and `error` are [episode, K, sample, neuron], K is 1 or T; `hidden`
    are e_1 … e_T, [episode, time, sample, neuron].
    """

    activities: Tensor
    output: Tensor
    error: Tensor
    hidden: Tensor


@dataclass(frozen=True, eq=False)
class ThroughTime:
    """Carries the output errors back to all time steps.

        e_t = (B_o ε_t + B_h e_{t+1}) ⊙ σ'(z_t),

    where ε_t is the output error at step t, zero at steps without one, and B_o, B_h are the
    feedback's replacements for W_oᵀ and W_hᵀ. If the feedback has a reach K, an error is carried
    back through at most K products with B_h.

    Attributes:
        feedback: the source of the errors.
        weights: W_x, W_h, W_o.
        backward: the feedback's own matrices, or none.
        activation: σ and σ'.
    """

    feedback: ChainFeedback
    weights: Sequence[Operator]
    backward: Sequence[Operator]
    activation: Activation

    def errors(self, activities: Tensor, output_errors: Tensor) -> Tensor:
        """Return e_1 … e_T, [episode, time, sample, neuron].

        Args:
            activities: σ(z_1) … σ(z_T), [episode, time, sample, neuron].
            output_errors: ε of the last K steps, [episode, K, sample, output]; K is 1 or T.
        """
        given = self._pass(output_errors)
        arrived = self.feedback.below(READOUT, output_errors.flatten(1, 2), given)
        sources = split(arrived, *output_errors.shape[1:3])
        scanned = self._scanned(activities, sources, given)
        return self._looped(activities, sources, given) if scanned is None else scanned

    def _scanned(self, y: Tensor, sources: Tensor, given: ErrorPass) -> Tensor | None:
        """Return the errors from one operation over all steps, or None if a loop is needed."""
        feedback, sigma = self.feedback, self.activation.scanned
        if feedback.reach is not None or not feedback.is_linear or not serves(sigma, y):
            return None
        passage = feedback.passage(RECURRENT, given)
        if passage is None:
            return None

        def products(matrix: Tensor, known: Tensor | None) -> Products:
            before = None if known is None else split(known, -1, y.shape[2])
            e, carried = carry_back(sigma, sources, y, matrix, passage.transposed, before)
            return Products(e[:, 1:].flatten(1, 2), carried.flatten(1, 2), e)

        errors: Tensor | None = passage.operator.scan(products, transposed=passage.transposed)
        return errors

    def _looped(self, y: Tensor, sources: Tensor, given: ErrorPass) -> Tensor:
        """Return the errors step by step."""
        activities = y.unbind(1)
        first = len(activities) - sources.shape[1]
        # Compute σ' of all steps at once.
        slopes = self.activation.derivative(y).unbind(1)
        found: list[Tensor] = []
        # Errors by age (how many steps they were carried back), youngest first:
        # [episode, age, sample, neuron].
        carried = sources[:, :0]
        ages: list[int] = []  # torch cannot compile list[int]().
        for t in reversed(range(len(activities))):
            parts = [sources[:, t - first, None]] if t >= first else []
            if ages:
                below = self.feedback.below(RECURRENT, carried.flatten(1, 2), given)
                parts.append(split(below, *carried.shape[1:3]))
            if not parts:
                found.append(torch.zeros_like(activities[t]))
                continue
            ages = [0] * (t >= first) + [age + 1 for age in ages]
            whole = (torch.cat(parts, 1) if len(parts) > 1 else parts[0]) * slopes[t][:, None]
            error = whole if len(ages) == 1 else whole.sum(1, keepdim=True)
            found.append(error.squeeze(1))
            carried, ages = self._kept(whole, error, ages)
        return torch.stack(found[::-1], 1)

    def _kept(self, whole: Tensor, error: Tensor, ages: Sequence[int]) -> tuple[Tensor, list[int]]:
        """Return the errors to carry further, and their ages; their sum if reach is unlimited."""
        if self.feedback.reach is None:
            return error, [0]
        kept = [age for age in ages if age < self.feedback.reach]
        return whole[:, : len(kept)], kept

    def below_input(self, frames: Tensor, timing: Timing, errors: Tensor) -> Tensor:
        """Return the synthetic input errors (B_x e_t) ⊙ σ'(x_t), [episode, time, feature].

        Args:
            frames: the frames of the input, [episode, frame, feature].
            timing: when the frames are shown.
            errors: e_1 … e_T, [episode, time, neuron].
        """
        carried = self.feedback.below(INPUT, errors, self._pass(errors))
        # Append one frame of zeros for all steps after the last frame.
        slopes = self.activation.derivative(nn.functional.pad(frames, (0, 0, 0, 1)))
        return carried * timing.held(slopes)

    def _pass(self, output_error: Tensor) -> ErrorPass:
        return ErrorPass(self.weights, self.backward, (), output_error, self.activation)


def split(x: Tensor, *sizes: int) -> Tensor:
    """Return x, [episode, a · b, neuron], as [episode, a, b, neuron]."""
    return x.reshape(len(x), *sizes, x.shape[-1])
