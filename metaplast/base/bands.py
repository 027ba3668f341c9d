"""Means and medians with confidence bands: one level and one method for the whole package.

The level is that of the published curves, 98 % (Shervani-Tabar & Rosenbaum 2023). Captions and
column headers that show the level take it from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from metaplast.base.bootstrap import bca_bands
from metaplast.base.plain_data import check, number
from metaplast.base.seeds import numpy_generator

Numbers = npt.NDArray[np.float64]
Ends = tuple[Numbers, Numbers, Numbers]
Limits = tuple[float, float]

LEVEL = 0.98
BAND = f"{100 * LEVEL:g} % band"
RESAMPLES = 10_000
# With at least this many values, a bootstrap has better coverage than Student's t if the values are
# skewed, and about the same if they are not. A bootstrap of fewer values never leaves their range,
# so its bands are too narrow.
ENOUGH = 10
# How pages of results describe their bands.
DESCRIPTION = (
    f"{BAND}s: for a mean, Student's t below {ENOUGH} values, and a BCa bootstrap of {RESAMPLES:,} "
    f"resamples, widened for small samples, from {ENOUGH} on; for a median, order statistics"
)
# How to describe stored results whose bands have no recorded method.
EARLIER = (
    "98 % percentile bootstrap bands, made by an earlier version: with 20 seeds about a tenth "
    "narrower than today's"
)
# The possible range of a share in percent, and of any number.
PERCENT, ANY = (0.0, 100.0), (-math.inf, math.inf)


@dataclass(frozen=True)
class Band:
    """A mean with its confidence band.

    Attributes:
        mean: the mean of the values.
        low: lower end of the band; with a single value, the lowest possible mean.
        high: upper end.
        percent: whether the mean is a share, which is printed in percent.
    """

    mean: float
    low: float
    high: float
    percent: bool = True

    def __str__(self) -> str:
        """Return the mean with its band; a share in percent."""
        if not self.percent:
            return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"
        return f"{100 * self.mean:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"

    def to_json(self) -> dict[str, float | None]:
        """Return mean, low and high for a JSON file; None for an infinite (open) end."""
        ends = {"mean": self.mean, "low": self.low, "high": self.high}
        return {name: value if math.isfinite(value) else None for name, value in ends.items()}

    @classmethod
    def from_json(cls, data: Any, where: str) -> Band:
        """Return the band that `to_json` wrote; an end that is None is infinite.

        Raises:
            DataError: if the data are something else.
        """
        check(isinstance(data, Mapping), f"{where} must be an object with mean, low and high")

        def end(name: str, missing: float) -> float:
            value = data.get(name, "nothing")
            return missing if value is None else number(value, f"{name} of {where}")

        return cls(end("mean", math.nan), end("low", -math.inf), end("high", math.inf))

    @property
    def points(self) -> str:
        """A difference with its band; a difference of shares is in points."""
        if not self.percent:
            return f"{self.mean:+.3f} [{self.low:+.3f}, {self.high:+.3f}]"
        return f"{100 * self.mean:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def mean_band(values: Tensor | Numbers, limits: Limits = ANY, level: float = LEVEL) -> Band:
    """Return the mean of `values` with its band, see `mean_bands`.

    Args:
        values: one for each episode, network or seed, at least one, [value].
        limits: the possible range of the mean, such as `PERCENT`.
        level: the share of such bands that cover the truth.
    """
    numbers = values.double().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    ends = mean_bands(numbers.astype(float)[:, None], limits, level)
    mean, low, high = (float(end[0]) for end in ends)
    return Band(mean, low, high)


def mean_bands(values: Numbers, limits: Limits = ANY, level: float = LEVEL) -> Ends:
    """Return means and the lower and upper ends of their bands, [place] each.

    Below `ENOUGH` values the band is Student's, mean ± t s/√n: resampled means of five values
    hardly leave their range, so bootstrap bands with a nominal level of 98 % cover 89 %. From
    `ENOUGH` values on, the band is a BCa bootstrap, which follows skewed values. Its level is
    raised until a bootstrap of normal values is as wide as Student's band (Hesterberg 2015, "What
    Teachers Should Know About the Bootstrap"). At a nominal 98 %, coverage is 97 to 98 % for normal
    values at any n; for exponential values it is 93 % at n = 5, 95 % at 10 and 97 % at 20.

    A single value says nothing about the spread: its band is the whole range of `limits`. Equal
    values have a band of zero width, because no method can tell how they would vary. If BCa returns
    NaN, the band is Student's.

    Args:
        values: [value, place]; values that are not finite are ignored. A place with no finite value
            is NaN. The order of the values does not matter.
        limits: the possible range of the means; bands are cut to it.
        level: the share of such bands that cover the truth.
    """
    return _by_count(values, lambda part: _mean_bands(part, level), limits)


def median_bands(values: Numbers, limits: Limits = ANY, level: float = LEVEL) -> Ends:
    """Return medians and the ends of their bands, [place] each, like `mean_bands`.

    The ends are order statistics (David & Nagaraja 2003), whose coverage holds for any
    distribution. If 2^(1-n) > 1 - level (below 7 values for 98 %), no two of the n values reach the
    level, and the band is the whole range of `limits`.
    """
    return _by_count(values, lambda part: _median_bands(part, level), limits)


def _by_count(values: Numbers, bands: Callable[[Numbers], Ends], limits: Limits) -> Ends:
    """Return the bands of all places; places with equal numbers of values are computed together."""
    # NaN sorts last, so the first rows of a column are its finite values.
    ordered = np.sort(np.where(np.isfinite(values), values, np.nan), axis=0)
    counts = np.isfinite(ordered).sum(0)
    found = np.full((3, values.shape[1]), np.nan)
    for count in set(counts.tolist()) - {0}:
        places = counts == count
        middle, low, high = bands(ordered[:count, places])
        found[:, places] = middle, np.maximum(low, limits[0]), np.minimum(high, limits[1])
    return found[0], found[1], found[2]


def _mean_bands(values: Numbers, level: float) -> Ends:
    count, mean = len(values), values.mean(0)
    # Because of rounding, the mean of equal values may differ from these values.
    equal = values[0] == values[-1]
    mean = np.where(equal, values[0], mean)
    low, high = np.full((2, len(mean)), [[-np.inf], [np.inf]])
    if count > 1:
        half = _student(count, level) * values.std(0, ddof=1) / math.sqrt(count)
        low, high = np.where(equal, mean, mean - half), np.where(equal, mean, mean + half)
    if count >= ENOUGH and not equal.all():
        ends = _bootstrap(values[:, ~equal], level)
        low[~equal], high[~equal] = (
            np.where(np.isfinite(end), end, old[~equal])
            for end, old in zip(ends, (low, high), strict=True)
        )
    return mean, low, high


def _student(count: int, level: float) -> float:
    """Return half the width of Student's band in standard errors."""
    # The function behind `scipy.stats.t.ppf`, which takes a second longer to import.
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, (1 + level) / 2))


def _bootstrap(values: Numbers, level: float) -> tuple[Numbers, Numbers]:
    """Return the ends of BCa bands at the widened level; NaN if BCa fails."""
    from scipy.special import ndtr

    width = _student(len(values), level) * math.sqrt(len(values) / (len(values) - 1))
    return bca_bands(values, float(ndtr(-width)), RESAMPLES, numpy_generator(0, "bands"))


def _median_bands(values: Numbers, level: float) -> Ends:
    from scipy import stats

    # The rank, counted from 1, of the lower end among the sorted values: the median lies below it
    # with a probability of at most (1 - level) / 2. 0: no such rank.
    place = int(stats.binom.ppf((1 - level) / 2, len(values), 0.5))
    median = np.median(values, 0)
    if not place:
        return median, np.full_like(median, -np.inf), np.full_like(median, np.inf)
    return median, values[place - 1], values[-place]
