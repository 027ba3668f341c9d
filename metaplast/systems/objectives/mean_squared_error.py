"""Regression: linear outputs and the squared error."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metaplast.base.errors import UserError, require
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
        """Return vectors [*shape, neuron] of numbers in `dtype` whose `least_score` is finite."""
        wanted = (*shape, neurons)
        found = read_numbers(given)
        fits = found is not None and tuple(found.shape) == wanted
        mend = f"give one vector of {neurons} numbers for each sample"
        if fits:
            mend = "convert them to floating point"
        require(
            fits and found is not None and found.is_floating_point(),
            f"{what} of the objective mse must be floating-point vectors of shape {wanted}, got "
            f"{_shown(given, found)}; {mend}.",
        )
        assert found is not None
        largest = math.sqrt(torch.finfo(dtype).max / (4 * neurons))
        if not bool((found.abs() <= largest).all()):  # NaN is no less than anything.
            require(
                bool(torch.isfinite(found).all()),
                f"{what} must be finite numbers, got NaN or infinity; remove or repair those "
                f"samples.",
            )
            raise UserError(
                f"{what} must be at most {largest:.1e} in size, because {dtype} cannot hold their "
                f"squares, got {float(found.abs().max()):.1e}; scale them, in data of your own "
                f"with target_scale='standard'."
            )
        return found.to(device=device, dtype=dtype)


def _shown(given: object, found: Tensor | None) -> str:
    if found is None:
        masked = " with masked values" if np.ma.is_masked(given) else ""
        return f"a {type(given).__name__}{masked}"
    return f"{found.dtype} of shape {tuple(found.shape)}"


mean_squared_error = MeanSquaredError()
