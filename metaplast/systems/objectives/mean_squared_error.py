"""Regression: linear outputs and the squared error."""

from __future__ import annotations

import math

from torch import Tensor

from metaplast.systems.number_objective import NumberObjective


class MeanSquaredError(NumberObjective):
    """loss = ½ Σ_j (z_j − t_j)², scored by −mean_j (z_j − t_j)².

    Targets are vectors [episode, sample, neuron].
    """

    name = "mse"
    summary = "numbers: linear outputs and half the squared error, scored by −MSE"
    aliases = ("mean-squared-error", "regression")
    score_name = "−MSE"
    worst = -math.inf
    best = 0.0
    least_effect = 0.002
    activity_text = "linear"
    loss_text = "half the squared distance to the target t"
    error_text = "z_L − t"
    error_latex = r"z_{L} - t"
    error_code = "{y} - {t}"

    def activity(self, output: Tensor) -> Tensor:
        """Return z: output neurons are linear."""
        return output

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return ½ Σ_j (z_j − t_j)² of each sample."""
        return 0.5 * (output - target).square().sum(-1)

    def error(self, output: Tensor, target: Tensor) -> Tensor:
        """Return z − t."""
        return output - target

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Return −mean_j (z_j − t_j)² of each sample."""
        return -(output - target).square().mean(-1)

    def least_score(self, target: Tensor) -> Tensor:
        """Return −mean_j (2 t_j)²: the score of an output of the right size and the wrong sign.

        That is four times the squared error of an output of zero. The choice is ours.
        """
        return self.score(-target, target)


mean_squared_error = MeanSquaredError()
