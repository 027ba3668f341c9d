"""A source made from a function that loads a labelled pool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from episodes.pool import LabelledPool
from episodes.splitting import split_pool
from episodes.stream import split_stream
from metaplast.base.errors import require
from metaplast.systems.system import Examples
from metaplast.tasks.request import EpisodeRequest, StreamRequest
from metaplast.tasks.source import EpisodeSource, EpisodeSplit
from metaplast.tasks.stream import StreamSplit


@dataclass(frozen=True, eq=False)
class Held:
    """A `load` that returns a pool in memory; unlike a closure, it can be pickled."""

    pool: LabelledPool

    def __call__(self, _: EpisodeRequest) -> LabelledPool:
        """Return the pool."""
        return self.pool


@dataclass(frozen=True, eq=False)
class PoolSource(EpisodeSource):
    """Episodes drawn from a labelled pool.

    Attributes:
        load: returns the pool for a request.
        takes_argument: whether `load` uses the argument of `--dataset name:argument`.
    """

    name: str
    summary: str
    load: Callable[[EpisodeRequest], LabelledPool]
    aliases: tuple[str, ...] = ()
    is_default: bool = False
    takes_argument: bool = False
    shots: int = 50

    def split(self, request: EpisodeRequest) -> EpisodeSplit:
        """Load the pool, hold out a part of it and return a sampler for each side.

        Raises:
            UserError: if the data is missing, damaged or too small for the request.
        """
        return split_pool(self.name, self._pool(request), request)

    def stream(self, request: StreamRequest) -> StreamSplit:
        """Load the pool and return a stream over each half of it.

        Raises:
            UserError: if the data is missing, damaged or too small for the request.
        """
        plain = EpisodeRequest(
            data_root=request.data_root, argument=request.argument, seed=request.seed
        )
        pool = self._pool(plain)
        require(
            pool.timing is None,
            f"{self.name} has sequences, but online training reads one vector for each sample; "
            f"choose other data.",
        )
        return split_stream(self.name, pool, request)

    def parts(self, request: StreamRequest) -> Mapping[str, Examples]:
        """Return the data set's own parts; see `EpisodeSource.parts`.

        Raises:
            UserError: if the data set has no parts, or the data is missing or damaged.
        """
        pool = self._pool(EpisodeRequest(data_root=request.data_root, argument=request.argument))
        if not pool.parts:
            return super().parts(request)
        sizes = list(pool.parts.values())
        images, labels = (torch.split(tensor, sizes) for tensor in (pool.images, pool.labels))
        return {
            part: Examples(
                some.to(request.device, request.dtype) * pool.scale, classes.to(request.device)
            )
            for part, some, classes in zip(pool.parts, images, labels, strict=True)
        }

    def _pool(self, request: EpisodeRequest) -> LabelledPool:
        require(
            self.takes_argument or not request.argument,
            f"the data set {self.name!r} takes nothing after a colon, got {request.argument!r}; "
            f"write --dataset {self.name}.",
        )
        return self.load(request)
