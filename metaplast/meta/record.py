"""The record of one outer step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from metaplast.base.threads import torch_on_one_thread
from metaplast.engines import Outcome, Problem
from metaplast.meta.learned_theta import LearnedTheta
from metaplast.systems.system import Examples

# Finite episodes whose angles are measured. With many small episodes, measuring all of them would
# take a tenth of a step's time.
ANGLED = 4


@dataclass(frozen=True)
class Record:
    """The record of one outer step, before θ changes.

    Attributes:
        stage: which part of the run.
        step: outer step, from 0.
        episodes: number of tasks so far, including these.
        loss: query loss, mean over the finite episodes.
        score: query score, mean over the finite episodes.
        l1_norm: ‖u‖₁ in scaled units.
        active: number of terms whose coefficient is not zero.
        non_finite: episodes that diverged in this step.
        gradient_norm: the norm of the averaged gradient with respect to u.
        theta: coefficients by term name, one value or one for each layer.
        angles: between the errors fed back and backprop's, for layers 1 … L-1, degrees; mean over
            the first `ANGLED` finite episodes.
        taus: time constants that are learned, by name, in examples or time steps.
        shrunk: whether all coefficients shrank in this step, because learning was chaotic.
    """

    stage: str
    step: int
    episodes: int
    loss: float
    score: float
    l1_norm: float
    active: int
    non_finite: int
    gradient_norm: float
    theta: dict[str, list[float]]
    angles: list[float] = field(default_factory=list)
    taus: dict[str, float] = field(default_factory=dict)
    shrunk: bool = False


def record_of(
    stage: str,
    step: int,
    problem: Problem,
    outcome: Outcome,
    learned: LearnedTheta,
    gradient: Tensor,
    taus: dict[str, float],
    shrunk: bool = False,
) -> Record:
    """Return the record of an outer step, without angles, which take longer than all the rest.

    Args:
        stage: which part of the run.
        step: outer step, from 0.
        problem: the episodes of the step.
        outcome: their outcome.
        learned: θ before the step, in scaled units.
        gradient: the averaged gradient with respect to u.
        taus: learned time constants before the step, by name.
        shrunk: whether all coefficients shrink in this step.
    """
    u, finite = learned.named(learned.u.detach()), outcome.finite
    return Record(
        stage=stage,
        step=step,
        episodes=(step + 1) * problem.episodes.episodes,
        loss=_mean(outcome.loss[finite]),
        score=_mean(outcome.score[finite]),
        l1_norm=float(u.tensor.abs().sum()),
        active=len(u.used),
        non_finite=int((~finite).sum()),
        gradient_norm=float(gradient.norm()),
        theta=learned.named(learned.tensor).columns(),
        taus=taus,
        shrunk=shrunk,
    )


@torch.no_grad()
def with_angles(record: Record, problem: Problem, outcome: Outcome) -> Record:
    """Return the record of a step with its angles, which do not depend on the number of threads."""
    some, batch = outcome.finite.nonzero().flatten()[:ANGLED], problem.episodes
    if not len(some):
        return record
    query = Examples(batch.query_x[some], batch.query_y[some])
    with torch_on_one_thread():
        angles = problem.learner.error_angles(outcome.final.select(some), query)
    return replace(record, angles=angles.mean(0).tolist())


def _mean(values: Tensor) -> float:
    """Return the mean; NaN for an empty list, which tables and JSON writers treat as missing."""
    return float(values.mean()) if len(values) else math.nan
