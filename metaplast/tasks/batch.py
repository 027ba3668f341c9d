"""A batch of episodes: support and query sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metaplast.base.device import find_device
from metaplast.base.errors import require
from metaplast.systems.state import State
from metaplast.systems.system import Examples
from metaplast.tasks.checks import checked_batch


@dataclass(frozen=True)
class EpisodeBatch:
    """Independent tasks; each is learned online from its support set and tested on its query set.

    Tensors are not copied, but integer labels of other types become int64.

    Attributes:
        support_x: images, [episode, step, input], or sequences, [episode, step, frame, feature];
            the steps are already in the (shuffled) order in which the network sees them.
            With mini-batches, [episode, step, sample, input].
        support_y: class indices, whole numbers [episode, step]; for regression, numbers to learn,
            [episode, step, output].
        query_x: images, [episode, query, input], or sequences as in the support.
        query_y: class indices [episode, query], or class probabilities
            [episode, query, class], as `torch.nn.functional.cross_entropy` takes them; for
            regression, numbers to learn, [episode, query, output].
        initial: the weights with which each episode starts; None to draw new weights.
        noise: the random numbers of each step, [episode, step, …], for systems that need them.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    initial: State | None = None
    noise: Tensor | None = None

    def __post_init__(self) -> None:
        """Check every axis.

        Raises:
            UserError: if tensors have a wrong type or shape, are empty, have different numbers of
                episodes or inputs, or are on different devices.
        """
        support_y, query_y = checked_batch(self)
        object.__setattr__(self, "support_y", support_y)
        object.__setattr__(self, "query_y", query_y)

    @classmethod
    def cat(cls, batches: Sequence[EpisodeBatch]) -> EpisodeBatch:
        """Return the episodes of all batches, concatenated in order.

        Raises:
            UserError: if there is no batch, or the batches differ in sizes, kind of labels, dtype
                or device, or in the shapes of the weights and noise that they prescribe.
        """
        _check_alike(batches)
        initial = [batch.initial for batch in batches if batch.initial is not None]
        noise = [batch.noise for batch in batches if batch.noise is not None]
        return cls(
            torch.cat([batch.support_x for batch in batches]),
            torch.cat([batch.support_y for batch in batches]),
            torch.cat([batch.query_x for batch in batches]),
            torch.cat([batch.query_y for batch in batches]),
            State.cat(initial) if initial else None,
            torch.cat(noise) if noise else None,
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
        """The support set: inputs, targets and noise, each [episode, step, …]."""
        return Examples(self.support_x, self.support_y, self.noise)

    @property
    def query(self) -> Examples:
        """The query set: inputs and targets, each [episode, query, …]."""
        return Examples(self.query_x, self.query_y)

    def example(self, step: int) -> Examples:
        """Return the example of one online step, each [episode, …]."""
        noise = None if self.noise is None else self.noise[:, step]
        return Examples(self.support_x[:, step], self.support_y[:, step], noise)

    def in_batches(self, size: int) -> EpisodeBatch:
        """Return the same episodes with mini-batches: each step has `size` support examples.

        Raises:
            UserError: if the examples cannot be divided in this way, or are already mini-batches.
        """
        require(
            self.support_x.dim() == self.query_x.dim() and self.steps % size == 0,
            f"{self.steps} support examples cannot be divided into mini-batches of {size}; choose "
            f"a size that divides their number, or another number of --shots.",
        )
        parts = (self.support_x, self.support_y, *(() if self.noise is None else (self.noise,)))
        x, y, *noise = (part.unflatten(1, (self.steps // size, size)) for part in parts)
        return replace(self, support_x=x, support_y=y, noise=noise[0] if noise else None)

    def on(self, device: torch.device | str) -> EpisodeBatch:
        """Return the same episodes on a device.

        Raises:
            UserError: if the device is unknown or absent.
        """
        device = find_device(str(device))
        return EpisodeBatch(
            self.support_x.to(device),
            self.support_y.to(device),
            self.query_x.to(device),
            self.query_y.to(device),
            None if self.initial is None else self.initial.on(device),
            None if self.noise is None else self.noise.to(device),
        )

    def to(self, dtype: torch.dtype) -> EpisodeBatch:
        """Return the same episodes with images, target vectors, weights and noise in `dtype`."""

        def converted(target: Tensor) -> Tensor:
            return target.to(dtype) if target.is_floating_point() else target

        return EpisodeBatch(
            self.support_x.to(dtype),
            converted(self.support_y),
            self.query_x.to(dtype),
            converted(self.query_y),
            None if self.initial is None else self.initial.to(dtype),
            None if self.noise is None else self.noise.to(dtype),
        )

    def select(self, index: Tensor | slice) -> EpisodeBatch:
        """Return the episodes at `index`."""
        return EpisodeBatch(
            self.support_x[index],
            self.support_y[index],
            self.query_x[index],
            self.query_y[index],
            None if self.initial is None else self.initial.select(index),
            None if self.noise is None else self.noise[index],
        )


def _check_alike(batches: Sequence[EpisodeBatch]) -> None:
    """Raise `UserError` unless batches can be concatenated."""
    require(len(batches) >= 1, "cat() takes at least one episode batch, got none.")
    first, *others = map(_kinds, batches)
    require(
        all(kinds == first for kinds in others),
        "cat() takes batches with the same numbers of images, inputs and classes, the same kind of "
        "labels, dtype and device, and the same shapes of prescribed weights and noise, if any; "
        "these batches differ.",
    )


def _kinds(batch: EpisodeBatch) -> dict[str, tuple[object, ...]]:
    """Return the shape (without the episode axis), dtype and device of every tensor."""
    tensors = {
        "support_x": batch.support_x,
        "support_y": batch.support_y,
        "query_x": batch.query_x,
        "query_y": batch.query_y,
    }
    if batch.noise is not None:
        tensors["noise"] = batch.noise
    if batch.initial is not None:
        tensors |= {f"matrix {name}": m for name, m in batch.initial.matrices.items()}
        tensors |= {f"vector {name}": v for name, v in batch.initial.carry.items()}
    return {name: (x.shape[1:], x.dtype, x.device) for name, x in tensors.items()}
