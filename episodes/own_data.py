"""Sources made from a user's own tensors or map-style data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from episodes.arrays import Array, as_inputs, as_labels
from episodes.own_source import Scale, own_pool, own_source
from metaplast.base.errors import UserError, require, shown
from metaplast.tasks.source import EpisodeSource


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
    target_scale: Scale = "auto",
) -> EpisodeSource:
    """Return a source over images and labels in memory, which are copied.

    Labels of integers or text are classes. Floating-point labels are numbers to learn (regression,
    `--objective mse`).

    Args:
        images: [image, …] real numbers: a tensor (also sparse, or on a GPU), array or data frame.
            All axes but the first are flattened to pixels.
        labels: [image] classes: integers from 0 up, or text. Classes are numbered in the order of
            their labels. Or numbers to learn: floating point, [image] or [image, output].
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
        target_scale: how numbers to learn are scaled: the same choices, "columns" and "standard"
            for each output; "auto" leaves them unchanged and warns if they are far from 0 … 1.

    Raises:
        UserError: if a shape, a label or a pixel does not meet these requirements.
    """
    pool = own_pool(name, images, labels, held_out_classes, scale, target_scale)
    return own_source(name, pool)


def from_dataset(
    dataset: MapStyleDataset,
    *,
    name: str = "dataset",
    held_out_classes: Any = None,
    scale: Scale = "auto",
    target_scale: Scale = "auto",
) -> EpisodeSource:
    """Return a source over a map-style data set, which is read once, into memory.

    Args:
        dataset: `dataset[i]` is an image (tensor, array or PIL image) and a label, as for
            `from_tensors`, for i from 0 to len(dataset) - 1.
        name: what messages and descriptions call the data.
        held_out_classes: as for `from_tensors`.
        scale: as for `from_tensors`.
        target_scale: as for `from_tensors`.

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
    _require_one_kind(name, labels)
    pool = own_pool(
        name, torch.stack(images), np.stack(labels), held_out_classes, scale, target_scale
    )
    return own_source(name, pool)


def _require_one_kind(name: str, labels: Sequence[Array]) -> None:
    """Check that the labels of a data set's items can be stacked."""
    words = {"U": "text", "f": "floating point", "i": "whole numbers"}
    kinds = [words[kind] for kind in sorted({label.dtype.kind for label in labels})]
    require(
        len(kinds) == 1,
        f"{name}: labels must be all whole numbers, all floating point or all text, got both "
        f"{' and '.join(kinds)}; convert them.",
    )
    shapes = {label.shape for label in labels}
    require(
        len(shapes) == 1,
        f"{name}: targets must have one length, got shapes "
        f"{' and '.join(map(str, sorted(shapes)))}; give every sample the same number of outputs.",
    )


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
    if label.dtype.kind == "f" and label.ndim <= 1 and label.size:
        return image, label
    require(
        label.size == 1,
        f"{name}[{index}] must have one integer label, got shape {tuple(label.shape)}; give the "
        f"number of its class, or floating-point numbers [output] to learn.",
    )
    return image, label.reshape(())


def _kind(image: Tensor) -> str:
    return f"{image.dtype} of shape {tuple(image.shape)}"
