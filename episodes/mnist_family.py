"""Shared code for the data sets in the format of MNIST."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from episodes.idx import IMAGES, present, read_part
from episodes.pool import LabelledPool, numbered
from episodes.source import PoolSource
from episodes.storage import data_root, download
from metaplast.base.errors import require
from metaplast.tasks.request import EpisodeRequest

#: The brightest pixel of a byte image.
BRIGHTEST = 255


@dataclass(frozen=True)
class IdxFiles:
    """The idx files of a data set, in torchvision's folders.

    Attributes:
        dataset: class in `torchvision.datasets`; the folder has the same name.
        parts: for the name of each part of the data ("train", "test"), the prefix of its files.
        classes: number of classes; labels are 0 … classes-1.
        options: further arguments of the class.
    """

    dataset: str
    parts: Mapping[str, str]
    classes: int = 10
    options: Mapping[str, Any] = field(default_factory=dict)

    def load(self, request: EpisodeRequest) -> LabelledPool:
        """Return all images of the parts that exist; if none does, download both.

        EMNIST's small test part is enough for episodes, so a folder with only one part is used
        unchanged, and the note says so.

        Raises:
            UserError: if files are missing and cannot be downloaded, or are damaged.
        """
        root = data_root(request)
        folder = root / self.dataset / "raw"
        if not self._present(folder):
            first = next(iter(self.parts.values()))
            expected = f"{self.dataset}/raw/{first}-images-idx3-ubyte"
            download(self._fetch, root, expected)
        there = self._present(folder)
        parts = [read_part(folder, prefix, self.classes) for prefix in there.values()]
        sizes = [" × ".join(map(str, images.shape[1:])) for images, _ in parts]
        require(
            len(set(sizes)) == 1,
            f"the parts of a data set must have images of one size, got {' and '.join(sizes)} "
            f"pixels in {' and '.join(f'{prefix}-{IMAGES}' for prefix in there.values())} in "
            f"{str(folder)!r}; delete the wrong files and download them again.",
        )
        return LabelledPool(
            images=torch.cat([images.flatten(1) for images, _ in parts]),
            labels=numbered(torch.cat([labels for _, labels in parts])),
            scale=1 / BRIGHTEST,
            parts={part: len(labels) for part, (_, labels) in zip(there, parts, strict=True)},
            note="" if len(there) == len(self.parts) else f"{''.join(there)} part only",
        )

    def _present(self, folder: Path) -> dict[str, str]:
        return {part: prefix for part, prefix in self.parts.items() if present(folder, prefix)}

    def _fetch(self, folder: Path) -> None:
        from torchvision import datasets

        getattr(datasets, self.dataset)(folder, download=True, **self.options)


def mnist_like(name: str, summary: str, dataset: str) -> PoolSource:
    """Return the source of a data set with the same file names as MNIST."""
    return PoolSource(name, summary, IdxFiles(dataset, {"train": "train", "test": "t10k"}).load)


def emnist_split(name: str, summary: str, split: str) -> PoolSource:
    """Return the source of one of EMNIST's splits of 47 classes ("balanced", "bymerge")."""
    parts = {part: f"emnist-{split}-{part}" for part in ("train", "test")}
    return PoolSource(name, summary, IdxFiles("EMNIST", parts, 47, {"split": split}).load)
