"""Warn once about inputs far from the range that rules and learning rates are made for."""

from __future__ import annotations

import contextlib
import math
import warnings
import weakref
from typing import Any

import torch
from torch import Tensor

from metaplast.tasks.batch import EpisodeBatch

# Root mean square above which inputs are far too large. It is below 1 for inputs from 0 to 1, and 1
# for standardised inputs.
LARGE = 2.0
# A single input above the first limit is far too large; inputs all below the second are far too
# small.
LARGEST, SMALLEST = 10.0, 0.05


def far_range(x: Tensor) -> tuple[float, float] | None:
    """Return the smallest and largest input if they are far from 0 … 1, else None.

    Inputs that are not finite also give None: the run reports them when an episode diverges.
    """
    if not x.numel():
        return None
    low, high = (float(bound) + 0.0 for bound in x.aminmax())  # Avoid −0.
    size = max(abs(low), abs(high))
    if SMALLEST <= size <= LARGE or not math.isfinite(size):
        return None
    rms = float(x.to(torch.float64).square().mean().sqrt())
    return (low, high) if size > LARGEST or rms > LARGE or size < SMALLEST else None


def warn_of_range(low: float, high: float, what: str, mend: str, stacklevel: int) -> None:
    """Warn about inputs that are far from 0 … 1."""
    warnings.warn(
        f"{what} are from {low:.4g} to {high:.4g}, far from the range 0 to 1 that rules and rates "
        f"are made for; {mend}.",
        stacklevel=stacklevel + 1,
    )


_seen: set[int] = set()


def check_episodes(sampler: Any, batch: EpisodeBatch) -> None:
    """Warn if the inputs of a sampler's episodes are far from 0 … 1, once for each sampler.

    The median over the episodes decides, so a single unusual episode leads to no warning; if it
    diverges, the run reports it.
    Samplers whose range has been checked set `range_is_known` to True.
    """
    key = id(sampler)
    if key in _seen or getattr(sampler, "range_is_known", False):
        return
    # An object without weak references is checked again, because another object may reuse its id.
    with contextlib.suppress(TypeError):
        weakref.finalize(sampler, _seen.discard, key).atexit = False
        _seen.add(key)
    order = batch.support_x.flatten(1).abs().amax(1).argsort()
    bounds = far_range(batch.support_x[order[(len(order) - 1) // 2]])
    if bounds is not None:
        mend = "scale them, or make episodes with episodes.from_tensors(…, scale='unit')"
        warn_of_range(*bounds, "the inputs of the episodes", mend, stacklevel=2)
