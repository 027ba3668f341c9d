"""Objectives whose targets are vectors of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metaplast.base.errors import UserError, require
from metaplast.systems.labels import read_numbers
from metaplast.systems.objective import Objective


class NumberObjective(Objective):
    """An objective whose targets are vectors of numbers, one for each output neuron."""

    target_kind = "numbers"

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
        """Return vectors [*shape, neuron] in `dtype`, whose squares `dtype` can represent.

        The arguments are those of `Objective.targets`.

        Raises:
            UserError: if the targets have another shape, are whole numbers, or are not finite or
                too large.
        """
        return _checked(given, (*shape, neurons), self.name, what, dtype).to(device)


def _checked(
    given: object, wanted: tuple[int, ...], objective: str, what: str, dtype: torch.dtype
) -> Tensor:
    found = read_numbers(given)
    fits = found is not None and tuple(found.shape) == wanted
    mend = f"give one vector of {wanted[-1]} numbers for each sample"
    if fits:
        mend = "convert them to floating point"
    require(
        fits and found is not None and found.is_floating_point(),
        f"{what} of the objective {objective} must be floating-point vectors of shape {wanted}, "
        f"got {_shown(given, found)}; {mend}.",
    )
    assert found is not None
    largest = math.sqrt(torch.finfo(dtype).max / (4 * wanted[-1]))
    if not bool((found.abs() <= largest).all()):  # NaN is no less than anything.
        require(
            bool(torch.isfinite(found).all()),
            f"{what} must be finite numbers, got NaN or infinity; remove or repair those samples.",
        )
        raise UserError(
            f"{what} must be at most {largest:.1e} in size, because {dtype} cannot hold their "
            f"squares, got {float(found.abs().max()):.1e}; scale them, in data of your own "
            f"with target_scale='standard'."
        )
    return found.to(dtype)


def _shown(given: object, found: Tensor | None) -> str:
    if found is None:
        masked = " with masked values" if np.ma.is_masked(given) else ""
        return f"a {type(given).__name__}{masked}"
    return f"{found.dtype} of shape {tuple(found.shape)}"
