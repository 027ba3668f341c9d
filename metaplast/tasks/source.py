"""The interfaces of episode samplers and of the sources that supply them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch

from metaplast.base.errors import UserError
from metaplast.systems.objective import TargetKind
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.checks import require_inputs, require_targets
from metaplast.tasks.mini_batches import MiniBatches
from metaplast.tasks.request import EpisodeRequest

if TYPE_CHECKING:
    from metaplast.rules.rule import Rule
    from metaplast.systems.system import Examples, System
    from metaplast.systems.timing import Timing
    from metaplast.tasks.request import StreamRequest
    from metaplast.tasks.stream import StreamSplit


class EpisodeSampler(Protocol):
    """Draws episodes; all randomness comes from the given generator."""

    def sample(self, episodes: int, generator: torch.Generator) -> EpisodeBatch:
        """Return `episodes` fresh episodes."""


@dataclass(frozen=True)
class EpisodeSplit:
    """Episodes for meta-training and for the held-out test, which share no classes or no images.

    Attributes:
        train: the sampler for meta-training and selection.
        test: the sampler for the held-out test, used for nothing else.
        held_out: "classes" if the two share no class, "images" if they share no image.
        inputs: numbers in one input, such as the pixels of an image, or in one frame of a sequence.
        outputs: width of the last layer.
        description: one human-readable line: source, classes, images.
        planted: the rule that made the query labels, if any; the discovered rule is compared with
            it.
        binding: returns the split for a system; None if the episodes are the same for all systems.
        name: the name of the data; empty if they have none.
        targets: "classes" (indices or probabilities), or "numbers" (vectors, for regression).
        timing: the timing of sequences, whose inputs are [frame, feature]; None if inputs are
            vectors.
        digest: the digest of what was read from a user's files, which must be unchanged when the
            run is resumed; empty for other data.
        prefix: what precedes the name of the data after `--dataset`, such as "planted:bio@".
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
    targets: TargetKind = "classes"
    timing: Timing | None = None
    digest: str = ""
    prefix: str = ""

    def bind(self, system: System) -> EpisodeSplit:
        """Return the split for a system that learns it.

        Raises:
            UserError: if the episodes do not fit the system, only one of the two has sequences, or
                the system's objective takes other targets.
        """
        require_inputs(self, system)
        require_targets(self, system.objective)
        if self.binding is not None:
            return self.binding(system)
        if system.batch == 1:
            return self
        train, test = (MiniBatches(side, system.batch) for side in (self.train, self.test))
        return replace(self, train=train, test=test)


def held_out_word(held_out: str, targets: TargetKind | None) -> str:
    """Return what is held out, in words: "samples" instead of "images" if targets are numbers."""
    return "samples" if targets == "numbers" and held_out == "images" else held_out


class EpisodeSource(ABC):
    """A data set, or anything else that supplies episodes.

    Attributes:
        name: the text after `--dataset`.
        summary: one line for `--help` and the docs.
        is_default: whether it is used if the user names no source; true of exactly one source.
        shots: support images of each class if the user gives no number, fewer if classes are small;
            for regression, support samples of a task.
        is_planting: whether its argument is a rule that makes the query labels.
        default_for: systems for which it is the default, each with the text after `--dataset`.
        is_sequential: whether it makes sequences of the data set that its argument names.
        takes: names of the settings that may follow its argument, as in `name:argument,key=value`.
    """

    name: str
    summary: str
    aliases: tuple[str, ...] = ()
    is_default: bool = False
    is_planting: bool = False
    default_for: Mapping[str, str] = MappingProxyType({})
    is_sequential: bool = False
    takes: Collection[str] = ()
    shots: int = 50

    @abstractmethod
    def split(self, request: EpisodeRequest) -> EpisodeSplit:
        """Load the data and return samplers for meta-training and the held-out test.

        Raises:
            UserError: if the data are missing, damaged or too small for the request.
        """

    def stream(self, request: StreamRequest) -> StreamSplit:
        """Load the data and return streams of single images; only sources of images have them.

        Raises:
            UserError: if the source supplies only separate tasks, or its data are invalid.
        """
        raise UserError(
            f"{self.name} supplies separate tasks, but online training needs a stream of single "
            f"images; choose a data set of labelled images."
        )

    def holding(self, inputs: Any, targets: Any) -> EpisodeSource | None:
        """Return a source over a user's own arrays, if this source can hold arrays.

        Args:
            inputs: [sample, …] real numbers.
            targets: [sample] classes, or numbers to learn; None if `inputs` is a map-style data
                set of pairs.

        Raises:
            UserError: if the source can hold arrays, but these arrays are invalid.
        """
        return None

    def parts(self, request: StreamRequest) -> Mapping[str, Examples]:
        """Return the parts into which the data set itself is divided, by name.

        Inputs are [sample, input], targets [sample, …]. Only data sets that are published in such
        parts, as "train" and "test", have them.

        Raises:
            UserError: if the data set has no parts, or its data are invalid.
        """
        raise UserError(
            f"{self.name} is not divided into parts, such as train and test; choose a data set "
            f"that is."
        )
