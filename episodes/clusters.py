"""Synthetic classes: Gaussian clouds around random centres, in any dimension."""

from __future__ import annotations

import math

import torch

from episodes.pool import LabelledPool
from episodes.source import PoolSource
from metaplast.base.errors import UserError, require, shown
from metaplast.base.words import words
from metaplast.tasks.request import EpisodeRequest

DIMENSION = 32
CLASSES = 64

#: Largest product of dimension and number of classes; each class has at least `IMAGES` images.
MOST = 10**6

#: Largest number of pixels in all images; 2 GB.
MOST_NUMBERS = 5 * 10**8

#: Least number of images of a class; there are more if shots and queries require more.
IMAGES = 500

#: Standard deviation of a class along every axis, and mean of all centres. With these values,
#: nearly every number is in [0, 1], like a pixel.
NOISE = 0.25
MIDDLE = 0.5

#: Keeps the random numbers of the data separate from those of the split, which has the same seed.
STREAM = 0x5EED


def _load(request: EpisodeRequest) -> LabelledPool:
    """Return classes whose centres are uniform in a cube around `MIDDLE`.

    The cube shrinks as 1/√dimension, so that the distance between two centres, and thus the
    difficulty, is about the same for all dimensions of at least 8.
    """
    dimension, classes = _sizes(request.argument)
    images = max(IMAGES, 2 * (request.shots + request.queries))
    require(
        dimension * classes * images <= MOST_NUMBERS,
        f"clusters can have at most {MOST_NUMBERS:,} numbers, but {classes} classes of {images:,} "
        f"images of {dimension} pixels were asked for; give fewer --shots and --queries, or a "
        f"smaller dimension.",
    )
    generator = torch.Generator().manual_seed(request.seed ^ STREAM)
    reach = min(0.25 * math.sqrt(DIMENSION / dimension), 0.5)
    dtype, device = torch.float32, torch.device("cpu")
    draw = torch.rand(classes, 1, dimension, generator=generator, dtype=dtype, device=device)
    centres = MIDDLE + reach * (2 * draw - 1)
    noise = NOISE * torch.randn(
        classes, images, dimension, generator=generator, dtype=dtype, device=device
    )
    return LabelledPool(
        images=(centres + noise).flatten(0, 1),
        labels=torch.arange(classes, dtype=torch.int64, device="cpu").repeat_interleave(images),
    )


def _sizes(argument: str) -> tuple[int, int]:
    """Return dimension and number of classes from "", "DIM" or "DIM,CLASSES"."""
    try:
        numbers = [int(part) for part in words("clusters", argument)] if argument else []
    except (UserError, ValueError):
        numbers = [0]
    dimension, classes = [*numbers, *(DIMENSION, CLASSES)[len(numbers) :]][:2]
    if len(numbers) > 2 or dimension < 1 or classes < 2:
        raise UserError(
            f"clusters takes a dimension of at least 1, optionally with a number of classes of at "
            f"least 2, got {shown(argument)}; write --dataset clusters:{DIMENSION},{CLASSES}."
        )
    require(
        dimension * classes <= MOST,
        f"clusters takes at most {MOST} as dimension times classes, got {shown(argument)}.",
    )
    return dimension, classes


CLUSTERS = PoolSource(
    name="clusters",
    summary=f"synthetic Gaussian classes; clusters:DIM,CLASSES (default {DIMENSION},{CLASSES})",
    load=_load,
    takes_argument=True,
)
