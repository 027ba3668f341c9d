"""A pool of labelled samples, in which every data set provides its images or numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from metaplast.systems.objective import TargetKind
from metaplast.systems.timing import Timing

#: "unit": one range for all inputs; "columns": a range for each input; "standard": mean and
#: standard deviation of each input.
Scaling = Literal["none", "unit", "columns", "standard"]


@dataclass(frozen=True, eq=False)
class LabelledPool:
    """All samples of a data set, from both sides of the split, with classes or numbers to learn.

    For regression, or if each step of a sequence has a target, the targets to learn are in
    `targets`, and all samples count as one class.

    Attributes:
        images: [image, pixel]; uint8 if the data set has bytes (a quarter of the memory of
            float32), else floating point.
        labels: [image] int64, 0 … classes-1, each class at least once.
        scale: the value of a pixel is `scale` times the stored number.
        held_out_classes: [class] the classes that the data set itself reserves for the test;
            None if it reserves none.
        note: a human-readable remark for the description; may be empty.
        scaling: how to scale inputs by statistics of the meta-training images, once the split is
            decided; see `episodes.scaling`. `scale` is then ignored.
        range_is_known: whether to give no warning about inputs far from 0 … 1.
        targets: [sample, output] float64, the numbers to learn; for each step of sequences
            [sample, time, output], or classes [sample, time] int64. None if `labels` are learned.
        target_scaling: how to scale each output by statistics of the meta-training samples.
        parts: the parts into which the data set itself is divided, such as "train" and "test", with
            their numbers of images, in the order of the images; empty if it has none.
        timing: the timing of sequences, whose frames are the parts of an image; None for vectors.
        digest: the digest of what was read from a user's files; empty for other data.
        words: what descriptions call a sample, and one of its numbers.
    """

    images: Tensor
    labels: Tensor
    scale: float = 1.0
    held_out_classes: Tensor | None = None
    note: str = ""
    scaling: Scaling = "none"
    range_is_known: bool = False
    targets: Tensor | None = None
    target_scaling: Scaling = "none"
    parts: Mapping[str, int] = field(default_factory=dict)
    timing: Timing | None = None
    digest: str = ""
    words: tuple[str, str] = ("image", "pixel")

    @classmethod
    def of_numbers(cls, images: Tensor, targets: Tensor, **options: Any) -> LabelledPool:
        """Return a pool for regression.

        Args:
            images: [sample, input].
            targets: [sample, output], or [sample] for one output; floating point.
            options: other attributes.
        """
        one_class = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        return cls(images, one_class, targets=targets.double().view(len(images), -1), **options)

    @property
    def kind(self) -> TargetKind:
        """What is learned: "classes" or "numbers"."""
        has_numbers = self.targets is not None and self.targets.is_floating_point()
        return "numbers" if has_numbers else "classes"

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.labels.max()) + 1

    @property
    def pixels(self) -> int:
        """Pixels of an image."""
        return self.images.shape[1]

    @property
    def inputs(self) -> int:
        """Numbers in one input: pixels, or features of one frame of a sequence."""
        return self.pixels if self.timing is None else self.pixels // self.timing.frames

    @property
    def outputs(self) -> int:
        """Output neurons: one for each class, or for each number of a target."""
        if self.targets is None:
            return self.classes
        return self.targets.shape[-1] if self.kind == "numbers" else int(self.targets.max()) + 1

    @property
    def sizes(self) -> str:
        """Numbers of samples, inputs and classes or targets, for descriptions."""
        if self.timing is not None:
            many = f"{len(self.images)} sequences of {_many(self.inputs, 'feature')}"
            learned = "target" if self.kind == "numbers" else "class"
            return f"{many}, {self.timing.description}, {_many(self.outputs, learned)}"
        if self.targets is None:
            sample, number = self.words
            return (
                f"{self.classes} classes, {len(self.images)} {sample}s of "
                f"{_many(self.pixels, number)}"
            )
        many = f"{len(self.images)} samples, {_many(self.pixels, 'input')}"
        return f"{many}, {_many(self.outputs, 'target')}"

    def to(self, device: torch.device) -> LabelledPool:
        """Return the same pool on a device."""
        targets = None if self.targets is None else self.targets.to(device)
        images, labels = self.images.to(device), self.labels.to(device)
        return replace(self, images=images, labels=labels, targets=targets)


def _many(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "es" if noun.endswith("s") else "s")


def numbered(labels: Tensor) -> Tensor:
    """Return `labels` [image] renumbered 0 … classes-1 in the order of their values."""
    renumbered: Tensor = torch.unique(labels, sorted=True, return_inverse=True)[1]
    return renumbered
