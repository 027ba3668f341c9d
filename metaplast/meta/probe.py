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
from functools import partial

import torch
from torch import Tensor

from metaplast.meta.growth_settings import GrowthSettings

# A value is measured on this share of the tasks first, and on the others only if it looks better.
FIRST = 0.25

# Takes the position of a term, its scaled coefficient, and a step of a look. Returns the scores and
# negated losses of the rule with this term on the tasks of the step, [task, 2].
Measure = Callable[[int, float, int], Tensor]


def probe(
    settings: GrowthSettings, fitted: Tensor, before: Tensor, active: Tensor, signs: Tensor,
    measure: Measure,
) -> list[tuple[int, float]]:  # fmt: skip
    """Return the candidates that help at some value, the best first, each with its best value.

    A value helps if the mean paired difference of the score is at least the least gain and more
    than `settings.errors` standard errors above zero. It also helps if the mean difference of the
    loss is below zero by more than the same number of standard errors, and the score is not lower.

    Args:
        settings: contains the values to try, in multiples of the largest scaled coefficient.
        fitted: scaled coefficients of the rule, [term] or [site, term].
        before: scores and negated losses of the rule on the tasks of a look, [task, 2].
        active: which terms the rule has, [term].
        signs: the sign of each coefficient, as for `OuterLoop`, [term].
        measure: measures the rule with one more term.
    """
    largest = float(fitted.abs().max())
    found: list[tuple[bool, float, int, float]] = []
    for position in (~active).nonzero().flatten().tolist():
        gains = []
        for value in _values(settings.values, largest, int(signs[position])):
            rows = _rows(settings.look, before, partial(measure, position, value))
            gain = None if rows is None else _gain(rows - before, settings)
            if gain is not None:
                gains.append((*gain, position, value))
        found += [max(gains)] if gains else []
    found.sort(key=lambda gain: gain[:2], reverse=True)
    return [(position, value) for *_, position, value in found]


def _values(sizes: Sequence[float], largest: float, sign: int) -> Iterator[float]:
    """Yield the values to try: both signs, unless the coefficient must have one."""
    for size in sizes:
        yield from (way * size * largest for way in (1, -1) if way * sign >= 0)


def _rows(look: int, before: Tensor, measure: Callable[[int], Tensor]) -> Tensor | None:
    """Return a value's scores and negated losses; None if the first tasks show no improvement."""
    first, rows = math.ceil(FIRST * look), list[Tensor]()
    for k in range(look):
        if k == first:
            begun = torch.cat(rows)
            if not (begun - before[: len(begun)]).mean(0).gt(0).any():
                return None
        rows.append(measure(k))
    return torch.cat(rows)


def _gain(change: Tensor, settings: GrowthSettings) -> tuple[bool, float] | None:
    """Return (True, gain) if the score improves, (False, gain) if only the loss does, else None."""
    mean = change.mean(0)
    spread = change.std(0) / math.sqrt(len(change))
    score, loss = (mean > settings.errors * spread).tolist()
    if score and mean[0] >= settings.least:
        return True, float(mean[0])
    return (False, float(mean[1])) if loss and mean[0] >= 0 else None
