"""Values of candidates: what the gradient at zero does not show.

The gradient at zero may show nothing although the candidate helps. Where an unroll is chaotic, as
in recurrent networks with exact errors, the gradients of single tasks are larger than the mean by
orders of magnitude. Then a term that would make learning stable has no significant gradient, but
with a large enough coefficient it clearly raises the score. So some values of each candidate's
coefficient are tried, without gradient, on the tasks of a look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from metaplast.meta.growth_settings import GrowthSettings

# A value is measured on this share of the tasks first, and on the others only if it looks better.
FIRST = 0.25
# The values of at most this many candidates are tried.
MOST = 64

# Takes the position of a term and its scaled coefficient. Returns the scores and negated losses of
# the rule with this term on some tasks, [task, 2].
Measure = Callable[[int, float], Tensor]


def probe(
    settings: GrowthSettings, fitted: Tensor, before: Tensor, candidates: Sequence[int],
    signs: Tensor, on: Callable[[range], Measure],
) -> list[tuple[int, float]]:  # fmt: skip
    """Return the candidates that help at some value, the best first, each with its best value.

    A value helps if the mean paired difference of the score is at least the least gain and more
    than `settings.errors` standard errors above zero. It also helps if the mean difference of the
    loss is below zero by more than the same number of standard errors, and the score is not lower.

    All values are measured on the same tasks before any is measured on the next ones, so that each
    task is drawn only once.

    Args:
        settings: contains the values to try, in multiples of the largest scaled coefficient.
        fitted: scaled coefficients of the rule, [term] or [site, term].
        before: scores and negated losses of the rule on the tasks of a look, [task, 2].
        candidates: positions of terms that the rule does not have.
        signs: the sign of each coefficient, as for `OuterLoop`, [term].
        on: returns what measures the rule with one more term on the tasks of some steps of a look.
    """
    largest = float(fitted.abs().max())
    rows: dict[tuple[int, float], list[Tensor]] = {
        (position, value): []
        for position in candidates
        for value in _values(settings.values, largest, int(signs[position]))
    }
    first = math.ceil(FIRST * settings.look)
    for start in range(0, settings.look, first):
        if start == first:
            rows = {tried: seen for tried, seen in rows.items() if _looks_better(seen, before)}
        measure = on(range(start, min(start + first, settings.look)))
        for tried, seen in rows.items():
            seen.append(measure(*tried))
    best: dict[int, tuple[bool, float, float]] = {}
    for (position, value), seen in rows.items():
        gain = _gain(torch.cat(seen) - before, settings)
        if gain is not None:
            best[position] = max(best.get(position, (*gain, value)), (*gain, value))
    found = sorted(best.items(), key=lambda each: each[1][:2], reverse=True)
    return [(position, value) for position, (*_, value) in found]


def _values(sizes: Sequence[float], largest: float, sign: int) -> Iterator[float]:
    """Yield the values to try: both signs, unless the coefficient must have one."""
    for size in sizes:
        yield from (way * size * largest for way in (1, -1) if way * sign >= 0)


def _looks_better(rows: list[Tensor], before: Tensor) -> bool:
    """Return whether the first tasks show an improvement of the mean score or loss."""
    begun = torch.cat(rows)
    return bool((begun - before[: len(begun)]).mean(0).gt(0).any())


def _gain(change: Tensor, settings: GrowthSettings) -> tuple[bool, float] | None:
    """Return (True, gain) if the score improves, (False, gain) if only the loss does, else None."""
    mean = change.mean(0)
    spread = change.std(0) / math.sqrt(len(change))
    score, loss = (mean > settings.errors * spread).tolist()
    if score and mean[0] >= settings.least:
        return True, float(mean[0])
    return (False, float(mean[1])) if loss and mean[0] >= 0 else None
