"""Omniglot (Lake, Salakhutdinov and Tenenbaum 2015, doi:10.1126/science.aab3050).

20 drawings of each of 1,623 characters of 50 alphabets. The 659 characters of its evaluation
alphabets are the held-out classes.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from episodes.pool import LabelledPool
from episodes.source import PoolSource
from episodes.storage import Arrays, data_root, download, prepared, reason
from metaplast.episode import EpisodeRequest
from metaplast.errors import UserError, require

#: torchvision's name of the folder.
FOLDER = "omniglot-py"

#: Rows and columns an image is resized to, as is usual in few-shot learning.
SIDE = 28

#: Changes when the cached arrays are made in another way.
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
        f"{name}-{RECIPE}-{digest.hexdigest()[:24]}", lambda: _decoded(folder, drawings)
    )


def _present(folder: Path) -> bool:
    return folder.is_dir() or _archive(folder).is_file()


def _archive(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.zip")


def _fetch(folder: Path, part: str) -> None:
    from torchvision.datasets import Omniglot

    Omniglot(folder, background=part == "background", download=True)


def _drawings(folder: Path) -> Mapping[str, bytes]:
    """Return the PNG files by their path in `folder`, unpacked or in its zip file, sorted."""
    if folder.is_dir():
        files = sorted(folder.glob("*/*/*.png"))
        return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}
    archive = _archive(folder)
    try:
        with zipfile.ZipFile(archive) as packed:
            names = sorted(name for name in packed.namelist() if name.endswith(".png"))
            return {name.partition("/")[2]: packed.read(name) for name in names}
    except (OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{str(archive)!r} is not a whole zip file ({reason(error)}); delete it and download "
            f"it again."
        ) from error


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
        with Image.open(io.BytesIO(content)) as drawing:
            small = drawing.convert("L").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    except (OSError, SyntaxError, ValueError) as error:
        raise UserError(
            f"{str(path)!r} is not a whole PNG file ({reason(error)}); delete its folder and "
            f"download the data set again."
        ) from error
    return 255 - np.asarray(small, dtype=np.uint8).ravel()


OMNIGLOT = PoolSource(
    name="omniglot",
    summary="32,460 drawings of 28 × 28 pixels, 20 of each character (1,623 classes)",
    load=_load,
    shots=10,
)
