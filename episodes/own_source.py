"""Check a user's own images and labels, and make a source of them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from episodes.arrays import Array, as_inputs, as_labels, scalars
from episodes.pool import LabelledPool, Scaling
from episodes.scaling import require_scaling
from episodes.source import Held, PoolSource
from metaplast.base.errors import require, shown
from metaplast.tasks.input_range import far_range, warn_of_range
from metaplast.tasks.source import EpisodeSource

Scale = Literal["auto"] | Scaling

_MEND = (
    "give scale='unit' to bring all inputs into one range, scale='columns' to bring each input "
    "into its own, or scale='none' if this is intended"
)
_MEND_TARGETS = (
    "give target_scale='standard' to bring each output to mean 0 and standard deviation 1, or "
    "target_scale='none' if this is intended"
)
# Byte images whose brightest pixel is below this are unusual.
DARK = 17


def own_source(name: str, pool: LabelledPool) -> EpisodeSource:
    """Return a source over a user's own pool."""
    if pool.kind == "numbers":
        summary = f"{len(pool.images)} samples of your own (regression, {pool.outputs} outputs)"
    else:
        summary = f"{len(pool.images)} images of your own ({pool.classes} classes)"
    return PoolSource(name, summary, Held(pool))


def own_pool(
    name: str, images: Any, labels: Any, held_out: Any, scale: Scale, target_scale: Scale
) -> LabelledPool:
    """Return a pool of images and labels; arguments as for `episodes.from_tensors`.

    Raises:
        UserError: if the arguments do not meet the requirements of that function.
    """
    require(isinstance(name, str), f"the name of the data must be text, got {shown(name)}.")
    require_scaling(name, scale)
    require_scaling(name, target_scale, "target_scale")
    _compare_rows(name, images, labels)
    pixels, classes = as_inputs(name, images), as_labels(name, labels)
    _check_shapes(name, pixels, classes)
    inputs = input_pool(name, pixels, scale)
    return with_targets(name, inputs, classes, held_out, target_scale)


def input_pool(name: str, inputs: Tensor, scale: Scale) -> LabelledPool:
    """Return a pool of inputs [sample, …], flattened and still without targets.

    Raises:
        UserError: if the inputs do not meet the requirements of `episodes.from_tensors`.
    """
    pixels, factor = _check_pixels(name, inputs, scale)
    return LabelledPool(
        images=pixels.flatten(1),
        labels=torch.zeros(len(pixels), dtype=torch.int64, device="cpu"),
        scale=factor,
        note="" if scale == "auto" else f"scale {scale}",
        scaling="none" if scale == "auto" else scale,
        range_is_known=True,
    )


def with_targets(
    name: str, inputs: LabelledPool, targets: Array, held_out: Any, target_scale: Scale
) -> LabelledPool:
    """Return a pool with targets, one for each sample: numbers if they are floating point.

    Raises:
        UserError: if the targets do not meet the requirements of `episodes.from_tensors`.
    """
    kind = _with_numbers if targets.dtype.kind == "f" else _with_classes
    return kind(name, inputs, targets, held_out, target_scale)


def _with_classes(
    name: str, inputs: LabelledPool, labels: Array, held_out: Any, target_scale: Scale
) -> LabelledPool:
    """Return the pool in which `labels` [image], whole numbers or text, are classes."""
    _check_labels(name, labels)
    require(
        target_scale == "auto",
        f"{name} has classes as targets, which target_scale {target_scale!r} cannot scale; leave "
        f"it out, or give floating-point targets for regression.",
    )
    known, numbered = np.unique(labels, return_inverse=True)
    return replace(
        inputs,
        labels=torch.from_numpy(numbered.astype(np.int64)),
        held_out_classes=_held_out(name, known, held_out),
    )


def _with_numbers(
    name: str, inputs: LabelledPool, targets: Array, held_out: Any, target_scale: Scale
) -> LabelledPool:
    """Return the pool in which `targets` [sample] or [sample, output] are to be learned."""
    require(
        held_out is None,
        f"{name} has floating-point labels, that is numbers to learn and no classes, so "
        f"held_out_classes means nothing; leave it out, or convert the labels with labels.long(), "
        f"or labels.astype(int), if they are numbers of classes.",
    )
    numbers = torch.from_numpy(targets.reshape(len(targets), -1))
    constant = (numbers == numbers[0]).all(0) & (len(numbers) > 1)
    if bool(constant.any()):
        place = int(constant.int().argmax())
        warnings.warn(
            f"{name}: targets should differ from sample to sample, but output {place} is always "
            f"{float(numbers[0, place]):g}, so there is nothing to learn; check it, or leave it "
            f"out.",
            stacklevel=5,
        )
    bounds = far_range(numbers) if target_scale == "auto" else None
    if bounds is not None:
        warn_of_range(*bounds, f"{name}: targets", _MEND_TARGETS, stacklevel=5)
    scaled = target_scale if target_scale != "auto" else "none"
    note = "" if target_scale == "auto" else f"target scale {target_scale}"
    return replace(
        inputs,
        targets=numbers,
        target_scaling=scaled,
        note="; ".join(part for part in (inputs.note, note) if part),
    )


def _compare_rows(name: str, images: Any, labels: Any) -> None:
    """Warn if a data frame and a series index rows differently, as rows are matched by position."""
    if not (hasattr(images, "iloc") and hasattr(labels, "iloc")) or len(images) != len(labels):
        return
    if not images.index.equals(labels.index):
        warnings.warn(
            f"{name}: images and labels have different row names (index); they are matched by "
            f"position, so check that both are in the same order.",
            stacklevel=4,
        )


def _check_shapes(name: str, images: Tensor, labels: Array) -> None:
    shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
    axes = (1, 2) if labels.dtype.kind == "f" and labels.size else (1,)
    more = "" if len(axes) == 1 else " or [image, output]"
    require(
        images.ndim >= 2
        and labels.ndim in axes
        and len(images) == len(labels)
        and images.numel() > 0,
        f"{name} must have images [image, …] and as many labels [image]{more}, got shapes "
        f"{shapes}; reshape them.",
    )


def _check_labels(name: str, labels: Array) -> None:
    if labels.dtype.kind == "U":
        return
    least = int(labels.min())
    require(least >= 0, f"{name}: labels must be 0 or more, got {least}; remove or renumber them.")


def _check_pixels(name: str, images: Tensor, scale: Scale) -> tuple[Tensor, float]:
    """Return images of a type that a pool can hold, and the factor to multiply pixels by."""
    if images.dtype == torch.bool:
        images = images.to(torch.uint8)
        return images, 1.0
    if images.is_floating_point():
        _require_finite(name, images)
    low, high = (float(bound) for bound in images.aminmax())
    if images.dtype == torch.uint8:
        if scale != "auto":
            return images, 1.0
        if high < DARK:
            what = f"{name}: images are bytes up to {high:.0f} and are divided by 255, so that they"
            warn_of_range(0, high / 255, what, _MEND, stacklevel=5)
        return images, 1 / 255
    if not images.is_floating_point():
        require(
            scale != "auto" or (low >= 0 and high <= 1),
            f"{name}: images must be uint8, bool or floating point, got {images.dtype} numbers "
            f"from {low:.0f} to {high:.0f}, which may be bytes or measurements; {_MEND}.",
        )
        return images.double(), 1.0
    bounds = far_range(images) if scale == "auto" else None
    if bounds is not None:
        warn_of_range(*bounds, f"{name}: images", _MEND, stacklevel=5)
    return images, 1.0


def _require_finite(name: str, images: Tensor) -> None:
    finite = images.flatten(1).isfinite().all(dim=1)
    require(
        bool(finite.all()),
        f"{name}: pixels must be finite, got NaN or infinity in {int((~finite).sum())} images, the "
        f"first at index {int((~finite).int().argmax())}; fix or remove them.",
    )


def _held_out(name: str, known: Array, chosen: Any) -> Tensor | None:
    """Return the numbers of the classes whose labels are in `chosen`."""
    if chosen is None:
        return None
    wanted = scalars(name, chosen)
    numbers = {label: number for number, label in enumerate(known.tolist())}
    strange = [
        label
        for label in wanted
        if isinstance(label, bool | list | dict | set) or label not in numbers
    ]
    require(
        not strange,
        f"{name}: held_out_classes must be labels in the data, got {shown(strange)}; choose among "
        f"{known[0]} … {known[-1]}.",
    )
    return torch.tensor(
        sorted({numbers[label] for label in wanted}), dtype=torch.int64, device="cpu"
    )
