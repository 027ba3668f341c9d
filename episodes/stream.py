"""Streams of single samples over a pool, in two halves that share no sample."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from episodes.pool import LabelledPool
from episodes.sampler import distinct
from episodes.scaling import scaled
from episodes.splitting import PARTS, places_in_class, require_ways
from metaplast.base.errors import require
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.request import StreamRequest
from metaplast.tasks.stream import StreamSplit

#: Least number of images of a class: each half needs one to learn from and one held out.
LEAST = 4


@dataclass(frozen=True, eq=False)
class PoolStream:
    """Draws images of all classes, or of `ways` random ones; each image once in a pass.

    Attributes:
        pool: images and labels.
        train: [image] indices of the images to learn from.
        test: [image] indices of the held-out ones.
        request: ways, dtype and device.
    """

    pool: LabelledPool
    train: Tensor
    test: Tensor
    request: StreamRequest

    @property
    def range_is_known(self) -> bool:
        """Whether the range of the inputs needs no further warning."""
        return self.pool.range_is_known

    def sample(self, steps: int, queries: int, generator: torch.Generator) -> EpisodeBatch:
        """Return one episode, see `StreamSampler`."""
        number = torch.arange(self.pool.classes, dtype=torch.int64, device="cpu")
        train, test = self.train, self.test
        ways = self.request.ways
        if ways is not None:
            sizes = torch.tensor([self.pool.classes], dtype=torch.int64, device="cpu")
            chosen = distinct(sizes, ways, generator)[0].cpu()
            number = torch.full((self.pool.classes,), -1, dtype=torch.int64, device="cpu")
            number[chosen] = torch.arange(ways, dtype=torch.int64, device="cpu")
            train, test = (side[number[self.pool.labels[side]] >= 0] for side in (train, test))
        passes = -(-steps // len(train))
        support = torch.cat([train[_order(len(train), generator)] for _ in range(passes)])[:steps]
        query = test[_order(len(test), generator)][:queries]
        return EpisodeBatch(*self._images(support, number), *self._images(query, number))

    def _images(self, index: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
        """Return images [1, image, pixel] and targets [1, image, …] on the request's device."""
        request, targets = self.request, self.pool.targets
        images = self.pool.images[index].to(request.device, request.dtype) * self.pool.scale
        if targets is not None:
            return images[None], targets[index][None].to(request.device, request.dtype)
        return images[None], number[self.pool.labels[index]][None].to(request.device)


def _order(length: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(
        length, generator=generator, dtype=torch.int64, device=generator.device
    ).cpu()


def split_stream(name: str, pool: LabelledPool, request: StreamRequest) -> StreamSplit:
    """Return two streams over halves of every class; a quarter of each half is held out.

    Args:
        name: the source, for messages.
        pool: all images, on the CPU.
        request: the user's request; its seed decides the halves.

    Raises:
        UserError: if there are fewer classes than ways, or too few images of a class.
    """
    require_ways(name, pool, request)
    counts = torch.bincount(pool.labels)
    smallest, has = int(counts.argmin()), int(counts.min())
    what, each = f"{pool.words[0]}s of class {smallest}", " of each class"
    if pool.targets is not None:
        what, each = "samples", ""
    require(
        has >= LEAST,
        f"{name} has {has} {what}, but a stream needs at least {LEAST}{each}; choose another data "
        f"set.",
    )
    place = places_in_class(pool.labels, torch.Generator().manual_seed(request.seed))
    count = counts[pool.labels]
    half = count // 2
    halves = _sides(place, half), _sides(place - half, count - half)
    # The scaling is fitted on the images that tune rates, because the comparison uses none of them.
    pool = scaled(pool, halves[0][0], request.dtype)
    tuning, final = (
        PoolStream(pool, _where(train), _where(test), request) for train, test in halves
    )
    ways = request.ways or pool.classes
    images = len(final.train) * ways // pool.classes
    return StreamSplit(
        tuning=tuning,
        final=final,
        images=images,
        inputs=pool.pixels,
        outputs=request.ways or pool.outputs,
        description=_describe(name, pool, request, tuning, final),
        name=name,
        targets=pool.kind,
    )


def _sides(place: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """Return masks of the images of a half that are learned, and of those that are held out.

    Args:
        place: the position of each image in its class, counted from the start of the half.
        size: how many images of its class are in the half.
    """
    held_out = (size // PARTS).clamp(min=1)
    inside = (place >= 0) & (place < size)
    return inside & (place >= held_out), inside & (place < held_out)


def _describe(
    name: str, pool: LabelledPool, request: StreamRequest, tuning: PoolStream, final: PoolStream
) -> str:
    which = "all" if request.ways is None else f"{request.ways} drawn for each network"
    whole = f"{pool.classes} classes, {which}" if pool.targets is None else pool.sizes
    parts = (
        f"{len(final.train)} {pool.words[0] if pool.targets is None else 'sample'}s to learn from, "
        f"{len(final.test)} held out, {len(tuning.train) + len(tuning.test)} others to find rates"
    )
    return "; ".join(part for part in (f"{name}: {whole}", parts, pool.note) if part)


def _where(mask: Tensor) -> Tensor:
    return mask.nonzero()[:, 0]
