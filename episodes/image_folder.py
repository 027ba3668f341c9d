"""Images in folders, one folder for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from episodes.arrays import Array
from episodes.from_file import FileSource, Samples, user_path
from episodes.storage import reason
from metaplast.base.errors import UserError, require, shown
from metaplast.tasks.request import DataRequest

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"),
    *(".pgm", ".ppm", ".pbm"),
)
#: Pillow's modes of images without colour.
_GREY = ("1", "L", "LA", "La", "I", "I;16", "F")
LARGEST = 4096


class ImageFolder(FileSource):
    """Reads PATH/CLASS/IMAGE; folders below a class folder, and files of other types, are ignored.

    Pixels are bytes: one number each in grey, three in colour.
    """

    name = "image-folder"
    aliases = ("folder",)
    summary = (
        "images in one folder for each class: folder:PATH; size=28 or size=WIDTHxHEIGHT resizes "
        "them, grey=yes removes the colours"
    )
    own = ("size", "grey")
    example = "folder:PATH"

    @property
    def takes(self) -> Sequence[str]:  # type: ignore[override]
        """Names of all settings; the folders are the classes."""
        return (*self.own, "scale")

    def label(self, text: str) -> str:
        """Return what messages and descriptions call the data."""
        return f"folder:{Path(text).name or text}"

    def read(
        self, text: str, label: str, settings: Mapping[str, str], request: DataRequest
    ) -> Samples:
        """Return the images in a folder; see `FileSource.read`."""
        size, grey = _size(label, settings.get("size")), _grey(label, settings.get("grey"))
        images: list[Array] = []
        labels: list[str] = []
        first = None
        for folder, files in _classes(label, user_path(text)).items():
            for file in files:
                image = _read(label, file, size, grey=grey)
                first = file if first is None else first
                require(
                    not images or image.shape == images[0].shape,
                    f"{label} must have images of one size and kind, got {_kind(image)} in "
                    f"{_short(file)} after {_kind(images[0] if images else image)} in "
                    f"{_short(first)}; write size=WIDTHxHEIGHT to resize them, grey=yes to remove "
                    f"colours.",
                )
                images.append(image)
                labels.append(folder)
        note = _kind(images[0])
        return Samples(np.stack(images), np.array(labels), note, ("image", "pixel"))


def _classes(label: str, path: Path) -> dict[str, list[Path]]:
    """Return the image files in each class folder, by its name, in a stable order."""
    require(
        path.is_dir(),
        f"there is no folder {shown(str(path))}; give one that has a folder for each class.",
    )
    try:
        inside = sorted(path.iterdir(), key=lambda each: each.name)
        folders = [each for each in inside if each.is_dir() and not each.name.startswith(".")]
        found = {each.name: _images(each) for each in folders}
    except OSError as error:
        raise UserError(f"cannot read {shown(str(path))}: {error.strerror}; check it.") from None
    require(
        len(folders) > 1,
        f"{label} must have a folder of images for each class, two or more, got {len(folders)}; "
        f"put the images of each class into a folder of their own.",
    )
    for name, files in found.items():
        require(
            bool(files),
            f"{label}: the folder of the class {shown(name)} has no images ({' '.join(SUFFIXES)}); "
            f"add some, or remove it.",
        )
    return found


def _images(folder: Path) -> list[Path]:
    files = (each for each in folder.iterdir() if not each.name.startswith("."))
    return sorted(each for each in files if each.suffix.lower() in SUFFIXES and each.is_file())


def _read(label: str, file: Path, size: tuple[int, int] | None, *, grey: bool) -> Array:
    """Return an image as bytes: [row, column], or [row, column, colour]."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            has_colour = image.mode not in _GREY and not grey
            plain = _bytes(image) if not has_colour else image.convert("RGB")
            if size is not None:
                plain = plain.resize(size, Image.Resampling.BILINEAR)
            return np.asarray(plain)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(
            f"{label}: {_short(file)} cannot be read as an image ({reason(error)[:120]}); fix or "
            f"remove it."
        ) from None


def _bytes(image: Any) -> Any:
    """Return an image as grey bytes; values of 16 bits are scaled to 8 bits."""
    if image.mode.startswith("I") or image.mode == "F":
        from PIL import Image

        values = np.asarray(image).astype(np.float64)
        return Image.fromarray((values / 257).clip(0, 255).round().astype(np.uint8))
    return image.convert("L")


def _short(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def _kind(image: Array) -> str:
    height, width = image.shape[:2]
    return f"{width} × {height} pixels in {'grey' if image.ndim == 2 else 'colour'}"


def _size(label: str, text: str | None) -> tuple[int, int] | None:
    """Return width and height."""
    if text is None:
        return None
    parts = text.lower().split("x")
    numbers = [int(p) for p in parts if p.isascii() and p.isdecimal() and len(p) < 6]
    require(
        len(numbers) == len(parts) <= 2 and all(1 <= n <= LARGEST for n in numbers),
        f"{label}: size must be a number of pixels up to {LARGEST}, or two as WIDTHxHEIGHT, got "
        f"{shown(text)}; write size=28 or size=32x24.",
    )
    return numbers[0], numbers[-1]


def _grey(label: str, text: str | None) -> bool:
    require(text in (None, "yes", "no"), f"{label}: grey must be yes or no, got {shown(text)}.")
    return text == "yes"


FOLDER = ImageFolder()
