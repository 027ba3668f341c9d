"""Draw episodes from a pool, a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from episodes.pool import LabelledPool
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.digest import Digest
from metaplast.tasks.request import EpisodeRequest

# Number of images converted to numbers at once for a digest.
_DIGESTED = 4096


def uniform(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    """Return numbers uniform on [0, 1) of `shape` on `device`.

    They are drawn on the generator's device, so that a CPU generator gives the same episodes on
    every device.
    """
    return torch.rand(shape, generator=generator, dtype=torch.float32, device=generator.device).to(
        device
    )


def distinct(sizes: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Return `number` different integers below each size, in random order: [row, number].

    Every ordered choice is equally likely: the integers are the positions of the largest of
    independent uniform keys.

    Args:
        sizes: [row] int64, each at least `number`.
        number: how many to draw in each row.
        generator: the only source of randomness.
    """
    widest = int(sizes.max())
    keys = uniform((len(sizes), widest), generator, sizes.device)
    outside = torch.arange(widest, dtype=torch.int64, device=sizes.device) >= sizes[:, None]
    return keys.masked_fill_(outside, -1.0).topk(number, dim=1).indices


def shuffled(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return `x` and `y` [episode, step] in a random order, the same for both."""
    order = uniform(tuple(x.shape), generator, x.device).argsort(dim=1)
    return x.gather(1, order), y.gather(1, order)


def support_and_queries(
    index: Tensor, label: Tensor, shots: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return indices and labels of the support, shuffled, then of the queries, class by class.

    Args:
        index: [episode, way, image]; the first `shots` images of each class are support.
        label: shaped like `index`.
        shots: support images of each class.
        generator: the only source of randomness.
    """
    support = shuffled(index[:, :, :shots].flatten(1), label[:, :, :shots].flatten(1), generator)
    return *support, index[:, :, shots:].flatten(1), label[:, :, shots:].flatten(1)


@dataclass(frozen=True, eq=False)
class PoolSampler:
    """Draws ways classes, then shots + queries images of each, all without repetition.

    If the pool has `targets`, such as numbers, an episode is shots + queries samples.

    Attributes:
        pool: images and labels, on the device where episodes are made.
        request: ways, shots, queries, kind of labels, dtype.
        members: [image] indices into the pool of the images that may be drawn, class by class.
        classes: [class] the classes that may be drawn.
        counts: [class] how many images each has.
    """

    pool: LabelledPool
    request: EpisodeRequest
    members: Tensor
    classes: Tensor
    counts: Tensor

    @property
    def ways(self) -> int:
        """Number of classes in an episode; 1 if the pool has `targets`."""
        return self.request.ways if self.pool.targets is None else 1

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of support and query samples in an episode."""
        return self.ways * self.request.shots, self.ways * self.request.queries

    @property
    def range_is_known(self) -> bool:
        """Whether the range of the inputs needs no further warning."""
        return self.pool.range_is_known

    @property
    def is_thread_safe(self) -> bool:
        """Whether another thread may draw episodes: drawing changes nothing in the sampler.

        A class that overrides `sample` must say so itself.
        """
        return type(self).sample is PoolSampler.sample

    @classmethod
    def over(cls, pool: LabelledPool, images: Tensor, request: EpisodeRequest) -> PoolSampler:
        """Return the sampler that draws only from `images`, [image] indices into the pool."""
        labels = pool.labels[images]
        classes, counts = torch.unique(labels, sorted=True, return_counts=True)
        return cls(pool, request, images[labels.argsort(stable=True)], classes, counts)

    def sample(self, episodes: int, generator: torch.Generator) -> EpisodeBatch:
        """Return `episodes` fresh episodes: support shuffled, query class by class."""
        chosen = self._classes(episodes, generator)
        index = self._images(chosen.flatten(), generator).view(episodes, self.ways, -1)
        label = self._labels(chosen)[:, :, None].expand_as(index)
        support, support_y, query, query_y = support_and_queries(
            index, label, self.request.shots, generator
        )
        if self.pool.targets is not None:
            support_y, query_y = self._numbers(support), self._numbers(query)
        return EpisodeBatch(
            self._pixels(support), support_y, self._pixels(query), query_y.contiguous()
        )

    def digest(self) -> str:
        """Return a digest of the images and targets that may be drawn, and of the request."""
        request, found = self.request, Digest("pool")
        found.plain([self.ways, request.shots, request.queries, request.labels])
        has_own = self.pool.targets is not None
        found.tensor(self._numbers(self.members) if has_own else self.pool.labels[self.members])
        if self.pool.timing is not None:
            found.plain(self.pool.timing.spec())
        for part in torch.split(self.members, _DIGESTED):
            found.tensor(self._pixels(part))
        return found.value()

    def _classes(self, episodes: int, generator: torch.Generator) -> Tensor:
        """Return the classes of each episode, as indices into `self.classes`: [episode, way]."""
        sizes = torch.full(
            (episodes,), len(self.classes), dtype=torch.int64, device=self.classes.device
        )
        return distinct(sizes, self.ways, generator)

    def _images(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Return pool indices of shots + queries images of each chosen class: [row, image]."""
        starts = self.counts.cumsum(0) - self.counts
        number = self.request.shots + self.request.queries
        within = distinct(self.counts[chosen], number, generator)
        return self.members[starts[chosen, None] + within]

    def _labels(self, chosen: Tensor) -> Tensor:
        """Return the label of each chosen class: [episode, way]."""
        if self.request.labels == "global":
            return self.classes[chosen]
        return torch.arange(chosen.shape[1], dtype=torch.int64, device=chosen.device).expand_as(
            chosen
        )

    def _pixels(self, index: Tensor) -> Tensor:
        """Return the images at `index` [episode, step] as numbers: [episode, step, pixel].

        Sequences are [episode, step, frame, feature].
        """
        pixels = self.pool.images[index].to(self.request.dtype) * self.pool.scale
        if self.pool.timing is None:
            return pixels
        return pixels.view(*index.shape, self.pool.timing.frames, self.pool.inputs)

    def _numbers(self, index: Tensor) -> Tensor:
        """Return the targets at `index` [episode, step]: [episode, step, …]."""
        assert self.pool.targets is not None
        found = self.pool.targets[index]
        return found.to(self.request.dtype) if found.is_floating_point() else found
