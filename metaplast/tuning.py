"""Find a rule's coefficients by trying: log grids, first coarse in pairs, then one by one.

For rules whose coefficients nobody has learned, such as backprop's rate. Each other term is first
tried together with the rate, one point in a decade: a term may be what makes a rate work at all.
Then one coefficient at a time; the grid has two points in a decade, grows where the best lies at
its edge, and is refined to four about the best.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

# In quarters of a decade: 1e-4 … 1, and how far the grid may grow: 1e-7 … 1e3.
GRID = range(-16, 1, 2)
COARSE = GRID[::2]
LIMITS = (-28, 12)
ROUNDS = 2


class Coefficient(Protocol):
    """What can be searched: a term, or anything else with a sign and a place to begin."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def initial(self) -> float:
        """Above zero for those that are searched first."""

    @property
    def nonnegative(self) -> bool:
        """Whether negative values make no sense."""


@dataclass(frozen=True)
class Scale:
    """One factor for all the coefficients of a rule."""

    name: str = "scale"
    initial: float = 1.0
    nonnegative: bool = True


@dataclass(frozen=True, order=True)
class Score:
    """How well coefficients do; the larger the better.

    Attributes:
        accuracy: mean over networks, diverged ones counted as 0.
        advantage: minus the mean loss in nats, which decides between equal accuracies.
    """

    accuracy: float
    advantage: float


@dataclass(frozen=True)
class Trial:
    """Coefficients that were tried.

    Attributes:
        theta: one for each term.
        score: what they reached.
        diverged: networks that left the finite numbers.
    """

    theta: tuple[float, ...]
    score: Score
    diverged: int = 0


@dataclass
class Search:
    """The trials of one rule's search, and what it came to.

    Attributes:
        terms: of the rule, or other things with a coefficient.
        attempt: trains networks with given coefficients.
        whole: whether every term must take part: without one, or with one so small that it hardly
            acts, it would be another rule. The grids of all but the rate then do not grow down.
        trials: all of them, in order.
    """

    terms: Sequence[Coefficient]
    attempt: Callable[[tuple[float, ...]], Trial]
    whole: bool = False
    trials: dict[tuple[float, ...], Trial] = field(default_factory=dict)

    @property
    def at_edge(self) -> list[str]:
        """Names of the terms whose best coefficient is the outermost one allowed, or beyond it."""
        return [
            term.name
            for k, (term, value) in enumerate(zip(self.terms, self.best.theta, strict=True))
            if value and not self._lowest(k) < _quarter(value) < LIMITS[1]
        ]

    @property
    def _lead(self) -> list[int]:
        """Positions of the terms that are searched first, the rate."""
        return [k for k, term in enumerate(self.terms) if term.initial > 0] or [0]

    def _lowest(self, k: int) -> int:
        """Return the end of the grid of a term, below which it hardly acts."""
        return GRID[0] if self.whole and k not in self._lead else LIMITS[0]

    @property
    def best(self) -> Trial:
        """The trial with the highest score; of equal ones the first."""
        whole = [trial for trial in self.trials.values() if self.whole and all(trial.theta)]
        return max(whole or self.trials.values(), key=lambda trial: trial.score)

    def run(self) -> Trial:
        """Search all coefficients and return the best trial.

        First nothing at all, which is what a network reaches that does not learn. Then the rate:
        the terms that meta-learning starts above zero, all others at zero. Then each other term
        together with the rate, and alone, of either sign; then all once more, as they depend on
        each other.
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
        """Try coarse grids of the rate and of another term, each with each."""
        centre = self.best.theta
        for rate in COARSE:
            placed = _placed(centre, lead, 1, rate)
            for sign in self._signs(k):
                for quarter in COARSE:
                    self._score(placed, [k], sign, quarter)

    def _search(self, group: Sequence[int], signs: Iterable[int]) -> None:
        """Try the grid for some coefficients at once, and beyond it while the best is its edge."""
        centre, lowest = self.best.theta, self._lowest(group[0])
        for sign in signs:
            low, high = GRID[0], GRID[-1]
            scores = {q: self._score(centre, group, sign, q) for q in GRID}
            while (best := max(scores, key=lambda q: scores[q])) in (low, high):
                grown = best - 2 if best == low else best + 2
                # A coefficient so small that it changes nothing is no better than none.
                if not lowest <= grown <= LIMITS[1] or scores[best] <= self._without(centre, group):
                    break
                low, high = min(low, grown), max(high, grown)
                scores[grown] = self._score(centre, group, sign, grown)

    def _refine(self, group: Sequence[int]) -> None:
        """Try the two neighbours of the best, half a grid step away."""
        centre = self.best.theta
        value = centre[group[0]]
        if value == 0:
            return
        quarter = _quarter(value)
        for q in (quarter - 1, quarter + 1):
            self._score(centre, group, 1 if value > 0 else -1, q)

    def _score(
        self, centre: tuple[float, ...], group: Sequence[int], sign: int, quarter: int
    ) -> Score:
        return self._tried(_placed(centre, group, sign, quarter))

    def _without(self, centre: tuple[float, ...], group: Sequence[int]) -> Score:
        """Return how well the rule does without some of its terms."""
        return self._tried(tuple(0.0 if k in group else old for k, old in enumerate(centre)))

    def _tried(self, theta: tuple[float, ...]) -> Score:
        if theta not in self.trials:
            self.trials[theta] = self.attempt(theta)
        return self.trials[theta].score


def _quarter(value: float) -> int:
    """Return the point of the grid that a coefficient lies at."""
    return round(4 * math.log10(abs(value)))


def _placed(
    centre: tuple[float, ...], group: Sequence[int], sign: int, quarter: int
) -> tuple[float, ...]:
    """Return the coefficients with those of a group at a point of the grid."""
    value = sign * float(f"{10 ** (quarter / 4):.3g}")
    return tuple(value if k in group else old for k, old in enumerate(centre))
