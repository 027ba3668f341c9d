"""Lines with bands, from the numbers of many networks or of neighbouring tasks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metaplast.evaluation import COVERAGE

Numbers = npt.NDArray[np.float64]
# As for the published curves (Shervani-Tabar & Rosenbaum 2023).
RESAMPLES = 500


@dataclass(frozen=True)
class Curve:
    """A line with a band about it.

    Attributes:
        x: places, rising.
        mean, low, high: heights (a median's, if that was asked for); NaN leaves a gap.
    """

    x: Numbers
    mean: Numbers
    low: Numbers
    high: Numbers

    @classmethod
    def nothing(cls) -> Curve:
        """Return a curve without points."""
        return cls(*(np.empty(0) for _ in range(4)))

    def positive(self) -> Curve:
        """Return the curve with gaps where its band is not above zero, for a logarithmic axis."""
        rows = (np.where(self.low > 0, row, np.nan) for row in (self.mean, self.low, self.high))
        return Curve(self.x, *rows)

    @classmethod
    def over_networks(cls, x: Sequence[float], values: Numbers, *, median: bool = False) -> Curve:
        """Return mean or median and its 98 % bootstrap band over networks.

        Args:
            x: places.
            values: [network, place]; those that are not finite have no part in it.
            median: for quantities of which one network can have a thousand times the others'.
        """
        values = np.where(np.isfinite(values), values, np.nan)
        middle = np.nanmedian if median else np.nanmean
        index = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
        with warnings.catch_warnings():
            # A place, or a resample of it, where no network has a number: a gap.
            warnings.simplefilter("ignore", RuntimeWarning)
            centre, resampled = middle(values, 0), middle(values[index], 1)
        resampled = np.where(np.isnan(resampled), centre, resampled)
        return cls(np.asarray(x, float), centre, *_quantiles(resampled))

    @classmethod
    def running(cls, x: Sequence[float], values: Numbers, window: int) -> Curve:
        """Return the running mean over `window` neighbours and its 98 % bootstrap band."""
        places = np.arange(len(values))
        half = window // 2
        draw = np.random.default_rng(0)
        means, resampled = [], []
        for place in places:
            near = values[max(0, place - half) : place + half + 1]
            near = near[np.isfinite(near)]
            if not len(near):
                means.append(np.nan)
                resampled.append(np.full(RESAMPLES, np.nan))
                continue
            means.append(near.mean())
            resampled.append(draw.choice(near, (RESAMPLES, len(near))).mean(1))
        if not means:
            return cls.nothing()
        return cls(np.asarray(x, float), np.array(means), *_quantiles(np.stack(resampled, 1)))


def _quantiles(resampled: Numbers) -> tuple[Numbers, Numbers]:
    """Return the ends of the band from resampled means, [resample, place]."""
    tail = (1 - COVERAGE) / 2
    # A plain quantile of NaN warns; a place without values has no band.
    low, high = np.quantile(np.nan_to_num(resampled), [tail, 1 - tail], axis=0)
    gap = np.isnan(resampled).any(0)
    return np.where(gap, np.nan, low), np.where(gap, np.nan, high)


def last_of(values: Numbers) -> float:
    """Return the last finite value, NaN if there is none."""
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else float("nan")
