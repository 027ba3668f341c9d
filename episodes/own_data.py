"""Sources made of a user's own tensors or map-style data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from episodes.pool import LabelledPool, numbered
from episodes.source import PoolSource
from episodes.storage import reason
from metaplast.episode import EpisodeSource
from metaplast.errors import UserError, require


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
    held_out_classes: Sequence[int] | None = None,
) -> EpisodeSource:
    """Return a source over images and labels in memory.

    Args:
        images: [image, …] tensor or array; bytes (uint8) are divided by 255, floating-point
            numbers are taken as they are. All axes but the first are flattened to pixels.
        labels: [image] integers from 0 up. Classes are numbered in the order of their labels.
        name: what messages and descriptions call the data.
        held_out_classes: labels of the classes to keep for the test; by default the request
            decides.

    Raises:
        UserError: if a shape, a label or a pixel is not as above.
    """
    pixels, classes = _tensor(name, "images", images), _tensor(name, "labels", labels)
    _check_shapes(name, pixels, classes)
    _check_labels(name, classes)
    pixels, scale = _check_pixels(name, pixels)
    pool = LabelledPool(
        images=pixels.flatten(1),
        labels=numbered(classes.long().cpu()),
        scale=scale,
        held_out_classes=_held_out(name, classes, held_out_classes),
    )
    summary = f"{len(pixels)} images of your own ({pool.classes} classes)"
    return PoolSource(name, summary, lambda _: pool)


def from_dataset(
    dataset: MapStyleDataset,
    *,
    name: str = "dataset",
    held_out_classes: Sequence[int] | None = None,
) -> EpisodeSource:
    """Return a source over a map-style data set, which is read once, into memory.

    Args:
        dataset: `dataset[i]` is an image (tensor, array or PIL image) and an integer label, for i
            from 0 to len(dataset) - 1.
        name: what messages and descriptions call the data.
        held_out_classes: as for `from_tensors`.

    Raises:
        UserError: if an item is no such pair, or images differ in shape.
    """
    require(
        len(dataset) > 0,
        f"{name} must hold (image, label) pairs, got an empty data set; give it some.",
    )
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for index in range(len(dataset)):
        image, label = _pair(name, index, dataset[index])
        require(
            not images or (image.shape, image.dtype) == (images[0].shape, images[0].dtype),
            f"{name} must have images of one shape and type, got {_kind(image)} at {index} after "
            f"{_kind(images[0] if images else image)}; resize or convert them.",
        )
        images.append(image)
        labels.append(label)
    return from_tensors(
        torch.stack(images), torch.stack(labels), name=name, held_out_classes=held_out_classes
    )


def _pair(name: str, index: int, item: Any) -> tuple[Tensor, Tensor]:
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise UserError(
            f"{name}[{index}] must be a pair of an image and a label, got "
            f"{type(item).__name__}; return both from __getitem__."
        )
    image = _tensor(name, "images", item[0] if torch.is_tensor(item[0]) else np.array(item[0]))
    label = _tensor(name, "labels", item[1])
    require(
        label.numel() == 1,
        f"{name}[{index}] must have one integer label, got shape {tuple(label.shape)}; give the "
        f"number of its class.",
    )
    return image, label.reshape(())


def _kind(image: Tensor) -> str:
    return f"{image.dtype} of shape {tuple(image.shape)}"


def _tensor(name: str, what: str, value: Any) -> Tensor:
    try:
        return torch.as_tensor(value, device="cpu")
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{name}: {what} must be a tensor or an array of numbers, got "
            f"{type(value).__name__} ({reason(error)}); convert it first."
        ) from error


def _check_shapes(name: str, images: Tensor, labels: Tensor) -> None:
    shapes = f"{tuple(images.shape)} and {tuple(labels.shape)}"
    require(
        images.ndim >= 2 and labels.ndim == 1 and len(images) == len(labels) and images.numel() > 0,
        f"{name} must have images [image, …] and as many labels [image], got shapes {shapes}; "
        f"reshape them.",
    )


def _check_labels(name: str, labels: Tensor) -> None:
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    require(
        whole,
        f"{name}: labels must be integers, got {labels.dtype}; convert them with labels.long().",
    )
    least = int(labels.min())
    require(least >= 0, f"{name}: labels must be 0 or more, got {least}; remove or renumber it.")


def _check_pixels(name: str, images: Tensor) -> tuple[Tensor, float]:
    """Return images of a type that a pool may hold, and what a pixel is to be multiplied by."""
    if images.dtype == torch.uint8:
        return images, 1 / 255
    if images.dtype == torch.bool:
        return images.to(torch.uint8), 1.0
    require(
        images.is_floating_point(),
        f"{name}: images must be uint8, bool or floating point, got {images.dtype}; convert them "
        f"with images.float().",
    )
    finite = images.flatten(1).isfinite().all(dim=1)
    require(
        bool(finite.all()),
        f"{name}: pixels must be finite, got NaN or infinity in {int((~finite).sum())} images, the "
        f"first at index {int((~finite).int().argmax())}; mend or remove them.",
    )
    return images, 1.0


def _held_out(name: str, labels: Tensor, chosen: Sequence[int] | None) -> Tensor | None:
    """Return the numbers of the classes whose labels are `chosen`."""
    if chosen is None:
        return None
    known = torch.unique(labels.cpu()).tolist()
    strange = sorted(set(chosen) - set(known))
    require(
        not strange,
        f"{name}: held_out_classes must be labels that occur, got {strange}; choose among "
        f"{known[0]} … {known[-1]}.",
    )
    return torch.tensor(
        [known.index(label) for label in sorted(set(chosen))], dtype=torch.int64, device="cpu"
    )
