"""Samplers that change the episodes of another sampler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from metaplast.tasks.request import EpisodeRequest

if TYPE_CHECKING:
    from metaplast.tasks.source import EpisodeSampler


def request_of(sampler: EpisodeSampler) -> EpisodeRequest | None:
    """Return the request that a sampler was made for; None if the user wrote its class."""
    request = getattr(sampler, "request", None)
    return request if isinstance(request, EpisodeRequest) else None


def is_thread_safe(sampler: EpisodeSampler) -> bool:
    """Return whether another thread may draw a sampler's episodes, as the sampler declares."""
    return bool(getattr(sampler, "is_thread_safe", False))


def may_draw_ahead(sampler: EpisodeSampler, device: torch.device) -> bool:
    """Return whether another thread should draw episodes before they are needed.

    False if the sampler does not allow it, if torch may use only one thread, or on a GPU.
    """
    return is_thread_safe(sampler) and device.type == "cpu" and torch.get_num_threads() > 1


@dataclass(frozen=True, eq=False)
class DerivedSampler:
    """A sampler that takes its episodes from another sampler.

    Attributes:
        base: the sampler that it takes them from.
    """

    base: EpisodeSampler

    @property
    def request(self) -> EpisodeRequest | None:
        """The request to the source; None if the user wrote the class of the base sampler."""
        return request_of(self.base)

    @property
    def range_is_known(self) -> bool:
        """Whether the range of the inputs has been checked, so that no warning is needed."""
        return bool(getattr(self.base, "range_is_known", False))
