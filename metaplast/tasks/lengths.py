"""Episodes of several lengths, because a rule should learn from few examples and from many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.derived import DerivedSampler, is_thread_safe
from metaplast.tasks.digest import plain_digest, sampler_digest
from metaplast.tasks.source import EpisodeSampler, EpisodeSplit


@dataclass(frozen=True, eq=False)
class MixedLengths(DerivedSampler):
    """Episodes of another sampler, cut to a length that is drawn for each batch.

    All lengths come from the same sampler, so an example that is held out at one length is never
    used for learning at another length.

    Attributes:
        base: the sampler of the longest episodes.
        shots: support examples of each class, or of an episode whose targets are numbers; every
            length is drawn equally often.
        longest: the number of shots in the episodes of `base`.
    """

    shots: tuple[int, ...]
    longest: int

    @property
    def is_thread_safe(self) -> bool:
        """Whether another thread may draw episodes, as the base sampler declares."""
        return is_thread_safe(self.base)

    def digest(self) -> str:
        """Return a digest of the base sampler's data and the lengths."""
        return plain_digest("lengths", [list(self.shots), sampler_digest(self.base)])

    def sample(self, episodes: int, generator: torch.Generator) -> EpisodeBatch:
        """Return `episodes` fresh episodes, all of one length."""
        count = len(self.shots)
        drawn = torch.randint(
            count, (), generator=generator, device=generator.device, dtype=torch.int64
        ).item()
        return _cut(self.base.sample(episodes, generator), self.shots[int(drawn)], self.longest)


def with_lengths(split: EpisodeSplit, shots: Sequence[int]) -> EpisodeSplit:
    """Return a split whose episodes have several lengths.

    Args:
        split: a split with the longest episodes.
        shots: support examples of each class; with one number, the split is returned unchanged.

    Raises:
        UserError: if the query labels come from a teacher, which learned from the longest support
            set.
    """
    if len(shots) < 2:
        return split
    require(
        split.planted is None,
        "a planted rule's teacher learns from the whole support set; give one number of --shots.",
    )
    binding = split.binding
    train, test = (
        MixedLengths(side, tuple(shots), max(shots)) for side in (split.train, split.test)
    )
    return replace(
        split,
        train=train,
        test=test,
        binding=None
        if binding is None
        else lambda system: with_lengths(replace(binding(system), binding=None), shots),
    )


def each_length(sampler: EpisodeSampler) -> tuple[EpisodeSampler, ...]:
    """Return a sampler for each length of a sampler's episodes."""
    if isinstance(sampler, MixedLengths):
        return tuple(replace(sampler, shots=(shots,)) for shots in sampler.shots)
    if isinstance(sampler, DerivedSampler):
        parts = each_length(sampler.base)
        return (
            tuple(replace(sampler, base=part) for part in parts) if len(parts) > 1 else (sampler,)
        )
    return (sampler,)


def _cut(batch: EpisodeBatch, shots: int, longest: int) -> EpisodeBatch:
    """Return episodes with only the first examples of each class, in their original order."""
    kept = _first(batch.support_y, shots, batch.steps // longest)
    noise = None if batch.noise is None else _rows(batch.noise, kept)
    return replace(
        batch,
        support_x=_rows(batch.support_x, kept),
        support_y=_rows(batch.support_y, kept),
        noise=noise,
    )


def _first(target: Tensor, shots: int, ways: int) -> Tensor:
    """Return the indices of the first examples of each class, [episode, example].

    If targets are not one class for each example, there are no classes to balance, and the first
    examples are kept.
    """
    episodes, first = (
        len(target),
        torch.arange(ways * shots, device=target.device, dtype=torch.int64),
    )
    if target.dim() != 2 or target.is_floating_point():
        return first.expand(episodes, -1)
    named = torch.unique(target, return_inverse=True)[1]
    among = torch.nn.functional.one_hot(named).cumsum(1)
    rank = among.gather(2, named[:, :, None])[:, :, 0]
    # Sort the first examples of each class before all others; both groups keep their order.
    return (rank > shots).int().argsort(dim=1, stable=True)[:, : len(first)]


def _rows(values: Tensor, kept: Tensor) -> Tensor:
    """Return the examples at some positions, [episode, example, …]."""
    index = kept.view(*kept.shape, *[1] * (values.dim() - 2)).expand(-1, -1, *values.shape[2:])
    return values.gather(1, index)
