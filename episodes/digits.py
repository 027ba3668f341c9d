"""Handwritten digits of 8 × 8 pixels, which come with scikit-learn: no download is needed."""

from __future__ import annotations

import gzip
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from episodes.pool import LabelledPool
from episodes.source import PoolSource
from metaplast.tasks.request import EpisodeRequest

#: The brightest pixel of scikit-learn's digits.
BRIGHTEST = 16


@cache
def _read() -> tuple[Any, Any]:
    """Return pixels and labels, read once per process: experiments ask for them hundreds of times.

    The file is read without scikit-learn, whose import takes longer than many discoveries.
    """
    package = find_spec("sklearn")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            with gzip.open(file, "rt", encoding="utf-8") as text:
                data = np.loadtxt(text, delimiter=",")
            return data[:, :-1], data[:, -1].astype(int)
    # Another version of scikit-learn may keep the file elsewhere.
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
