"""A publication's claims: for each, a number per seed and the range in which it must lie."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from metaplast.base.bands import ANY, LEVEL, PERCENT, Band, Numbers, mean_band
from metaplast.reproduce.table import Table

# The range of n values misses the median of their distribution with probability 2^(1-n). From 7
# seeds on this is below 2 %, so a band over seeds keeps its level whatever the distribution.
LEAST_SEEDS = 1 + math.ceil(-math.log2(1 - LEVEL))

Outcome = Literal["holds", "does not hold", "not decided"]


@dataclass(frozen=True)
class Claim:
    """A statement, and the range in which its number must lie.

    Attributes:
        text: the statement, in human-readable form.
        source: where it is made, with a remark if it is not printed there.
        measure: returns one number for each seed, [seed], from an experiment's table.
        low: values above it meet the claim, and so does `low` itself if `high` is finite.
        high: values below it meet the claim, and so does `high` itself if `low` is finite.
        unit: the unit of the number; "%" and "points" are shares times 100.
    """

    text: str
    source: str
    measure: Callable[[Table], Numbers]
    low: float = -math.inf
    high: float = math.inf
    unit: str = ""

    def is_met(self, value: float) -> bool:
        """Return whether a value lies in the range: above 0 is not 0, 5 to 15 includes both."""
        if math.isinf(self.low) or math.isinf(self.high):
            return self.low < value < self.high
        return self.low <= value <= self.high

    @property
    def criterion(self) -> str:
        """The range, as human-readable text."""
        low, high = f"{self.low:g}", f"{self.high:g}"
        unit = f" {self.unit}" if self.unit else ""
        if math.isinf(self.low):
            text = f"below {high}{unit}"
        elif math.isinf(self.high):
            text = f"above {low}{unit}"
        else:
            text = f"{low} to {high}{unit}"
        return text.replace("-", "−")


@dataclass(frozen=True)
class Verdict:
    """The outcome of a claim.

    Attributes:
        claim: the statement.
        source: where it is made.
        criterion: the range in which it is true.
        unit: the unit of the numbers.
        mean: over seeds; None if nothing was measured.
        low, high: ends of its band; None if a single seed leaves them open.
        seeds: how many seeds were measured.
        agree: how many of them lie in the range.
        outcome: "holds" if the whole band lies in the range, "does not hold" if no part of it
            does; otherwise, or with too few seeds, "not decided".
    """

    claim: str
    source: str
    criterion: str
    unit: str
    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    agree: int
    outcome: Outcome


def judge(claim: Claim, table: Table) -> Verdict:
    """Return the verdict of an experiment's numbers on a claim."""
    values = np.asarray(claim.measure(table), float)
    finite = values[np.isfinite(values)]
    agree = sum(map(claim.is_met, finite.tolist()))
    limits = PERCENT if claim.unit == "%" else ANY
    band = mean_band(finite, limits) if len(finite) else None
    complete = len(finite) == len(values) >= LEAST_SEEDS
    return Verdict(
        claim=claim.text,
        source=claim.source,
        criterion=claim.criterion,
        unit=claim.unit,
        **(dict.fromkeys(("mean", "low", "high")) if band is None else band.to_json()),
        seeds=len(values),
        agree=agree,
        outcome=_outcome(claim, band) if band is not None and complete else "not decided",
    )


def _outcome(claim: Claim, band: Band) -> Outcome:
    if claim.is_met(band.low) and claim.is_met(band.high):
        return "holds"
    is_below = band.high <= claim.low and not claim.is_met(band.high)
    is_above = band.low >= claim.high and not claim.is_met(band.low)
    if is_below or is_above:
        return "does not hold"
    return "not decided"
