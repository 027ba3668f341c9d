"""How a score is named, bounded and shown: a share in percent, or a plain number."""

from __future__ import annotations

import math
import re
import unicodedata
import warnings
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from metaplast.base.bands import Band, Limits, mean_band


@dataclass(frozen=True)
class ScoreScale:
    """The scale of a score; larger scores are better.

    Attributes:
        name: the name of the score, such as "accuracy" or "−MSE".
        percent: whether the score is a share, shown as a percentage.
        worst: the lowest possible score; may be −∞.
        best: the highest possible score; may be ∞.
    """

    name: str
    percent: bool
    worst: float
    best: float

    @cached_property
    def key(self) -> str:
        """The name in files and tags, in lower case and ASCII: "accuracy", "neg_mse"."""
        plain = unicodedata.normalize("NFKC", self.name).replace("−", "neg_").lower()
        return re.sub(r"[^a-z0-9]+", "_", plain).strip("_") or "score"

    @property
    def title(self) -> str:
        """The name at the start of a sentence."""
        return self.name[:1].upper() + self.name[1:]

    @property
    def limits(self) -> Limits:
        """The possible range of a mean score."""
        return self.worst, self.best

    @property
    def change_limits(self) -> Limits:
        """The possible range of a difference of scores."""
        return self.worst - self.best, self.best - self.worst

    @property
    def factor(self) -> float:
        """The factor between a score and the number shown."""
        return 100.0 if self.percent else 1.0

    @property
    def axis(self) -> str:
        """The label of an axis."""
        return f"{self.name}, %" if self.percent else self.name

    @property
    def change_axis(self) -> str:
        """The label of an axis, or the head of a column, that shows differences."""
        return f"change of {self.name}" + (", points" if self.percent else "")

    @property
    def axis_limits(self) -> tuple[float | None, float | None]:
        """The limits of an axis; None for an infinite end."""
        low, high = (self.factor * end if math.isfinite(end) else None for end in self.limits)
        return low, high

    def number(self, value: float) -> str:
        """Return a score without its unit: "86.0", "-0.512"."""
        return f"{100 * value:.1f}" if self.percent else f"{value:.3f}"

    def text(self, value: float) -> str:
        """Return a score: "86.0 %", "-0.512"."""
        return self.number(value) + (" %" if self.percent else "")

    def interval(self, band: Band) -> str:
        """Return the ends of a band: "84.7 – 87.2 %", "-0.54 to -0.49"."""
        ends = self.number(band.low), self.number(band.high)
        return f"{ends[0]} – {ends[1]} %" if self.percent else f"{ends[0]} to {ends[1]}"

    def mean_in_band(self, band: Band) -> str:
        """Return a mean with the ends of its band: "86.0 % [84.7, 87.2]"."""
        return str(replace(band, percent=self.percent))

    def change(self, band: Band) -> str:
        """Return a difference with its band; differences of shares are in points."""
        return replace(band, percent=self.percent).points

    def band(self, values: Tensor) -> Band:
        """Return the mean of scores, [episode], with its band."""
        return replace(mean_band(values, self.limits), percent=self.percent)

    def change_band(self, values: Tensor) -> Band:
        """Return the mean of differences of scores, [episode], with its band."""
        return replace(mean_band(values, self.change_limits), percent=self.percent)


def warn_of_accuracy(owner: str) -> None:
    """Warn that `accuracy` is the former name of a score."""
    warnings.warn(
        f"{owner}.accuracy is deprecated and will be removed; use {owner}.score, which every "
        f"objective has.",
        DeprecationWarning,
        stacklevel=3,
    )
