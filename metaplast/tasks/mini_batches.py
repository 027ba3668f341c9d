"""Episodes whose steps learn several support examples together."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.derived import DerivedSampler, is_thread_safe
from metaplast.tasks.digest import plain_digest, sampler_digest


@dataclass(frozen=True, eq=False)
class MiniBatches(DerivedSampler):
    """Episodes of another sampler whose steps learn several support examples together.

    Attributes:
        base: the sampler of the episodes.
        size: support examples in the mini-batch of a step.
    """

    size: int

    @property
    def is_thread_safe(self) -> bool:
        """Whether another thread may draw episodes, as the base sampler declares."""
        return is_thread_safe(self.base)

    def digest(self) -> str:
        """Return a digest of the base sampler's data and the size."""
        return plain_digest("mini-batches", [self.size, sampler_digest(self.base)])

    def sample(self, episodes: int, generator: torch.Generator) -> EpisodeBatch:
        """Return `episodes` fresh episodes.

        Raises:
            UserError: if the support examples cannot be divided into mini-batches of this size.
        """
        return self.base.sample(episodes, generator).in_batches(self.size)
