"""Handwritten digits of 8 × 8 pixels, which come with scikit-learn: no download is needed."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from episodes.pool import LabelledPool
from episodes.source import PoolSource
from metaplast.tasks.request import EpisodeRequest

#: The brightest pixel of scikit-learn's digits.
BRIGHTEST = 16


@cache
def _read() -> tuple[Any, Any]:
    """Read the file once in a process: an experiment asks for the digits hundreds of times."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    return pixels, labels


def _load(request: EpisodeRequest) -> LabelledPool:  # noqa: ARG001 - the data is always the same
    pixels, labels = _read()
    return LabelledPool(
        images=torch.from_numpy(pixels).to(torch.uint8),
        labels=torch.from_numpy(labels.copy()).long(),
        scale=1 / BRIGHTEST,
    )


DIGITS = PoolSource(
    name="digits",
    summary="1,797 handwritten digits of 8 × 8 pixels, part of scikit-learn (10 classes)",
    load=_load,
    is_default=True,
)
