"""Targets that are vectors of numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metaplast.base.errors import UserError, require
from metaplast.systems.labels import read_numbers


def number_targets(
    objective: str,
    given: object,
    wanted: Sequence[int],
    *,
    what: str,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Tensor:
    """Return vectors of numbers in `dtype` whose squares it can hold.

    Args:
        objective: its name, for messages.
        given: the user's targets.
        wanted: their shape, [*sample, neuron].
        what: names them in errors.
        dtype: of the result.
        device: of the result.

    Raises:
        UserError: if they have another shape, are whole numbers, or are not finite or too large.
    """
    wanted = tuple(wanted)
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
    return found.to(device=device, dtype=dtype)


def _shown(given: object, found: Tensor | None) -> str:
    if found is None:
        masked = " with masked values" if np.ma.is_masked(given) else ""
        return f"a {type(given).__name__}{masked}"
    return f"{found.dtype} of shape {tuple(found.shape)}"
