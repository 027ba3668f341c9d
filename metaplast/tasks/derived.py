"""Samplers that change the episodes of another sampler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from metaplast.tasks.request import EpisodeRequest

if TYPE_CHECKING:
    from metaplast.tasks.source import EpisodeSampler


def request_of(sampler: EpisodeSampler) -> EpisodeRequest | None:
    """Return the request that a sampler was made for; None if the user wrote its class."""
    request = getattr(sampler, "request", None)
    return request if isinstance(request, EpisodeRequest) else None


@dataclass(frozen=True, eq=False)
class DerivedSampler:
    """A sampler whose episodes come from another one.

    Attributes:
        base: the other sampler.
    """

    base: EpisodeSampler

    @property
    def request(self) -> EpisodeRequest | None:
        """The request to the source; None if the user wrote the other sampler."""
        return request_of(self.base)

    @property
    def range_is_known(self) -> bool:
        """Whether the range of the inputs needs no further warning."""
        return bool(getattr(self.base, "range_is_known", False))
