"""Scale the inputs of a pool, and numbers to learn, by statistics of its meta-training samples."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from episodes.pool import LabelledPool, Scaling
from metaplast.base.errors import require


def scaled(pool: LabelledPool, fit: Tensor, dtype: torch.dtype) -> LabelledPool:
    """Return the pool with inputs x replaced by (x − shift) / size, fitted on some of its images.

    With "unit", shift is the smallest of all inputs and size is their range. With "columns", they
    are the smallest value and the range of each input. With "standard", they are the mean and the
    standard deviation of each input. An input that does not vary in the fit becomes 0. Images
    outside the fit may leave the range from 0 to 1. Targets that are numbers are scaled in the same
    way.

    Args:
        pool: all images, on the CPU.
        fit: [image] bool, the images used for the fit, which must not be held out.
        dtype: the dtype of the result.

    Raises:
        UserError: if a number is too large for the dtype.
    """
    if pool.targets is not None and pool.target_scaling != "none":
        targets = _by_column(pool.targets, pool.outputs, fit, pool.target_scaling)
        pool = replace(pool, targets=targets, target_scaling="none")
    if pool.scaling != "none":
        images = _by_column(pool.images, pool.inputs, fit, pool.scaling)
        _require_held(images, "inputs", dtype)
        pool = replace(pool, images=images.to(dtype), scale=1.0, scaling="none")
    _require_held(pool.images, "inputs", dtype)
    if pool.targets is not None:
        _require_held(pool.targets, "targets", dtype)
    return pool


def _require_held(values: Tensor, what: str, dtype: torch.dtype) -> None:
    """Raise `UserError` if numbers are too large for a dtype, in which they would be infinite."""
    if not values.is_floating_point() or torch.finfo(values.dtype).max <= torch.finfo(dtype).max:
        return
    largest = max(abs(float(bound)) for bound in values.aminmax())
    kind = str(dtype).removeprefix("torch.")
    require(
        largest <= torch.finfo(dtype).max,
        f"{what} must be numbers that {kind} can hold, got some of size {largest:.3g}; scale them, "
        f"or use --dtype float64.",
    )


def _by_column(values: Tensor, columns: int, fit: Tensor, scaling: Scaling) -> Tensor:
    """Return scaled `values` [sample, …]; all steps of a sequence share the scale of a column."""
    flat = values.reshape(-1, columns)
    return _fitted(flat, fit.repeat_interleave(len(flat) // len(fit)), scaling).view(values.shape)


def _fitted(values: Tensor, fit: Tensor, scaling: Scaling) -> Tensor:
    """Return scaled `values` [sample, column] in float64, fitted on those in `fit` [sample]."""
    seen = values[fit].double()
    if scaling == "standard":
        shift, size = seen.mean(0), seen.std(0, correction=0)
    elif scaling == "columns":
        shift, size = seen.amin(0), seen.amax(0) - seen.amin(0)
    else:
        shift, size = seen.min(), seen.max() - seen.min()
    # An input varies only if its range exceeds rounding errors.
    varies = size > 1e-12 * seen.abs().amax(0).clamp(min=torch.finfo(torch.float64).tiny)
    size = torch.where(varies, size, torch.inf)
    return (values.double() - shift) / size


def require_scaling(name: str, scale: object, what: str = "scale") -> None:
    """Check the name of a scaling.

    Raises:
        UserError: if the name is unknown.
    """
    known = ("auto", *get_args(Scaling))
    require(
        isinstance(scale, str) and scale in known,
        f"{name}: {what} must be {' or '.join(known)}, got {scale!r}.",
    )
