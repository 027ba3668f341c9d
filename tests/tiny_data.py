"""Data sets of a few images, in the files that the real ones have."""

from __future__ import annotations

import struct

import numpy as np


def _idx(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    head = struct.pack(f">i{array.ndim}i", 0x800 + array.ndim, *array.shape)
    path.write_bytes(head + array.tobytes())


def _images(classes, each, side):
    """Return noise around one random image for each class, and the labels."""
    draw = np.random.default_rng(0)
    labels = np.arange(classes, dtype=np.uint8).repeat(each)
    means = draw.integers(0, 200, (classes, side, side))
    noise = draw.integers(0, 50, (len(labels), side, side))
    return (means[labels] + noise).astype(np.uint8), labels


def write(folder):
    """Write MNIST, EMNIST and Omniglot into DATA, and the files that pages name beside it."""
    from PIL import Image

    data = folder / "DATA"
    parts = (
        ("MNIST", "train", 10, 60),
        ("MNIST", "t10k", 10, 60),
        ("EMNIST", "emnist-bymerge-test", 47, 12),
    )
    for name, prefix, classes, each in parts:
        images, labels = _images(classes, each, 28)
        _idx(data / name / "raw" / f"{prefix}-images-idx3-ubyte", images)
        _idx(data / name / "raw" / f"{prefix}-labels-idx1-ubyte", labels)
    for part in ("background", "evaluation"):
        images, labels = _images(24, 20, 8)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            place = data / "omniglot-py" / f"images_{part}" / "Alphabet" / f"character{label:02}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image > 128).save(place / f"{number:04}.png")
    images, labels = _images(3, 30, 2)
    table = [
        f"{','.join(str(value / 250) for value in image.flatten())},class{label}"
        for image, label in zip(images, labels, strict=True)
    ]
    head = "a,b,c,d,species"
    (folder / "iris.csv").write_text("\n".join([head, *table]) + "\n", encoding="utf-8")
    numbers = [f"{row.rpartition(',')[0]},{0.5 + index}" for index, row in enumerate(5 * table)]
    head = "a,b,c,d,progression"
    (folder / "diabetes.csv").write_text("\n".join([head, *numbers]) + "\n", encoding="utf-8")
    images, labels = _images(10, 30, 8)
    np.savez(folder / "digits.npz", x=images, y=labels)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / "pets" / f"kind{label}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:03}.png")
    _hdf5(folder / "digits.h5", images, labels)
    (folder / "curve.csv").write_text("x,y\n0,0.5\n0.5,0\n0,0\n", encoding="utf-8")


def _hdf5(path, images, labels):
    import h5py

    with h5py.File(path, "w") as file:
        file["group/x"], file["group/y"] = images, labels
