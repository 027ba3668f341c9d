"""A batch of episodes: support and query sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metaplast.base.errors import require
from metaplast.systems.state import State
from metaplast.systems.system import Examples
from metaplast.tasks.checks import checked_batch


@dataclass(frozen=True)
class EpisodeBatch:
    """Independent tasks; each is learned online from its support set and tested on its query set.

    Tensors are not copied; whole numbers of other types become int64.

    Attributes:
        support_x: images, [episode, step, pixel]; the steps are already in the (shuffled) order in
            which the network sees them.
        support_y: class indices, [episode, step] whole numbers.
        query_x: images, [episode, query, pixel].
        query_y: class indices [episode, query], or class probabilities
            [episode, query, class], as `torch.nn.functional.cross_entropy` takes them.
        initial: the weights from which each episode is to be learned, if the task prescribes them;
            None to draw new ones.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    initial: State | None = None

    def __post_init__(self) -> None:
        """Check every axis.

        Raises:
            UserError: if tensors have a wrong type or shape, are empty, have different numbers of
                episodes or pixels, or are on different devices.
        """
        support_y, query_y = checked_batch(self)
        object.__setattr__(self, "support_y", support_y)
        object.__setattr__(self, "query_y", query_y)

    @classmethod
    def cat(cls, batches: Sequence[EpisodeBatch]) -> EpisodeBatch:
        """Return the episodes of some batches, one after another.

        Either all of them prescribe initial weights, or none does.

        Raises:
            UserError: if there is no batch, or they differ in sizes, kind of labels or whether
                weights are prescribed.
        """
        _check_alike(batches)
        initial = [batch.initial for batch in batches if batch.initial is not None]
        return cls(
            torch.cat([batch.support_x for batch in batches]),
            torch.cat([batch.support_y for batch in batches]),
            torch.cat([batch.query_x for batch in batches]),
            torch.cat([batch.query_y for batch in batches]),
            initial[0].cat(initial) if initial else None,
        )

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return self.support_x.shape[0]

    @property
    def steps(self) -> int:
        """Number of online steps of each episode."""
        return self.support_x.shape[1]

    @property
    def support(self) -> Examples:
        """The support set, each [episode, step, …]."""
        return Examples(self.support_x, self.support_y)

    @property
    def query(self) -> Examples:
        """The query set, each [episode, query, …]."""
        return Examples(self.query_x, self.query_y)

    def example(self, step: int) -> Examples:
        """Return the example of one online step, each [episode, …]."""
        return Examples(self.support_x[:, step], self.support_y[:, step])

    def to(self, dtype: torch.dtype) -> EpisodeBatch:
        """Return the same episodes with images, probabilities and weights in `dtype`."""

        def converted(target: Tensor) -> Tensor:
            return target.to(dtype) if target.is_floating_point() else target

        return EpisodeBatch(
            self.support_x.to(dtype),
            converted(self.support_y),
            self.query_x.to(dtype),
            converted(self.query_y),
            None if self.initial is None else self.initial.to(dtype),
        )

    def select(self, index: Tensor | slice) -> EpisodeBatch:
        """Return the episodes at `index`."""
        return EpisodeBatch(
            self.support_x[index],
            self.support_y[index],
            self.query_x[index],
            self.query_y[index],
            None if self.initial is None else self.initial.select(index),
        )


def _check_alike(batches: Sequence[EpisodeBatch]) -> None:
    """Raise `UserError` unless batches can be concatenated."""
    require(len(batches) >= 1, "cat() takes at least one episode batch, got none.")
    kinds = [
        (
            *(tuple(x.shape[1:]) for x in (batch.support_x, batch.query_x, batch.query_y)),
            str(batch.support_x.dtype),
            str(batch.query_y.dtype),
            str(batch.support_x.device),
            batch.initial
            and {name: tuple(m.shape[1:]) for name, m in batch.initial.matrices.items()},
        )
        for batch in batches
    ]
    require(
        all(kind == kinds[0] for kind in kinds),
        "batches to be put together must have the same numbers of images, pixels and classes, one "
        "kind of labels, one dtype and device, and all or none prescribe weights, got different "
        "ones.",
    )
