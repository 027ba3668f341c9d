"""Episodes whose steps learn several support examples together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.digest import plain_digest, sampler_digest

if TYPE_CHECKING:
    from metaplast.tasks.source import EpisodeSampler


@dataclass(frozen=True, eq=False)
class MiniBatches:
    """Episodes of another sampler whose steps learn several support examples together.

    Attributes:
        base: gives the episodes.
        size: support examples in the mini-batch of a step.
    """

    base: EpisodeSampler
    size: int

    @property
    def request(self) -> Any:
        """The request to the source; None if the user wrote the sampler."""
        return getattr(self.base, "request", None)

    @property
    def range_is_known(self) -> bool:
        """Whether the range of the inputs needs no further warning."""
        return bool(getattr(self.base, "range_is_known", False))

    def digest(self) -> str:
        """Return a digest of the other sampler's data and the size."""
        return plain_digest("mini-batches", [self.size, sampler_digest(self.base)])

    def sample(self, episodes: int, generator: torch.Generator) -> EpisodeBatch:
        """Return `episodes` fresh episodes.

        Raises:
            UserError: if the support examples cannot be divided into mini-batches of this size.
        """
        return self.base.sample(episodes, generator).in_batches(self.size)
