"""A summary of the runs of a sweep over their seeds, for each penalty."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from metaplast.batch_jobs.sweep import Run


@dataclass(frozen=True)
class Range:
    """The median and the extremes of numbers, one for each seed.

    Attributes:
        median: their median.
        lowest: the lowest.
        highest: the highest.
    """

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, numbers: Iterable[float]) -> Range:
        """Return the range of at least one number."""
        values = sorted(numbers)
        return cls(median(values), values[0], values[-1])


@dataclass(frozen=True)
class OverSeeds:
    """The runs with one penalty.

    Attributes:
        l1: the penalty.
        runs: how many there are.
        score: mean held-out score of each run's rule.
        above: the same minus the score of a baseline, by name of the baseline.
        terms: number of terms in the rule.
        tested: number of terms that were left out in turn, in all runs together.
        missed: how many of these are missed; see `Run.missed`.
        diverged: number of held-out tasks, of all runs, on which a rule diverged.
    """

    l1: float
    runs: int
    score: Range
    above: dict[str, Range]
    terms: Range
    tested: int
    missed: int
    diverged: int

    @classmethod
    def of(cls, runs: Sequence[Run]) -> OverSeeds:
        """Return the summary of runs with the same penalty."""
        return cls(
            runs[0].l1,
            len(runs),
            Range.of(run.score for run in runs),
            {
                name: Range.of(run.score - run.rivals[name] for run in runs)
                for name in runs[0].rivals
            },
            Range.of(len(run.kept) for run in runs),
            sum(run.tested for run in runs),
            sum(run.missed for run in runs),
            sum(run.diverged for run in runs),
        )


def over_seeds(runs: Iterable[Run]) -> list[OverSeeds]:
    """Return one entry for each penalty, the lowest first."""
    groups: dict[float, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.l1, []).append(run)
    return [OverSeeds.of(groups[l1]) for l1 in sorted(groups)]
