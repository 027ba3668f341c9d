"""A labelled pool of images: the form in which every data set provides its images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

#: "unit": one range for all inputs; "columns": a range for each input; "standard": mean and
#: standard deviation of each input.
Scaling = Literal["none", "unit", "columns", "standard"]


@dataclass(frozen=True, eq=False)
class LabelledPool:
    """All images of a data set, from both sides of the split.

    Attributes:
        images: [image, pixel]; uint8 if the data set has bytes (a quarter of the memory of
            float32), else floating point.
        labels: [image] int64, 0 … classes-1, each class at least once.
        scale: the value of a pixel is `scale` times the stored number.
        held_out_classes: [class] the classes that the data set itself reserves for testing, if any.
        note: a human-readable remark for the description; may be empty.
        scaling: how to scale inputs by statistics of the meta-training images, once the split is
            decided; see `episodes.scaling`. `scale` is then ignored.
        range_is_known: whether the user needs no warning about inputs far from 0 … 1.
    """

    images: Tensor
    labels: Tensor
    scale: float = 1.0
    held_out_classes: Tensor | None = None
    note: str = ""
    scaling: Scaling = "none"
    range_is_known: bool = False

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1

    @property
    def pixels(self) -> int:
        """Pixels of an image."""
        return self.images.shape[1]


def numbered(labels: Tensor) -> Tensor:
    """Return `labels` [image] renumbered 0 … classes-1 in the order of their values."""
    renumbered: Tensor = torch.unique(labels, sorted=True, return_inverse=True)[1]
    return renumbered
