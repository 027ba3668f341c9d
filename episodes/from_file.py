"""Sources that read a user's own file or folder: `--dataset csv:FILE,target=COLUMN,scale=standard`.

A format is one class with a method `read`. The description of what was read contains a digest, so
that a resumed run notices if the file has changed.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from episodes.arrays import Array, as_labels
from episodes.own_source import Scale, own_pool
from episodes.pool import LabelledPool
from episodes.source import Held, PoolSource
from episodes.storage import check_file
from metaplast.base.errors import UserError, require, shown
from metaplast.base.words import assignments
from metaplast.tasks.digest import SHOWN, Digest
from metaplast.tasks.request import DataRequest, EpisodeRequest, StreamRequest
from metaplast.tasks.source import EpisodeSource, EpisodeSplit
from metaplast.tasks.stream import StreamSplit

#: Settings of every format.
SHARED = ("scale", "target_scale", "learn")
#: The kinds of targets: classes, or numbers for regression.
LEARN = ("classes", "numbers")


@dataclass(frozen=True, eq=False)
class Samples:
    """The contents of a file.

    Attributes:
        inputs: [sample, …] real numbers.
        targets: [sample] classes, whole numbers or text; or numbers to learn, floating point,
            [sample] or [sample, output].
        note: a remark for the description; may be empty.
        words: what descriptions call a sample, and one of its numbers.
    """

    inputs: Any
    targets: Any
    note: str = ""
    words: tuple[str, str] = ("sample", "input")


class FileSource(EpisodeSource):
    """Episodes from a user's own file: `name:FILE`, then settings as `,key=value`.

    Attributes:
        own: names of the format's own settings.
        example: the usage after `--dataset`, for messages.
    """

    own: Collection[str] = ()
    example: str

    @property
    def takes(self) -> Collection[str]:  # type: ignore[override]
        """Names of all settings."""
        return (*self.own, *SHARED)

    @abstractmethod
    def read(
        self, text: str, label: str, settings: Mapping[str, str], request: DataRequest
    ) -> Samples:
        """Return the contents of the file.

        Args:
            text: the file, as the user wrote it.
            label: what messages call the data.
            settings: the user's settings, by name.
            request: has the folder of data sets.

        Raises:
            UserError: if the file is missing, damaged or of another format.
        """

    def label(self, text: str) -> str:
        """Return what messages and descriptions call the data."""
        return f"{self.name}:{Path(text).name or text}"

    def split(self, request: EpisodeRequest) -> EpisodeSplit:
        """Read the file, hold out a part of it and return a sampler for each side.

        Raises:
            UserError: if the file is missing, damaged or too small for the request.
        """
        return self._opened(request).split(replace(request, argument=""))

    def stream(self, request: StreamRequest) -> StreamSplit:
        """Read the file and return a stream over each half of it.

        Raises:
            UserError: if the file is missing, damaged or too small for the request.
        """
        return self._opened(request).stream(replace(request, argument=""))

    def _opened(self, request: DataRequest) -> PoolSource:
        text, settings = self._parts(request.argument)
        label = self.label(text)
        samples = self.read(text, label, settings, request)
        pool = self._pool(label, samples, settings)
        note = (samples.note, pool.note, f"digest {pool.digest}")
        pool = replace(pool, note="; ".join(part for part in note if part), words=samples.words)
        return PoolSource(label, self.summary, Held(pool), shots=self.shots)

    def _pool(self, label: str, samples: Samples, settings: Mapping[str, str]) -> LabelledPool:
        """Return the samples as a pool, with its digest."""
        targets = _learned(label, samples.targets, settings.get("learn"), self.example)
        scale, target_scale = (
            cast(Scale, settings.get(name, "auto")) for name in ("scale", "target_scale")
        )
        pool = own_pool(label, samples.inputs, targets, None, scale, target_scale)
        require(
            pool.targets is not None or pool.classes > 1,
            f"{label} must have two classes or more, got one, so there is nothing to learn; "
            f"check the targets.",
        )
        return replace(pool, digest=_digest(pool))

    def _parts(self, argument: str) -> tuple[str, dict[str, str]]:
        """Return the file, and the settings after it; commas may also be part of its name."""
        parts = argument.split(",")
        number = len(parts)
        while number > 1 and "=" in parts[number - 1] and not _exists(",".join(parts[:number])):
            number -= 1
        text = ",".join(parts[:number]).strip()
        given = assignments(self.name, parts[number:], self.takes, f"--dataset {self.example}")
        require(
            bool(text),
            f"{self.name} needs the name of the data after its colon; write --dataset "
            f"{self.example}.",
        )
        return text, given


def _exists(text: str) -> bool:
    try:
        return Path(text).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def file_at(text: str) -> Path:
    """Return the path of a user's file.

    Raises:
        UserError: if there is no such file.
    """
    path = user_path(text)
    require(
        not path.is_dir(),
        f"{shown(str(path))} is a folder; give a file, or folder:PATH for images in folders.",
    )
    require(check_file(path), f"there is no file {shown(str(path))}; check the path.")
    return path


def user_path(text: str) -> Path:
    """Return a path that may begin with ~.

    Raises:
        UserError: if the text cannot be a path.
    """
    require("\0" not in text, f"{shown(text)} cannot be a path; check it.")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"there is no home folder for {shown(text)}; write the path out.") from None


def damaged(label: str, what: str, error: Exception | str) -> UserError:
    """Return the error for a file that cannot be read as its format.

    Args:
        label: the label of the data.
        what: the format, with its article.
        error: what went wrong.
    """
    why = " ".join(str(error).split()).rstrip(".").replace(". ", "; ")[:200]
    return UserError(f"{label} cannot be read as {what} ({why}); check the file.")


def names_in(text: str, known: Sequence[str], label: str, noun: str) -> list[str]:
    """Return the names in a list with + between them; one name may also contain a +.

    Raises:
        UserError: if a name is unknown or occurs twice.
    """
    found = [text] if text in known else text.split("+")
    for name in found:
        require(
            name in known,
            f"{label} has no {noun} {shown(name)}; it has {listed(known)}.",
        )
        require(found.count(name) == 1, f"{label}: the {noun} {shown(name)} is named twice.")
    return found


def listed(names: Sequence[str], most: int = 12) -> str:
    """Return the first `most` names, separated by commas, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def require_numbers(
    label: str, values: Array, columns: Sequence[str], place: Callable[[int], str]
) -> None:
    """Check that a table has only finite numbers.

    Args:
        label: the label of the data.
        values: [row, column].
        columns: names of the columns.
        place: returns where the user finds a row, such as "line 3".

    Raises:
        UserError: if a number is NaN or infinite; the message names its row and column.
    """
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0].tolist()
        more = f", and in {len(bad) - 1} more" if len(bad) > 1 else ""
        raise UserError(
            f"{label} must have finite numbers, got {values[row, column]:g} in "
            f"{place(row)}, column {shown(columns[column])}{more}; fill or remove such cells."
        )


def _learned(label: str, targets: Any, learn: str | None, example: str) -> Array:
    """Return classes from 0 up (or text), or floating-point numbers; `learn` may choose which."""
    require(
        learn is None or learn in LEARN,
        f"{label}: learn must be {' or '.join(LEARN)}, got {shown(learn)}; write --dataset "
        f"{example},learn=numbers.",
    )
    found = as_labels(label, targets)
    if learn == "numbers" and found.dtype.kind != "f":
        require(
            found.dtype.kind == "i",
            f"{label} has text as targets, which learn=numbers cannot learn; leave it out, or "
            f"choose other targets.",
        )
        return found.astype(np.float64)
    if learn == "classes" and found.dtype.kind == "f":
        require(
            bool((found == np.round(found)).all()),
            f"{label} has targets with fractions, which cannot be classes; leave learn=classes "
            f"out, or choose other targets.",
        )
        found = found.astype(np.int64)
    if found.dtype.kind == "i" and found.size:
        # Classes in a file may have any numbers, for example −1 and 1.
        numbered: Array = np.unique(found, return_inverse=True)[1].reshape(found.shape)
        return numbered.astype(np.int64)
    return found


def _digest(pool: LabelledPool) -> str:
    """Return the digest of all inputs and targets, before they are scaled and split."""
    digest = Digest("file")
    digest.plain(pool.scale)
    digest.tensor(pool.images)
    digest.tensor(pool.labels if pool.targets is None else pool.targets)
    return digest.value()[:SHOWN]
