"""Weights that were observed at given times, with or without other observations."""

from __future__ import annotations

from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import require
from metaplast.base.words import amount
from metaplast.recordings.checks import numbers

# If two sizes of weights differ by this factor, their units probably differ.
_UNITS = 10.0
# Weights at the starts of trials differ if they vary by this share of their size.
_DIFFERENT = 0.5


def observed_weights(
    given: Any, shape: tuple[int, int], posts: int | None, pres: int, lengths: tuple[int, ...],
    name: str,
) -> Numbers | None:  # fmt: skip
    """Return the observed weights, [trial, time + 1, post, pre]; None if there are none.

    The weights of a step are those that produce its activity, before they change. An extra step at
    the end holds the weights after the last change.

    Args:
        given: the array weights, [trial, time, post, pre] or [trial, time + 1, post, pre].
        shape: number of trials and of steps.
        posts: number of neurons; None to take it from the weights.
        pres: number of inputs.
        lengths: steps of each trial.
        name: the name of the file.

    Raises:
        UserError: if the shape does not fit, a weight is infinite, or none was observed.
    """
    if given is None:
        return None
    found = numbers(given, f"{name}: weights")
    wanted = [*shape, "neuron" if posts is None else posts, pres]
    fits = found.ndim == 4 and found.shape[0] == shape[0] and found.shape[3] == pres
    fits = fits and found.shape[1] in (shape[1], shape[1] + 1) and found.shape[2] > 0
    require(
        fits and posts in (None, found.shape[2]),
        f"{name}: weights must be [trial, time, post, pre] = [{', '.join(map(str, wanted))}], or "
        f"have one step more, after the last change, got the shape {found.shape}; give known "
        f"weights at the start of trials as initial_weights.",
    )
    infinite = int(np.isinf(found).sum())
    require(
        not infinite,
        f"{name}: {amount(infinite, 'weights are', 'weight is')} infinite; write NaN for a gap.",
    )
    whole = np.full((shape[0], shape[1] + 1, *found.shape[2:]), np.nan)
    whole[:, : found.shape[1]] = found
    whole[np.arange(shape[1] + 1) > np.array(lengths)[:, None]] = np.nan
    require(
        bool(np.isfinite(whole).any()),
        f"{name}: no weight was observed: all of weights is NaN; leave out the array.",
    )
    return whole


def weight_notes(
    observed: Numbers, initial: Numbers | None, *, continues: bool, name: str
) -> list[str]:
    """Return notes about observed weights that do not agree with the initial ones.

    Args:
        observed: [trial, time + 1, post, pre].
        initial: given weights at the start of trials; None if unknown.
        continues: whether weights carry over from trial to trial.
        name: the name of the file.
    """
    if initial is not None:
        sizes = [float(np.nanmedian(np.abs(each))) for each in (observed, initial)]
        if min(sizes) > 0 and not 1 / _UNITS < sizes[0] / sizes[1] < _UNITS:
            return [
                f"{name}: the usual size of an observed weight is {sizes[0]:.3g}, that of an "
                f"initial weight {sizes[1]:.3g}; check that they have the same unit."
            ]
        return []
    first = observed[:, 0]
    several = np.isfinite(first).sum(0) > 1
    if continues or not several.any():
        return []
    first = first[:, several]
    spread, size = np.nanstd(first, axis=0).mean(), np.sqrt(np.nanmean(first**2))
    if spread < _DIFFERENT * size:
        return []
    return [
        f"{name}: weights at the starts of trials differ by {spread:.3g} (their usual size is "
        f"{size:.3g}), but one set of initial weights is fitted to all trials; give them as "
        f"initial_weights."
    ]
