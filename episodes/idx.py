"""Read the idx files of the MNIST family, packed with gzip or not."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from episodes.storage import reason
from metaplast.errors import UserError, require

#: What torchvision's reader and gzip raise on a damaged file.
DAMAGE = (AssertionError, EOFError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def present(folder: Path, prefix: str) -> bool:
    """Return whether `folder` has images or labels of the part named `prefix`."""
    return any(
        _find(folder, prefix, kind) is not None
        for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")
    )


def read_part(folder: Path, prefix: str) -> tuple[Tensor, Tensor]:
    """Return images [image, row, column] (uint8) and labels [image] (int64) of one part.

    Args:
        folder: has `PREFIX-images-idx3-ubyte` and `PREFIX-labels-idx1-ubyte`, or both with `.gz`.
        prefix: "train", "t10k", "emnist-balanced-test", …

    Raises:
        UserError: if a file is missing or damaged, or their numbers of images differ.
    """
    from torchvision.datasets.mnist import read_image_file, read_label_file

    images = _read(folder, prefix, "images-idx3-ubyte", read_image_file)
    labels = _read(folder, prefix, "labels-idx1-ubyte", read_label_file)
    require(
        len(images) == len(labels) > 0,
        f"the files {prefix}-* in {str(folder)!r} must have as many labels as images, got "
        f"{len(images)} images and {len(labels)} labels; delete them and download them again.",
    )
    return images, labels


def _find(folder: Path, prefix: str, kind: str) -> Path | None:
    plain = folder / f"{prefix}-{kind}"
    packed = folder / f"{prefix}-{kind}.gz"
    return next((file for file in (plain, packed) if file.is_file()), None)


def _read(folder: Path, prefix: str, kind: str, reader: Callable[[str], Tensor]) -> Tensor:
    file = _find(folder, prefix, kind)
    if file is None:
        raise UserError(
            f"expected {str(folder / f'{prefix}-{kind}')!r} (or the same with .gz), which is not "
            f"there; put it beside the other files of the data set."
        )
    try:
        return _unpacked(file, reader) if file.suffix == ".gz" else reader(str(file))
    except (*DAMAGE, zlib.error) as error:
        raise UserError(
            f"{str(file)!r} is not a whole idx file ({reason(error)}); delete it and download it "
            f"again."
        ) from error


def _unpacked(file: Path, reader: Callable[[str], Tensor]) -> Tensor:
    """Return what `reader` reads from the unpacked copy of `file`: it takes only file names."""
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / file.stem
        with gzip.open(file) as packed, plain.open("wb") as copy:
            shutil.copyfileobj(packed, copy, 1 << 20)
        return reader(str(plain))
