"""Find a rule's coefficients by search on logarithmic grids: first coarse pairs, then one by one.

This is for rules whose coefficients have not been learned, such as backprop with its learning rate.
Each other term is first tried together with the rate, at one point per decade, because a rate may
work only with that term. Then the search tunes one coefficient at a time. Its grid has two points
per decade, is extended if the best value lies at its edge, and is refined to four points per decade
around the best value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

# In quarters of a decade: the grid 1e-4 … 1, and the limits up to which it is extended, 1e-7 … 1e3.
GRID = range(-16, 1, 2)
COARSE = GRID[::2]
LIMITS = (-28, 12)
ROUNDS = 2


class Coefficient(Protocol):
    """A coefficient to search: a term's, or anything else with these three properties."""

    @property
    def name(self) -> str:
        """The name used in messages."""

    @property
    def initial(self) -> float:
        """The initial value; above zero for coefficients that are searched first."""

    @property
    def nonnegative(self) -> bool:
        """Whether negative values are excluded."""


@dataclass(frozen=True)
class Scale:
    """One factor for all the coefficients of a rule."""

    name: str = "scale"
    initial: float = 1.0
    nonnegative: bool = True


@dataclass(frozen=True, order=True)
class Quality:
    """How good coefficients are; larger is better.

    Attributes:
        score: mean over networks.
        advantage: minus the mean loss; breaks ties between equal scores.
    """

    score: float
    advantage: float


@dataclass(frozen=True)
class Trial:
    """Coefficients that were tried.

    Attributes:
        theta: one value for each term.
        quality: how good they are.
        diverged: number of networks that diverged.
    """

    theta: tuple[float, ...]
    quality: Quality
    diverged: int = 0


@dataclass
class Search:
    """The trials of one rule's search, and its result.

    Attributes:
        terms: the rule's terms, or other coefficients.
        attempt: trains networks with given coefficients.
        whole: whether every term must have a coefficient other than 0. A rule without one of its
            terms, or with one too small to matter, would be another rule. So only the grid of the
            rate is extended downwards.
        trials: all trials, by their coefficients, in order.
    """

    terms: Sequence[Coefficient]
    attempt: Callable[[tuple[float, ...]], Trial]
    whole: bool = False
    trials: dict[tuple[float, ...], Trial] = field(default_factory=dict)

    @property
    def at_edge(self) -> list[str]:
        """Names of the terms whose best coefficient lies at or beyond a limit of the search."""
        return [
            term.name
            for k, (term, value) in enumerate(zip(self.terms, self.best.theta, strict=True))
            if value and not self._lowest(k) < _quarter(value) < LIMITS[1]
        ]

    @property
    def _lead(self) -> list[int]:
        """Positions of the terms that are searched first: the rate."""
        return [k for k, term in enumerate(self.terms) if term.initial > 0] or [0]

    def _lowest(self, k: int) -> int:
        """Return the lower limit of a term's grid; below it, the term has hardly any effect."""
        return GRID[0] if self.whole and k not in self._lead else LIMITS[0]

    @property
    def best(self) -> Trial:
        """The trial with the highest quality; the first of equal ones.

        With `whole`, trials with all terms take precedence.
        """
        whole = [trial for trial in self.trials.values() if self.whole and all(trial.theta)]
        return max(whole or self.trials.values(), key=lambda trial: trial.quality)

    def run(self) -> Trial:
        """Search all coefficients and return the best trial.

        First try all coefficients at zero, as the no-learning baseline. Then search the rate (the
        terms whose initial coefficient is above zero) with all others at zero. Then search each
        other term, together with the rate and by itself, with either sign. Then repeat the search,
        because the best value of each coefficient depends on the others. Finally refine.
        """
        lead = self._lead
        others = [k for k in range(len(self.terms)) if k not in lead]
        self._tried(tuple(0.0 for _ in self.terms))
        self._search(lead, [1])
        for k in others:
            self._search_together(lead, k)
        for turn in range(ROUNDS if others else 0):
            for k in others:
                self._search([k], self._signs(k))
            if turn + 1 < ROUNDS:
                self._search(lead, [1])
        for group in (lead, *([k] for k in others)):
            self._refine(group)
        return self.best

    def _signs(self, k: int) -> list[int]:
        return [1] if self.terms[k].nonnegative else [1, -1]

    def _search_together(self, lead: Sequence[int], k: int) -> None:
        """Try coarse grids of the rate and of another term, in all combinations."""
        centre = self.best.theta
        for rate in COARSE:
            placed = _placed(centre, lead, 1, rate)
            for sign in self._signs(k):
                for quarter in COARSE:
                    self._score(placed, [k], sign, quarter)

    def _search(self, group: Sequence[int], signs: Iterable[int]) -> None:
        """Try a grid of values for all of `group`; extend it while the best is at its edge."""
        centre, lowest = self.best.theta, self._lowest(group[0])
        for sign in signs:
            low, high = GRID[0], GRID[-1]
            scores = {q: self._score(centre, group, sign, q) for q in GRID}
            while (best := max(scores, key=lambda q: scores[q])) in (low, high):
                grown = best - 2 if best == low else best + 2
                # If the best value is no better than zero, the coefficient has no effect.
                if not lowest <= grown <= LIMITS[1] or scores[best] <= self._without(centre, group):
                    break
                low, high = min(low, grown), max(high, grown)
                scores[grown] = self._score(centre, group, sign, grown)

    def _refine(self, group: Sequence[int]) -> None:
        """Try the two neighbours of the best value, half a grid step away."""
        centre = self.best.theta
        value = centre[group[0]]
        if value == 0:
            return
        quarter = _quarter(value)
        for q in (quarter - 1, quarter + 1):
            self._score(centre, group, 1 if value > 0 else -1, q)

    def _score(
        self, centre: tuple[float, ...], group: Sequence[int], sign: int, quarter: int
    ) -> Quality:
        return self._tried(_placed(centre, group, sign, quarter))

    def _without(self, centre: tuple[float, ...], group: Sequence[int]) -> Quality:
        """Return the quality of the rule without the terms in `group`."""
        return self._tried(tuple(0.0 if k in group else old for k, old in enumerate(centre)))

    def _tried(self, theta: tuple[float, ...]) -> Quality:
        if theta not in self.trials:
            self.trials[theta] = self.attempt(theta)
        return self.trials[theta].quality


def _quarter(value: float) -> int:
    """Return the grid point nearest to a coefficient, in quarters of a decade."""
    return round(4 * math.log10(abs(value)))


def _placed(
    centre: tuple[float, ...], group: Sequence[int], sign: int, quarter: int
) -> tuple[float, ...]:
    """Return the coefficients with all of `group` set to a grid point."""
    value = sign * float(f"{10 ** (quarter / 4):.3g}")
    return tuple(value if k in group else old for k, old in enumerate(centre))
