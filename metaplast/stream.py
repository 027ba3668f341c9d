"""Streams of single images, for networks that learn online from scratch: the contract.

Where an episode holds a few classes, a stream holds all of them (or `ways` drawn ones), in random
order, with other images held out. Its two halves share no image: one to find learning rates on,
one to compare rules on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from metaplast.coerce import coerce
from metaplast.episode import DataRequest, EpisodeBatch
from metaplast.errors import require_seed, require_within


@dataclass(frozen=True)
class StreamRequest(DataRequest):
    """What a user asks of a source's stream.

    Attributes:
        ways: classes that each network meets, drawn anew for each and renumbered 0 … ways-1;
            None for all classes of the data.
    """

    ways: int | None = None

    def __post_init__(self) -> None:
        """Check the number of classes.

        Raises:
            UserError: if it is below 2, or a value of a wrong type, or the seed is none.
        """
        coerce(self)
        require_seed("--seed", self.seed)
        if self.ways is not None:
            require_within("--ways", self.ways, 2)


class StreamSampler(Protocol):
    """Draws the images that one network meets; all randomness comes from the generator."""

    def sample(self, steps: int, queries: int, generator: torch.Generator) -> EpisodeBatch:
        """Return one episode: `steps` images in order, and at most `queries` held-out ones.

        Where there are fewer images than steps they are met again, in a new order each time.
        """


@dataclass(frozen=True)
class StreamSplit:
    """Two streams that share no image.

    Attributes:
        tuning: for finding learning rates.
        final: for the comparison.
        images: how many different images a network of `final` can learn from.
        inputs: pixels of an image.
        outputs: number of classes.
        description: one line for people.
    """

    tuning: StreamSampler
    final: StreamSampler
    images: int
    inputs: int
    outputs: int
    description: str
