"""Sequences made from the images of another source; the base of the sources `delayed` and `rows`.

An image is not copied for every time step: a sequence is stored as its frames, and the system
repeats them according to the `Timing`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from metaplast.base.errors import require, shown
from metaplast.base.registry import match
from metaplast.base.words import assignments
from metaplast.systems.timing import Timing
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.derived import DerivedSampler, is_thread_safe
from metaplast.tasks.digest import Digest, sampler_digest
from metaplast.tasks.library import all_sources, default_source, open_source, open_stream
from metaplast.tasks.request import EpisodeRequest, StreamRequest
from metaplast.tasks.source import EpisodeSource, EpisodeSplit
from metaplast.tasks.stream import StreamSampler, StreamSplit


@dataclass(frozen=True, eq=False)
class SequenceSampler(DerivedSampler):
    """Episodes of another sampler, with every image as a sequence of frames.

    Attributes:
        base: supplies the images, [pixel].
        timing: the timing of the sequences; the pixels are divided evenly among the frames.
    """

    timing: Timing

    @property
    def is_thread_safe(self) -> bool:
        """Whether another thread may draw episodes, as the base sampler declares."""
        return is_thread_safe(self.base)

    def sample(self, episodes: int, generator: torch.Generator) -> EpisodeBatch:
        """Return `episodes` fresh episodes with inputs [episode, step, frame, feature]."""
        return _in_frames(self.base.sample(episodes, generator), self.timing)

    def digest(self) -> str:
        """Return a digest of the images and the timing."""
        found = Digest("sequences")
        found.plain([sampler_digest(self.base), self.timing.spec()])
        return found.value()


@dataclass(frozen=True, eq=False)
class SequenceStream:
    """A stream of another sampler, with every image as a sequence of frames.

    Attributes:
        base: supplies the images, [pixel].
        timing: the timing of the sequences; the pixels are divided evenly among the frames.
    """

    base: StreamSampler
    timing: Timing

    @property
    def range_is_known(self) -> bool:
        """Whether the range of the inputs needs no further warning."""
        return bool(getattr(self.base, "range_is_known", False))

    def sample(self, steps: int, queries: int, generator: torch.Generator) -> EpisodeBatch:
        """Return one episode with inputs [1, step, frame, feature]; see `StreamSampler`."""
        return _in_frames(self.base.sample(steps, queries, generator), self.timing)


def _in_frames(batch: EpisodeBatch, timing: Timing) -> EpisodeBatch:
    """Return episodes of images [episode, step, pixel] as [episode, step, frame, feature]."""
    support, query = (
        x.reshape(*x.shape[:2], timing.frames, x.shape[2] // timing.frames)
        for x in (batch.support_x, batch.query_x)
    )
    return replace(batch, support_x=support, query_x=query)


class SequentialSource(EpisodeSource):
    """Makes sequences of the images of the source in its argument, `name:SOURCE,key=number,…`.

    Attributes:
        settings: the keys that may follow the source, with their defaults.
    """

    settings: Mapping[str, int]
    is_sequential = True
    shots = 10

    @abstractmethod
    def timing(self, pixels: int, source: str, settings: Mapping[str, int]) -> Timing:
        """Return the timing of a sequence.

        Args:
            pixels: the number of pixels of an image.
            source: the source of the image, for messages.
            settings: the user's settings, with defaults for the others.

        Raises:
            UserError: if the image cannot become a sequence.
        """

    def split(self, request: EpisodeRequest) -> EpisodeSplit:
        """Open the source of the images, and make sequences of them.

        Raises:
            UserError: if the argument is invalid, or the source has no images or invalid data.
        """
        source, settings = self._read(request.argument)
        base = open_source(source, request)
        self._require_plain(source, plain=base.timing is None and base.binding is None)
        timing = self.timing(base.inputs, source, settings)
        return replace(
            base,
            train=SequenceSampler(base.train, timing),
            test=SequenceSampler(base.test, timing),
            inputs=base.inputs // timing.frames,
            timing=timing,
            description=f"{self.name}: {timing.description}; {base.description}",
            name=f"{self.name}:{base.name}",
        )

    def stream(self, request: StreamRequest) -> StreamSplit:
        """Open the stream of images, and make sequences of them.

        Raises:
            UserError: if the argument is invalid, or the source has no stream or invalid data.
        """
        source, settings = self._read(request.argument)
        base = open_stream(source, request)
        self._require_plain(source, plain=base.timing is None)
        timing = self.timing(base.inputs, source, settings)
        return replace(
            base,
            tuning=SequenceStream(base.tuning, timing),
            final=SequenceStream(base.final, timing),
            inputs=base.inputs // timing.frames,
            timing=timing,
            description=f"{self.name}: {timing.description}; {base.description}",
            name=f"{self.name}:{base.name}",
        )

    def _require_plain(self, source: str, *, plain: bool) -> None:
        require(
            plain,
            f"{self.name} makes sequences of images, but {source} does not supply plain images; "
            f"write --dataset {self.name}:{default_source()}.",
        )

    def _read(self, argument: str) -> tuple[str, dict[str, int]]:
        """Return the source of the images, and the settings that follow it."""
        parts = [part.strip() for part in argument.split(",")]
        # The source of the images may take settings, too.
        inner = match(parts[0].partition(":")[0], all_sources())
        theirs = () if inner is None else inner.takes
        of_source = [p for p in parts if "=" not in p or p.partition("=")[0].strip() in theirs]
        source = ",".join(of_source)
        told = "".join(f",{key}={value or 8}" for key, value in self.settings.items())
        usage = f"--dataset {self.name}:{default_source()}{told}"
        settings = dict(self.settings)
        own = (part for part in parts if part not in of_source)
        given = assignments(self.name, own, settings, usage)
        for key, value in given.items():
            require(
                value.isdecimal() and value.isascii() and int(value[:9]) >= 1 and len(value) < 9,
                f"{self.name} takes a whole number of at least 1 as {key}, got {shown(value)}; "
                f"write {usage}.",
            )
            settings[key] = int(value)
        return source or default_source(), settings
