"""The BCa bootstrap of means, for many places at once.

Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), section 14.3. `scipy.stats.bootstrap`
gives the same ends, but copies the drawn values of every place, and loading it takes a second.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
# How many numbers are drawn at once.
_AT_ONCE = 2**20
# Means that differ by less than this share of the largest value are equal.
_ROUNDING = 1e-12


def bca_bands(
    values: Numbers, tail: float, resamples: int, draw: np.random.Generator
) -> tuple[Numbers, Numbers]:
    """Return the lower and upper ends of the bands of means, [place] each; NaN if BCa fails.

    With the resampled means m_b, the mean m, and u_i = m − m_(i), where m_(i) leaves out value i:

        z₀ = Φ⁻¹(share of m_b below m),     a = Σ u³ / (6 (Σ u²)^{3/2}),
        end = quantile of m_b at Φ(z₀ + z/(1 − a z)),   z = z₀ ± Φ⁻¹(tail).

    Args:
        values: [value, place].
        tail: the share of means below a band, and above it.
        resamples: the number of resamples.
        draw: the source of random numbers; every place has the same samples.
    """
    from scipy.special import ndtr, ndtri

    mean, resampled = values.mean(0), _resampled(values, resamples, draw)
    # Equal means may differ by rounding.
    same = _ROUNDING * np.abs(values).max(0)
    gap = resampled - mean[:, None]
    below = np.count_nonzero(gap < -same[:, None], axis=1)
    at_most = np.count_nonzero(gap <= same[:, None], axis=1)
    shift = ndtri((below + at_most) / (2 * resamples))
    # Leaving out one value changes the mean by (mean − value)/(n − 1).
    without = mean - values
    with np.errstate(divide="ignore", invalid="ignore"):
        skew = -(without**3).sum(0) / (without**2).sum(0) ** 1.5 / 6
        shares = [
            ndtr(shift + z / (1 - skew * z)) for z in (shift + ndtri(tail), shift - ndtri(tail))
        ]
    resampled.sort(axis=1)
    low, high = (_quantiles(resampled, share) for share in shares)
    return low, high


def _resampled(values: Numbers, resamples: int, draw: np.random.Generator) -> Numbers:
    """Return means of values drawn with replacement, [place, resample]."""
    count = len(values)
    rows = max(1, _AT_ONCE // count)
    means = np.empty((values.shape[1], resamples))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        chosen = draw.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        times = np.bincount(chosen.ravel(), minlength=size * count).reshape(size, count)
        means[:, start : start + size] = values.T @ times.T.astype(float) / count
    return means


def _quantiles(ordered: Numbers, shares: Numbers) -> Numbers:
    """Return a quantile of each row of sorted numbers, interpolated; NaN stays."""
    known = np.isfinite(shares)
    at = np.where(known, shares, 0.0) * (ordered.shape[1] - 1)
    left = np.floor(at).astype(int)
    right = np.minimum(left + 1, ordered.shape[1] - 1)
    place = np.arange(len(ordered))
    low, high = ordered[place, left], ordered[place, right]
    return np.where(known, low + (at - left) * (high - low), np.nan)
