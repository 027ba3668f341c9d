"""Read the idx files of the MNIST family, compressed with gzip or not."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from episodes.storage import check_file, reason, unreadable
from metaplast.base.errors import UserError, require

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"

#: First bytes of a file: two zeros, the type code of unsigned bytes, the number of axes.
BYTES = b"\0\0\x08"

#: No real file holds more bytes; a file that claims to is damaged, or made to exhaust the memory.
MOST = 4 * 2**30

#: Bytes read at once, so that a file that is too short is found before memory is allocated.
CHUNK = 2**22


def present(folder: Path, prefix: str) -> bool:
    """Return whether `folder` has images or labels of the part named `prefix`."""
    return any(_find(folder, prefix, kind) is not None for kind in (IMAGES, LABELS))


def read_part(folder: Path, prefix: str, classes: int) -> tuple[Tensor, Tensor]:
    """Return images [image, row, column] (uint8) and labels [image] (int64) of one part.

    Args:
        folder: contains `PREFIX-images-idx3-ubyte` and `PREFIX-labels-idx1-ubyte`, possibly with
            `.gz`.
        prefix: "train", "t10k", "emnist-balanced-test", …
        classes: the number of classes; labels are 0 … classes-1.

    Raises:
        UserError: if a file is missing or damaged, their numbers of images differ, an image has no
            pixels, or a label is out of range.
    """
    images, labels = _read(folder, prefix, IMAGES), _read(folder, prefix, LABELS)
    require(
        len(images) == len(labels) > 0,
        f"the files {prefix}-* in {str(folder)!r} must have as many labels as images, got "
        f"{len(images)} images and {len(labels)} labels; delete them and download them again.",
    )
    where = f"{folder / prefix!s}-{IMAGES}"
    rows, columns = images.shape[1:]
    require(
        images.numel() > 0,
        f"{where!r} must have images of at least one pixel, got {rows} × {columns}; delete it and "
        f"download it again.",
    )
    largest = int(labels.max())
    require(
        largest < classes,
        f"'{folder / prefix}-{LABELS}' must have labels 0 … {classes - 1}, got {largest}; delete "
        f"it and download it again.",
    )
    return images, labels.long()


def _find(folder: Path, prefix: str, kind: str) -> Path | None:
    """Return the file of one kind, compressed or not; None if there is no such file.

    Raises:
        UserError: if something other than a file has its name.
    """
    for file in (folder / f"{prefix}-{kind}", folder / f"{prefix}-{kind}.gz"):
        if check_file(file):
            return file
    return None


def _read(folder: Path, prefix: str, kind: str) -> Tensor:
    file = _find(folder, prefix, kind)
    if file is None:
        raise UserError(
            f"expected {str(folder / f'{prefix}-{kind}')!r} (or the same with .gz), which is "
            f"missing; put it beside the other files of the data set."
        )
    axes = 3 if kind == IMAGES else 1
    try:
        if file.suffix == ".gz":
            with gzip.open(file) as stream:
                return _array(stream, axes)
        with file.open("rb") as plain:
            return _array(plain, axes)
    except (EOFError, OSError, ValueError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(file, error) from None
        raise UserError(
            f"{str(file)!r} is not a complete idx file ({reason(error)}); delete it and download "
            f"it again."
        ) from error


def _array(stream: IO[bytes] | gzip.GzipFile, axes: int) -> Tensor:
    """Return the array in an idx file of unsigned bytes, [size of each axis].

    Raises:
        ValueError: if the file is of another kind, or its length differs from what its header says.
    """
    head = stream.read(4 + 4 * axes)
    if head[:4] != BYTES + bytes([axes]):
        raise ValueError(f"it begins with {head[:4].hex(' ')}, not {BYTES.hex(' ')} {axes:02x}")
    if len(head) < 4 + 4 * axes:
        raise ValueError("it ends before its sizes")
    sizes = [int(size) for size in np.frombuffer(head, ">u4", offset=4)]
    needed = math.prod(sizes)
    if needed > MOST:
        raise ValueError(f"its header says {needed:,} bytes, more than {MOST:,}")
    content = bytearray()
    while len(content) <= needed:
        chunk = stream.read(min(CHUNK, needed + 1 - len(content)))
        if not chunk:
            break
        content += chunk
    if len(content) != needed:
        found = "more" if len(content) > needed else f"{len(content):,}"
        raise ValueError(f"its header says {needed:,} bytes, but it has {found}")
    return torch.from_numpy(np.frombuffer(content, np.uint8).reshape(sizes))
