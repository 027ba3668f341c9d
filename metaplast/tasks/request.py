"""A user's request to a source of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch

from metaplast.base.errors import require, require_seed, require_within
from metaplast.base.settings import Settings
from metaplast.systems.objective import TargetKind

LabelKind = Literal["global", "remapped"]
HeldOut = Literal["auto", "classes", "images"]


@dataclass(frozen=True, kw_only=True)
class DataFolder(Settings):
    """Where data sets are."""

    GROUP: ClassVar[str] = "task"

    data_root: Path | None = None
    """Folder with data sets; default: METAPLAST_DATA, then a cache folder."""


@dataclass(frozen=True)
class TaskSizes(Settings):
    """The sizes of a task, its labels, and what is held out for the test."""

    GROUP: ClassVar[str] = "task"

    ways: int = 5
    """Classes in an episode."""
    shots: int | tuple[int, ...] | None = None
    """Support images of each class; default: 50, fewer if a data set has few. Several numbers, such
    as 20,100,500: each outer step draws one, and the test takes all of them."""
    queries: int = 10
    """Query images of each class."""
    labels: LabelKind = "global"
    """global: each class has its own output neuron; remapped: renumbered in each episode."""
    held_out: HeldOut = "auto"
    """What the test does not share with meta-training: classes or images."""

    def __post_init__(self) -> None:
        """Check the sizes.

        Raises:
            UserError: if ways < 2, shots < 1 or queries < 1, or a value has the wrong type.
        """
        super().__post_init__()
        for name, least in (("ways", 2), ("queries", 1)):
            require_within(f"--{name}", getattr(self, name), least)
        if self.shots is not None:
            require(bool(self.lengths), "--shots must have at least one number, got none.")
            for number in self.lengths:
                require_within("--shots", number, 1)

    @property
    def lengths(self) -> tuple[int, ...]:
        """The numbers of support images of each class, ascending; empty for the default."""
        given = (self.shots,) if isinstance(self.shots, int) else self.shots or ()
        return tuple(sorted(set(given)))


@dataclass(frozen=True, kw_only=True)
class DataRequest(DataFolder):
    """The part of a request that all sources share: which data, and in what form.

    Attributes:
        data_root: folder with data sets; None for METAPLAST_DATA or the cache folder.
        argument: the text after the colon in `--dataset source:argument`.
        seed: determines the split, and the data of synthetic sources.
        device: where episodes are made.
        dtype: the dtype of the images.
    """

    argument: str = ""
    seed: int = 0
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32

    def __post_init__(self) -> None:
        """Check the seed.

        Raises:
            UserError: if the seed is invalid, or a value has a wrong type.
        """
        super().__post_init__()
        require_seed("--seed", self.seed)


@dataclass(frozen=True)
class EpisodeRequest(DataRequest, TaskSizes):
    """A user's request to an episode source.

    For regression, where targets are numbers, there are no classes: `ways` and `labels` keep their
    defaults, and shots and queries count the samples of a task.

    Attributes:
        ways: classes in an episode, all distinct.
        shots: support images of each class, the largest number if there are several.
        queries: query images of each class.
        labels: "global" keeps each class's own index (the paper's 47-way head), "remapped"
            numbers the classes of an episode 0 … ways-1.
        held_out: "classes" if meta-test episodes have other classes than meta-training, "images" if
            they only have other images; "auto" means classes if the source has enough of them.

    Raises:
        UserError: if ways < 2, shots < 1 or queries < 1, the seed is invalid, or a value has a
            wrong type.
    """

    shots: int = 50

    def sizes(self, targets: TargetKind) -> tuple[int, int]:
        """Return the numbers of support and query samples in a task with these targets."""
        ways = 1 if targets == "numbers" else self.ways
        return ways * self.shots, ways * self.queries

    def described(self, targets: TargetKind, lengths: Sequence[int] = ()) -> str:
        """Return a description of the sizes of a task with these targets.

        Args:
            targets: what the tasks' targets are.
            lengths: the numbers of shots if there are several.
        """
        *others, last = map(str, lengths or (self.shots,))
        shots = f"{', '.join(others)} or {last}" if others else last
        if targets == "numbers":
            return f"{shots} support and {self.queries} query samples"
        return f"{self.ways} ways, {shots} shots, {self.queries} queries; labels {self.labels}"


@dataclass(frozen=True)
class StreamRequest(DataRequest):
    """A user's request to a source's stream.

    Attributes:
        ways: number of classes that each network sees, drawn separately for each network and
            renumbered 0 … ways-1; None for all classes of the data.
    """

    ways: int | None = None

    def __post_init__(self) -> None:
        """Check the number of classes.

        Raises:
            UserError: if `ways` is below 2, a value has a wrong type, or the seed is invalid.
        """
        super().__post_init__()
        if self.ways is not None:
            require_within("--ways", self.ways, 2)
