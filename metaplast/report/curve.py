"""Lines with bands, from the numbers of many networks or of neighbouring tasks."""

from __future__ import annotations

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
        mean, low, high: heights; NaN leaves a gap.
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
    def over_networks(cls, x: Sequence[float], values: Numbers) -> Curve:
        """Return mean and 98 % bootstrap band over networks, values [network, place]."""
        draw = np.random.default_rng(0)
        index = draw.integers(len(values), size=(RESAMPLES, len(values)))
        return cls(np.asarray(x, float), values.mean(0), *_quantiles(values[index].mean(1)))

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
