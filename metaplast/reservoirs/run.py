"""The results of one run."""

from __future__ import annotations

from dataclasses import dataclass

from metaplast.base.bands import Numbers
from metaplast.reservoirs.lanes import Lane


@dataclass(frozen=True, eq=False)
class Run:
    """The results of one lane.

    Attributes:
        lane: its task and algorithm.
        deviation: mean of the distance D over the test; NaN if the run diverged.
        spread: standard deviation of D over the test.
        diverged_at: step of the first record with a number that is not finite; None if all are
            finite.
        open_share: share of the mastery updates at which the gate was not closed.
        at: steps of the records, [record].
        distance: D, [record].
        exploration_norm, mastery_norm: spectral norms of W_2 and W_1, [record].
        drawn_at: steps of the positions, [place].
        position: h(z), [place, 2].
        exploration, mastery: W_2 and W_1 at the end, [output, neuron].
    """

    lane: Lane
    deviation: float
    spread: float
    diverged_at: int | None
    open_share: float
    at: Numbers
    distance: Numbers
    exploration_norm: Numbers
    mastery_norm: Numbers
    drawn_at: Numbers
    position: Numbers
    exploration: Numbers
    mastery: Numbers
