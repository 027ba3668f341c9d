"""Omniglot (Lake, Salakhutdinov and Tenenbaum 2015, doi:10.1126/science.aab3050).

The data set has 20 drawings of each of 1,623 characters from 50 alphabets. The 659 characters of
its evaluation alphabets are the held-out classes.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from episodes.pool import LabelledPool
from episodes.source import PoolSource
from episodes.storage import (
    DAMAGE,
    Arrays,
    check_file,
    data_root,
    download,
    prepared,
    reason,
    unreadable,
)
from metaplast.base.errors import UserError, require, shown
from metaplast.tasks.request import EpisodeRequest

#: torchvision's name for the folder.
FOLDER = "omniglot-py"

#: Rows and columns to which images are resized, as is usual in few-shot learning.
SIDE = 28

#: Limits on bytes and pixels per side of a drawing; real drawings have about 200 and 105.
MOST_BYTES = 2**20
MOST_SIDE = 1024

#: Limit on the drawings in a part; the real parts have 19,280 and 13,180.
MOST_DRAWINGS = 10**6

#: Limit on the unpacked bytes of all drawings of a part; the real parts have about 5 million.
MOST_TOTAL = 2**28

#: Data types of the cached arrays.
KINDS = {"images": np.uint8, "labels": np.int64}

#: Change this whenever the cached arrays are made differently.
RECIPE = f"lanczos{SIDE}-1"


def _load(request: EpisodeRequest) -> LabelledPool:
    root = data_root(request)
    background, evaluation = (_part(root, part) for part in ("background", "evaluation"))
    images = np.concatenate([background["images"], evaluation["images"]])
    first = int(background["labels"].max()) + 1
    labels = np.concatenate([background["labels"], evaluation["labels"] + first])
    return LabelledPool(
        images=torch.from_numpy(images),
        labels=torch.from_numpy(labels),
        scale=1 / 255,
        held_out_classes=torch.from_numpy(np.unique(labels[len(background["labels"]) :])),
    )


def _part(root: Path, part: str) -> dict[str, Any]:
    """Return "images" [image, pixel] (uint8, ink is 255) and "labels" [image] of one part."""
    name = f"images_{part}"
    folder = root / FOLDER / name
    if not _present(folder):
        download(lambda to: _fetch(to, part), root, f"{FOLDER}/{name}.zip")
    drawings = _drawings(folder)
    require(
        len(drawings) > 0,
        f"expected {str(folder)!r} to hold ALPHABET/CHARACTER/*.png, got no such file; "
        f"delete it and download it again.",
    )
    digest = hashlib.sha256()
    for path, content in drawings.items():
        digest.update(path.encode() + b"\0" + content)
    return prepared(
        f"{name}-{RECIPE}-{digest.hexdigest()[:24]}", KINDS, lambda: _decoded(folder, drawings)
    )


def _present(folder: Path) -> bool:
    return folder.is_dir() or check_file(_archive(folder))


def _archive(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.zip")


def _fetch(folder: Path, part: str) -> None:
    from torchvision.datasets import Omniglot

    Omniglot(folder, background=part == "background", download=True)


def _drawings(folder: Path) -> Mapping[str, bytes]:
    """Return the PNG files by their path in `folder`, unpacked or in its zip file, sorted."""
    if folder.is_dir():
        return _loose(folder)
    archive = _archive(folder)
    try:
        with zipfile.ZipFile(archive) as packed:
            return _packed(packed, archive, folder.name)
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(archive, error) from None
        raise UserError(
            f"{str(archive)!r} is not a complete zip file without a password ({reason(error)}); "
            f"delete it and download it again."
        ) from error


def _loose(folder: Path) -> Mapping[str, bytes]:
    """Return the drawings of an unpacked part."""
    found: dict[str, bytes] = {}
    try:
        files = sorted(folder.glob("*/*/*.png"))
        _check_sizes(folder, {str(file): file.stat().st_size for file in files if check_file(file)})
        for file in files:
            found[file.relative_to(folder).as_posix()] = file.read_bytes()
    except OSError as error:
        raise unreadable(Path(error.filename or folder), error) from None
    return found


def _packed(packed: zipfile.ZipFile, archive: Path, part: str) -> Mapping[str, bytes]:
    """Return the drawings in a zip file, PART/ALPHABET/CHARACTER/NAME.png; nothing is unpacked.

    Entries outside the folder PART, such as those that operating systems add, are ignored.
    """
    inside: dict[str, zipfile.ZipInfo] = {}
    for entry in packed.infolist():
        parts = entry.filename.split("/")
        if parts[0] != part or not entry.filename.endswith(".png"):
            continue
        require(
            len(parts) == 4 and not {"", ".", ".."} & set(parts),
            f"{str(archive)!r} must hold {part}/ALPHABET/CHARACTER/*.png, got "
            f"{shown(entry.filename)}; delete it and download it again.",
        )
        inside["/".join(parts[1:])] = entry
    _check_sizes(archive, {name: entry.file_size for name, entry in inside.items()})
    # zipfile reads no more of an entry than the size that was checked.
    return {name: packed.read(inside[name]) for name in sorted(inside)}


def _check_sizes(place: Path, sizes: Mapping[str, int]) -> None:
    """Refuse files too large to be drawings before reading them: they could exhaust the memory."""
    name = max(sizes, key=lambda each: sizes[each], default="")
    largest, total = sizes.get(name, 0), sum(sizes.values())
    require(
        largest <= MOST_BYTES and len(sizes) <= MOST_DRAWINGS and total <= MOST_TOTAL,
        f"{str(place)!r} must hold small drawings, got {len(sizes):,} files of {total:,} bytes, "
        f"the largest {shown(name)} with {largest:,}; delete it and download it again.",
    )


def _decoded(folder: Path, drawings: Mapping[str, bytes]) -> Arrays:
    characters = [path.rpartition("/")[0] for path in drawings]
    return {
        "images": np.stack([_image(folder / path, data) for path, data in drawings.items()]),
        "labels": np.unique(characters, return_inverse=True)[1].astype(np.int64),
    }


def _image(path: Path, content: bytes) -> Any:
    """Return one drawing, resized: [pixel] uint8, paper 0 and ink 255."""
    from PIL import Image

    try:
        # PIL warns of very large pictures before their size can be checked.
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(content), formats=("PNG",))
        with opened as drawing:
            if max(drawing.size) > MOST_SIDE:
                raise ValueError(f"its sides of {drawing.size} pixels are above {MOST_SIDE}")
            small = drawing.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    except (
        *DAMAGE,
        SyntaxError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        raise UserError(
            f"{str(path)!r} is not a complete PNG file ({reason(error)}); delete its folder and "
            f"download the data set again."
        ) from error
    return 255 - np.asarray(small, dtype=np.uint8).ravel()


OMNIGLOT = PoolSource(
    name="omniglot",
    summary="32,460 drawings of 28 × 28 pixels, 20 of each character (1,623 classes)",
    load=_load,
    shots=10,
)
