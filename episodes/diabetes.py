"""Diabetes progression of 442 patients (Efron et al. 2004, Annals of Statistics 32, 407–499).

Regression: from 10 measurements, predict a number, the progression of the disease one year later.
The data come with scikit-learn: no download is needed.
"""

from __future__ import annotations

import torch

from episodes.pool import LabelledPool
from episodes.source import PoolSource
from metaplast.tasks.request import EpisodeRequest


def _load(request: EpisodeRequest) -> LabelledPool:  # noqa: ARG001 - the data is always the same
    from sklearn.datasets import load_diabetes

    # We do not use scikit-learn's scaled version, which includes the held-out samples in its mean.
    measured, progression = load_diabetes(return_X_y=True, scaled=False)
    return LabelledPool.of_numbers(
        torch.from_numpy(measured),
        torch.from_numpy(progression),
        scaling="standard",
        target_scaling="standard",
        note="inputs and target standardised",
    )


DIABETES = PoolSource(
    name="diabetes",
    summary="regression, --objective mse: 442 patients, 10 measurements each, part of "
    "scikit-learn; --shots and --queries count samples of a task",
    load=_load,
    shots=100,
)
