"""What an episode is, and the contract of whatever supplies episodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from metaplast.checks import checked_batch
from metaplast.coerce import coerce
from metaplast.errors import UserError, require, require_seed, require_within

if TYPE_CHECKING:
    from metaplast.learner import State
    from metaplast.network import FullyConnected
    from metaplast.rule import Rule
    from metaplast.stream import StreamRequest, StreamSplit

LabelKind = Literal["global", "remapped"]
HeldOut = Literal["auto", "classes", "images"]


@dataclass(frozen=True)
class EpisodeBatch:
    """Independent tasks, each learned online from its support set and judged on its query set.

    Tensors are not copied; whole numbers of another kind become int64.

    Attributes:
        support_x: images, [episode, step, pixel]; the steps are already in the (shuffled) order
            in which the network meets them.
        support_y: class indices, [episode, step] whole numbers.
        query_x: images, [episode, query, pixel].
        query_y: class indices [episode, query], or class probabilities
            [episode, query, class], as `torch.nn.functional.cross_entropy` takes them.
        initial: the weights from which each episode is to be learned, where the task prescribes
            them; None to draw fresh ones.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    initial: State | None = None

    def __post_init__(self) -> None:
        """Check every axis.

        Raises:
            UserError: if tensors are of wrong kind or shape, empty, of different numbers of
                episodes or pixels, or on different devices.
        """
        support_y, query_y = checked_batch(self)
        object.__setattr__(self, "support_y", support_y)
        object.__setattr__(self, "query_y", query_y)

    @classmethod
    def cat(cls, batches: Sequence[EpisodeBatch]) -> EpisodeBatch:
        """Return the episodes of some batches, one after another.

        All prescribe initial weights, or none does.

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

    def to(self, dtype: torch.dtype) -> EpisodeBatch:
        """Return the same episodes with images, probabilities and weights in `dtype`."""
        soft = self.query_y.is_floating_point()
        return EpisodeBatch(
            self.support_x.to(dtype),
            self.support_y,
            self.query_x.to(dtype),
            self.query_y.to(dtype) if soft else self.query_y,
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
    """Raise `UserError` unless batches can be put one after another."""
    require(len(batches) >= 1, "cat() takes at least one episode batch, got none.")
    kinds = [
        (
            *(tuple(x.shape[1:]) for x in (batch.support_x, batch.query_x, batch.query_y)),
            str(batch.support_x.dtype),
            str(batch.query_y.dtype),
            str(batch.support_x.device),
            batch.initial
            and [[tuple(matrix.shape[1:]) for matrix in group] for group in batch.initial],
        )
        for batch in batches
    ]
    require(
        all(kind == kinds[0] for kind in kinds),
        "batches to be put together must have the same numbers of images, pixels and classes, one "
        "kind of labels, one dtype and device, and all or none prescribe weights, got different "
        "ones.",
    )


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """What is asked of every source: which data, and as what.

    Attributes:
        data_root: folder with data sets; None takes METAPLAST_DATA or the cache folder.
        argument: what follows the colon in `--dataset source:argument`.
        seed: decides the split, and the data of synthetic sources.
        device: where episodes are made.
        dtype: of the images.
    """

    data_root: Path | None = None
    argument: str = ""
    seed: int = 0
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class EpisodeRequest(DataRequest):
    """What a user asks of an episode source.

    Attributes:
        ways: classes in an episode, all distinct.
        shots: support images of each class.
        queries: query images of each class.
        labels: "global" keeps each class's own index (the paper's 47-way head), "remapped"
            numbers the classes of an episode 0 … ways-1.
        held_out: what meta-test episodes must not share with meta-training: whole "classes" or
            only "images"; "auto" takes classes where the source has enough of them.
    """

    ways: int = 5
    shots: int = 50
    queries: int = 10
    labels: LabelKind = "global"
    held_out: HeldOut = "auto"

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            UserError: if ways < 2, shots < 1 or queries < 1, the seed is none, or a value is of
                a wrong type.
        """
        coerce(self)
        require_seed("--seed", self.seed)
        for name, least in (("ways", 2), ("shots", 1), ("queries", 1)):
            require_within(f"--{name}", getattr(self, name), least)


class EpisodeSampler(Protocol):
    """Draws episodes; all randomness comes from the generator it is given."""

    def sample(self, episodes: int, generator: torch.Generator) -> EpisodeBatch:
        """Return `episodes` fresh episodes."""


@dataclass(frozen=True)
class EpisodeSplit:
    """Episodes for meta-training and for the held-out test, which share no class or no image.

    Attributes:
        train: for meta-training and selection.
        test: for the held-out test alone.
        held_out: "classes" if no class, "images" if no image is in both.
        inputs: pixels of an image.
        outputs: width of the last layer.
        description: one line for people: source, classes, images.
        planted: the rule that made the query labels, where one did; what discovery finds is
            compared with it.
        binding: makes the split anew for a network and the name of a feedback; None where
            episodes do not depend on who learns them.
        name: what the source calls the data; empty if it has no name.
    """

    train: EpisodeSampler
    test: EpisodeSampler
    held_out: Literal["classes", "images"]
    inputs: int
    outputs: int
    description: str
    planted: Rule | None = None
    binding: Callable[[FullyConnected, str], EpisodeSplit] | None = None
    name: str = ""

    def bind(self, network: FullyConnected, feedback: str) -> EpisodeSplit:
        """Return the split for a network that learns with errors from `feedback`.

        Raises:
            UserError: if the episodes do not fit such a learner.
        """
        return self if self.binding is None else self.binding(network, feedback)


class EpisodeSource(ABC):
    """A data set, or anything else, from which episodes come.

    Attributes:
        name: what users write after `--dataset`.
        summary: one line for `--help` and the docs.
        is_default: exactly one registered source is taken when none is named.
        shots: support images of each class where the user names no number; fewer where classes
            are small.
        is_planting: whether its argument is a rule, which then makes the query labels.
    """

    name: str
    summary: str
    aliases: tuple[str, ...] = ()
    is_default: bool = False
    is_planting: bool = False
    shots: int = 50

    @abstractmethod
    def split(self, request: EpisodeRequest) -> EpisodeSplit:
        """Load the data and return samplers for meta-training and the held-out test.

        Raises:
            UserError: if the data is missing, damaged or too small for the request.
        """

    def stream(self, request: StreamRequest) -> StreamSplit:
        """Load the data and return streams of single images; sources of images offer this.

        Raises:
            UserError: if the source supplies separate tasks alone, or its data will not do.
        """
        raise UserError(
            f"{self.name} supplies separate tasks and no stream of single images, which online "
            f"training needs; choose a data set of labelled images."
        )
