"""Regression: linear outputs and the squared error."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.systems.labels import read_numbers
from metaplast.systems.objective import Objective


class MeanSquaredError(Objective):
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
    target_kind = "numbers"
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

        That is four times as bad as an output of zero. The choice is ours.
        """
        return self.score(-target, target)

    def targets(
        self,
        given: object,
        shape: Sequence[int],
        neurons: int,
        *,
        what: str = "the target",
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        online: bool = False,
    ) -> Tensor:
        """Return vectors [*shape, neuron] of finite numbers in `dtype`."""
        wanted = (*shape, neurons)
        found = read_numbers(given)
        require(
            found is not None and found.is_floating_point() and tuple(found.shape) == wanted,
            f"{what} of the objective mse must be floating-point vectors of shape {wanted}, got "
            f"{_shown(given, found)}; give one vector of {neurons} numbers for each sample.",
        )
        assert found is not None
        require(
            bool(torch.isfinite(found).all()),
            f"{what} must be finite numbers, got NaN or infinity; remove or repair those samples.",
        )
        return found.to(device=device, dtype=dtype)


def _shown(given: object, found: Tensor | None) -> str:
    if found is None:
        return f"a {type(given).__name__}"
    return f"{found.dtype} of shape {tuple(found.shape)}"


mean_squared_error = MeanSquaredError()
