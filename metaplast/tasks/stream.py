"""The interface of streams of single images, for networks that learn online from scratch.

An episode holds a few classes. A stream holds all classes (or `ways` drawn ones) in random order,
and holds out other images for the test. Its two halves share no image: one is for tuning learning
rates, the other for comparing rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from metaplast.systems.objective import TargetKind
from metaplast.tasks.batch import EpisodeBatch

if TYPE_CHECKING:
    from metaplast.systems.timing import Timing


class StreamSampler(Protocol):
    """Draws the images that one network sees; all randomness comes from the generator."""

    def sample(self, steps: int, queries: int, generator: torch.Generator) -> EpisodeBatch:
        """Return one episode: `steps` images in order, and at most `queries` held-out images.

        If there are fewer images than steps, they are repeated, in a new order each time.
        """


@dataclass(frozen=True)
class StreamSplit:
    """Two streams that share no image.

    Attributes:
        tuning: for tuning learning rates.
        final: for the comparison.
        images: number of different images from which a network of `final` can learn.
        inputs: numbers in one input, such as the pixels of an image, or in one frame of a sequence.
        outputs: number of classes; for regression, of numbers in a target.
        description: one human-readable line.
        name: the name of the data; empty if they have none.
        targets: "classes", or "numbers" (vectors, for regression).
        timing: the timing of sequences, whose inputs are [frame, feature]; None if inputs are
            vectors.
    """

    tuning: StreamSampler
    final: StreamSampler
    images: int
    inputs: int
    outputs: int
    description: str
    name: str = ""
    targets: TargetKind = "classes"
    timing: Timing | None = None
