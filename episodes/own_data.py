"""Sources made from a user's own tensors or map-style data set."""

from __future__ import annotations

import warnings
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from episodes.arrays import Array, as_inputs, as_labels, scalars
from episodes.pool import LabelledPool, Scaling
from episodes.scaling import require_scaling
from episodes.source import PoolSource
from metaplast.base.errors import UserError, require, shown
from metaplast.tasks.input_range import far_range, warn_of_range
from metaplast.tasks.source import EpisodeSource

Scale = Literal["auto"] | Scaling

_MEND = (
    "give scale='unit' to bring all inputs into one range, scale='columns' to bring each input "
    "into its own, or scale='none' if this is meant"
)
# Byte images whose brightest pixel is below this are unusual.
DARK = 17


class MapStyleDataset(Protocol):
    """A data set of (image, label) pairs, as in `torch.utils.data`."""

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, index: int, /) -> Any:
        """Return image and label."""


def from_tensors(
    images: Any,
    labels: Any,
    *,
    name: str = "tensors",
    held_out_classes: Any = None,
    scale: Scale = "auto",
) -> EpisodeSource:
    """Return a source over images and labels in memory, which are copied.

    Args:
        images: [image, …] real numbers: a tensor (also sparse, or on a GPU), array or data frame.
            All axes but the first are flattened to pixels.
        labels: [image] classes: integers from 0 up, or text. Classes are numbered in the order of
            their labels.
        name: what messages and descriptions call the data.
        held_out_classes: labels of the classes to hold out for the test: one label, or any
            collection of labels; by default the request decides.
        scale: how the inputs are scaled.

            - "auto": bytes (uint8) are divided by 255, other numbers are unchanged. A warning says
              so if they are then far from 0 … 1.
            - "none": all numbers are unchanged, including bytes.
            - "unit": one range for all inputs is mapped to 0 … 1, as for images.
            - "columns": the range of each input is mapped to 0 … 1, as for measurements.
            - "standard": each input gets mean 0 and standard deviation 1.

            The last three are fitted only on images of meta-training (in a stream: on the images
            used to tune rates), so other images may leave the range.

    Raises:
        UserError: if a shape, a label or a pixel does not meet these requirements.
    """
    return _source(images, labels, name, held_out_classes, scale)


def from_dataset(
    dataset: MapStyleDataset,
    *,
    name: str = "dataset",
    held_out_classes: Any = None,
    scale: Scale = "auto",
) -> EpisodeSource:
    """Return a source over a map-style data set, which is read once, into memory.

    Args:
        dataset: `dataset[i]` is an image (tensor, array or PIL image) and a label, as for
            `from_tensors`, for i from 0 to len(dataset) - 1.
        name: what messages and descriptions call the data.
        held_out_classes: as for `from_tensors`.
        scale: as for `from_tensors`.

    Raises:
        UserError: if `dataset` is not such a data set, an item is not such a pair, or image shapes
            differ.
    """
    images: list[Tensor] = []
    labels: list[Array] = []
    for index in range(_length(name, dataset)):
        image, label = _pair(name, index, _item(name, dataset, index))
        require(
            not images or (image.shape, image.dtype) == (images[0].shape, images[0].dtype),
            f"{name} must have images of one shape and type, got {_kind(image)} at {index} after "
            f"{_kind(images[0] if images else image)}; resize or convert them.",
        )
        images.append(image)
        labels.append(label)
    kinds = {label.dtype.kind for label in labels}
    require(len(kinds) == 1, f"{name}: labels must be all whole numbers or all text, got both.")
    return _source(torch.stack(images), np.stack(labels), name, held_out_classes, scale)


def _source(images: Any, labels: Any, name: str, held_out: Any, scale: Scale) -> EpisodeSource:
    require(isinstance(name, str), f"the name of the data must be text, got {shown(name)}.")
    require_scaling(name, scale)
    _compare_rows(name, images, labels)
    pixels, classes = as_inputs(name, images), as_labels(name, labels)
    _check_shapes(name, pixels, classes)
    _check_labels(name, classes)
    known, numbered = np.unique(classes, return_inverse=True)
    pixels, factor = _check_pixels(name, pixels, scale)
    pool = LabelledPool(
        images=pixels.flatten(1),
        labels=torch.from_numpy(numbered.astype(np.int64)),
        scale=factor,
        held_out_classes=_held_out(name, known, held_out),
        note="" if scale == "auto" else f"scale {scale}",
        scaling="none" if scale == "auto" else scale,
        range_is_known=True,
    )
    summary = f"{len(pixels)} images of your own ({pool.classes} classes)"
    return PoolSource(name, summary, lambda _: pool)


def _length(name: str, dataset: Any) -> int:
    try:
        length = len(dataset)
    except TypeError:
        length = -1
    require(
        length >= 0 and hasattr(dataset, "__getitem__"),
        f"{name} must have a length and items by number, got {type(dataset).__name__}; give a "
        f"map-style data set, or a list of pairs.",
    )
    require(
        length > 0,
        f"{name} must hold (image, label) pairs, got an empty data set; give one with images.",
    )
    return int(length)


def _item(name: str, dataset: Any, index: int) -> Any:
    try:
        return dataset[index]
    except (LookupError, NotImplementedError, TypeError) as error:
        raise UserError(
            f"{name}[{index}] cannot be read ({type(error).__name__}: {shown(str(error))}); give a "
            f"data set whose items have the numbers 0 to {len(dataset) - 1}."
        ) from error


def _pair(name: str, index: int, item: Any) -> tuple[Tensor, Array]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise UserError(
            f"{name}[{index}] must be a pair of an image and a label, got "
            f"{type(item).__name__}; return both from __getitem__."
        )
    image = as_inputs(f"{name}[{index}]", item[0])
    label = as_labels(f"{name}[{index}]", item[1])
    require(
        label.size == 1,
        f"{name}[{index}] must have one integer label, got shape {tuple(label.shape)}; give the "
        f"number of its class.",
    )
    return image, label.reshape(())


def _kind(image: Tensor) -> str:
    return f"{image.dtype} of shape {tuple(image.shape)}"


def _compare_rows(name: str, images: Any, labels: Any) -> None:
    """Warn if a data frame and a series index their rows differently: rows match by position."""
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
    require(
        images.ndim >= 2 and labels.ndim == 1 and len(images) == len(labels) and images.numel() > 0,
        f"{name} must have images [image, …] and as many labels [image], got shapes {shapes}; "
        f"reshape them.",
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
            warn_of_range(0, high / 255, what, _MEND, stacklevel=4)
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
        warn_of_range(*bounds, f"{name}: images", _MEND, stacklevel=4)
    return images, 1.0


def _require_finite(name: str, images: Tensor) -> None:
    finite = images.flatten(1).isfinite().all(dim=1)
    require(
        bool(finite.all()),
        f"{name}: pixels must be finite, got NaN or infinity in {int((~finite).sum())} images, the "
        f"first at index {int((~finite).int().argmax())}; fix or remove them.",
    )


def _held_out(name: str, known: Array, chosen: Any) -> Tensor | None:
    """Return the numbers of the classes whose labels are `chosen`."""
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
