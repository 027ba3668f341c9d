"""The source made of a function that loads a labelled pool."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from episodes.pool import LabelledPool
from episodes.splitting import split_pool
from metaplast.episode import EpisodeRequest, EpisodeSource, EpisodeSplit
from metaplast.errors import require


@dataclass(frozen=True, eq=False)
class PoolSource(EpisodeSource):
    """Episodes drawn from a labelled pool.

    Attributes:
        load: returns the pool for a request.
        takes_argument: whether `--dataset name:argument` means anything to `load`.
    """

    name: str
    summary: str
    load: Callable[[EpisodeRequest], LabelledPool]
    aliases: tuple[str, ...] = ()
    is_default: bool = False
    takes_argument: bool = False

    def split(self, request: EpisodeRequest) -> EpisodeSplit:
        """Load the pool, hold out a part of it and return a sampler for each side.

        Raises:
            UserError: if the data is missing, damaged or too small for the request.
        """
        require(
            self.takes_argument or not request.argument,
            f"the data set {self.name!r} takes nothing after a colon, got {request.argument!r}; "
            f"write --dataset {self.name}.",
        )
        return split_pool(self.name, self.load(request), request)
