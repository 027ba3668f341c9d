"""How long a task of each kind of work takes on this machine, measured during a run.

Tasks of the search, of the baselines and of refits differ in batch size and in the number of terms,
and a task without gradient takes about a third of the time. So each kind of work has its own price,
in seconds per task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

Kind = Literal["search", "baseline", "refit", "evaluation"]

# Prices relative to each other, for kinds of work that have not been measured yet.
USUAL: Mapping[Kind, float] = {"search": 1.0, "baseline": 1.0, "refit": 1.0, "evaluation": 1 / 3}
# Each measurement multiplies the weight of the earlier ones of its kind by this.
_MEMORY = 0.98


class Prices:
    """Seconds per task of each kind of work, as measured."""

    def __init__(self) -> None:
        self._seen: Counter[Kind] = Counter()
        self._tasks: dict[Kind, float] = {}
        self._seconds: dict[Kind, float] = {}

    def observe(self, kind: Kind, tasks: int, seconds: float) -> None:
        """Add a measurement. Later ones count more, and the second replaces the first.

        The first of a kind is often slow, because it compiles kernels and measures scales.
        """
        kept = _MEMORY if self._seen[kind] > 1 else 0.0
        self._seen[kind] += 1
        self._tasks[kind] = kept * self._tasks.get(kind, 0.0) + tasks
        self._seconds[kind] = kept * self._seconds.get(kind, 0.0) + seconds

    def of(self, work: Mapping[Kind, int]) -> float | None:
        """Return the seconds that some tasks will take; None until a kind was measured twice."""
        known = {kind: self._seconds[kind] / tasks for kind, tasks in self._tasks.items()}
        # A single measurement may include the time to compile a kernel.
        if not any(count > 1 for count in self._seen.values()):
            return None
        # Estimate the price of the other kinds from those that were measured. Baselines are learned
        # with the settings of the search, so their price is that of the search.
        unit = sum(price / USUAL[kind] for kind, price in known.items()) / len(known)
        guessed = {kind: unit * usual for kind, usual in USUAL.items()}
        if "search" in known:
            guessed["baseline"] = known["search"]
        return sum(tasks * known.get(kind, guessed[kind]) for kind, tasks in work.items())
