"""Scale the inputs of a labelled pool by statistics of its meta-training images."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from episodes.pool import LabelledPool, Scaling
from metaplast.base.errors import require


def scaled(pool: LabelledPool, fit: Tensor, dtype: torch.dtype) -> LabelledPool:
    """Return the pool with inputs x replaced by (x − shift) / size, fitted on some of its images.

    With "unit", shift is the smallest of all inputs and size is their range. With "columns" this
    holds for each input separately. With "standard", shift and size are each input's mean and
    standard deviation. An input that never varies becomes 0. Other images than those of the fit may
    leave the range from 0 to 1.

    Args:
        pool: all images, on the CPU.
        fit: [image] bool, the images used for the fit: never those held out.
        dtype: of the result.
    """
    if pool.scaling == "none":
        return pool
    seen = pool.images[fit].double()
    if pool.scaling == "standard":
        shift, size = seen.mean(0), seen.std(0, correction=0)
    elif pool.scaling == "columns":
        shift, size = seen.amin(0), seen.amax(0) - seen.amin(0)
    else:
        shift, size = seen.min(), seen.max() - seen.min()
    # An input varies only if its range exceeds rounding errors.
    varies = size > 1e-12 * seen.abs().amax(0).clamp(min=torch.finfo(torch.float64).tiny)
    size = torch.where(varies, size, torch.inf)
    images = ((pool.images.double() - shift) / size).to(dtype)
    return replace(pool, images=images, scale=1.0, scaling="none")


def require_scaling(name: str, scale: object) -> None:
    """Check the name of a scaling.

    Raises:
        UserError: if it is unknown.
    """
    known = ("auto", *get_args(Scaling))
    require(
        isinstance(scale, str) and scale in known,
        f"{name}: scale must be {' or '.join(known)}, got {scale!r}.",
    )
