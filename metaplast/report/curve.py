"""Lines with bands, from many networks or from neighbouring tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metaplast.base.bands import Ends, Numbers, mean_bands, median_bands

# Largest number of points in the curve of a running mean.
PLACES = 400


@dataclass(frozen=True)
class Curve:
    """A line with a band around it.

    Attributes:
        x: positions, increasing.
        mean, low, high: heights; `mean` may contain medians. NaN leaves a gap.
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
        """Return the curve for a logarithmic axis, with gaps for values that are not positive."""
        mean = np.where(self.mean > 0, self.mean, np.nan)
        low, high = (np.where(self.low > 0, row, np.nan) for row in (self.low, self.high))
        return Curve(self.x, mean, low, high)

    @classmethod
    def over_networks(cls, x: Sequence[float], values: Numbers, *, median: bool = False) -> Curve:
        """Return mean or median over networks with its band; see `metaplast.base.bands`.

        Args:
            x: positions.
            values: [network, position]; non-finite values are ignored. Where too few remain, the
                band has a gap.
            median: whether to draw the median, for quantities that are huge in a few networks.
        """
        return cls(np.asarray(x, float), *_drawn((median_bands if median else mean_bands)(values)))

    @classmethod
    def running(cls, x: Sequence[float], values: Numbers, window: int) -> Curve:
        """Return the running mean over `window` neighbours with its band; see `base.bands`.

        At most `PLACES` positions are kept, evenly spread: a picture cannot show more.
        """
        if not len(values):
            return cls.nothing()
        half = window // 2
        places = np.unique(np.linspace(0, len(values) - 1, min(len(values), PLACES)).round())
        padded = np.pad(np.asarray(values, float), half, constant_values=np.nan)
        near = np.lib.stride_tricks.sliding_window_view(padded, 2 * half + 1)[places.astype(int)]
        return cls(np.asarray(x, float)[places.astype(int)], *_drawn(mean_bands(near.T)))


def _drawn(ends: Ends) -> Ends:
    """Return the bands to draw: those without finite ends become gaps."""
    mean, low, high = ends
    gap = ~(np.isfinite(low) & np.isfinite(high))
    return mean, np.where(gap, np.nan, low), np.where(gap, np.nan, high)


def last_of(values: Numbers) -> float:
    """Return the last finite value, or NaN if no value is finite."""
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if len(finite) else float("nan")
