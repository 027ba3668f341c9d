"""The interface of episode samplers and of the sources that supply them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch

from metaplast.base.errors import UserError
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.request import EpisodeRequest

if TYPE_CHECKING:
    from metaplast.rules.rule import Rule
    from metaplast.systems.system import System
    from metaplast.tasks.request import StreamRequest
    from metaplast.tasks.stream import StreamSplit


class EpisodeSampler(Protocol):
    """Draws episodes; all randomness comes from the generator it is given."""

    def sample(self, episodes: int, generator: torch.Generator) -> EpisodeBatch:
        """Return `episodes` fresh episodes."""


@dataclass(frozen=True)
class EpisodeSplit:
    """Episodes for meta-training and for the held-out test, which share no class or no image.

    Attributes:
        train: for meta-training and selection.
        test: only for the held-out test.
        held_out: "classes" if no class is in both, "images" if no image is.
        inputs: pixels of an image.
        outputs: width of the last layer.
        description: one human-readable line: source, classes, images.
        planted: the rule that made the query labels, if there is one; what discovery finds is
            compared with it.
            binding: makes the split anew for a system; None where
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
    binding: Callable[[System], EpisodeSplit] | None = None
    name: str = ""

    def bind(self, system: System) -> EpisodeSplit:
        """Return the split for a system that learns it.

        Raises:
            UserError: if the episodes do not fit such a system.
        """
        return self if self.binding is None else self.binding(system)


class EpisodeSource(ABC):
    """A data set, or anything else, from which episodes come.

    Attributes:
        name: what users write after `--dataset`.
        summary: one line for `--help` and the docs.
        is_default: exactly one registered source is taken when none is named.
        shots: support images of each class if the user gives no number; fewer if classes are small.
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
            UserError: if the data are missing, damaged or too small for the request.
        """

    def stream(self, request: StreamRequest) -> StreamSplit:
        """Load the data and return streams of single images; sources of images offer this.

        Raises:
            UserError: if the source supplies only separate tasks, or its data are invalid.
        """
        raise UserError(
            f"{self.name} supplies separate tasks and no stream of single images, which online "
            f"training needs; choose a data set of labelled images."
        )
