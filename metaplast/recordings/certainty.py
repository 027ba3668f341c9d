"""What the data cannot tell: which other terms could replace a selected term.

Absent terms are the candidates that were not selected. A term is certain if its |t| stays above the
threshold whichever one or two absent terms are added to the fit. If |t| falls below the threshold
when some of them are added, those could replace the term: within the noise, the rule with them
instead explains the data equally well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.seeds import numpy_generator
from metaplast.recordings.moments import Moments
from metaplast.recordings.quadratic import Quadratic

RESAMPLES = 200


@dataclass(frozen=True)
class Certainty:
    """How certain it is that a selected term belongs to the rule.

    Attributes:
        alone: indices of absent terms, each of which could replace it.
        together: pairs of indices of absent terms that could replace it together, the most similar
            first.
        least: the smallest |t| of the term when one absent term is added, or two that are not in
            `alone`.
    """

    alone: tuple[int, ...]
    together: tuple[tuple[int, int], ...]
    least: float

    @property
    def is_certain(self) -> bool:
        """Whether neither one nor two absent terms could replace the term."""
        return not self.alone and not self.together


def certainties(
    quadratic: Quadratic, kept: Sequence[int], candidates: int, limit: float,
    widening: Sequence[float],
) -> tuple[Certainty, ...]:  # fmt: skip
    """Return the certainty of each selected term.

    Args:
        quadratic: the deviance near the fit, over the whole pool.
        kept: indices of the selected terms.
        candidates: number of terms in the pool.
        limit: the threshold of |t|.
        widening: for each selected term, its standard error from the clusters divided by that
            from the model; at least 1.
    """
    absent = [k for k in range(candidates) if k not in set(kept)]
    return tuple(
        _certainty(quadratic, [j for j in kept if j != k], k, absent, limit * wide)
        for k, wide in zip(kept, widening, strict=True)
    )


def _certainty(
    quadratic: Quadratic, others: list[int], term: int, absent: list[int], limit: float
) -> Certainty:
    information, gradient = quadratic.eliminated(others, [term, *absent])
    size = np.sqrt(np.maximum(np.diag(information), 1e-300))
    information = information / np.outer(size, size)
    gradient = gradient / size / np.sqrt(quadratic.dispersion)
    one = _beside(information, gradient, [(i,) for i in range(1, len(absent) + 1)])
    alone = [i for i in range(1, len(absent) + 1) if one[i - 1] < limit]
    free = [i for i in range(1, len(absent) + 1) if i not in alone]
    pairs = list(combinations(free, 2))
    two = _beside(information, gradient, pairs)
    together = [pairs[i] for i in np.argsort(two) if two[i] < limit]
    least = float(min([abs(gradient[0]), *one, *two]))
    alone.sort(key=lambda i: one[i - 1])
    return Certainty(
        tuple(absent[i - 1] for i in alone),
        tuple((absent[i - 1], absent[j - 1]) for i, j in together),
        least,
    )


def _beside(information: Numbers, gradient: Numbers, sets: Sequence[tuple[int, ...]]) -> Numbers:
    """Return |t| of parameter 0 with each set added to the fit; H has a unit diagonal."""
    if not sets:
        return np.zeros(0)
    index = np.array(sets)
    own = information[index[:, :, None], index[:, None, :]]
    own = own + 1e-10 * np.eye(index.shape[1])
    cross = information[0][index]
    right = np.stack([cross, gradient[index]], 2)
    found = np.linalg.solve(own, right)
    left = 1.0 - np.einsum("si,si->s", cross, found[:, :, 0])
    score = gradient[0] - np.einsum("si,si->s", cross, found[:, :, 1])
    # A term that is a combination of the others cannot be distinguished from them.
    return np.where(left > 1e-9, np.abs(score) / np.sqrt(np.maximum(left, 1e-9)), 0.0)


def kept_shares(
    moments: Moments, quadratic: Quadratic, point: Numbers, candidates: int, limit: float, *,
    seed: int = 0,
) -> Numbers:  # fmt: skip
    """Return how often each candidate is selected when the clusters are resampled, [candidate].

    Each selection (forward, backward) uses the quadratic deviance near the fit, so it needs no
    further pass through the data.

    Args:
        moments: sums over the whole pool at the fit.
        quadratic: the quadratic deviance of the same moments.
        point: values of all parameters at the fit.
        candidates: number of terms in the pool.
        limit: the threshold of |t|.
        seed: seed of the resampling.
    """
    draw = numpy_generator(seed, "infer", "bootstrap")
    clusters = len(moments.score)
    gradient = moments.information @ point + moments.score
    counts = np.zeros(candidates)
    for _ in range(RESAMPLES):
        times = np.bincount(draw.integers(clusters, size=clusters), minlength=clusters)
        again = Quadratic(
            np.tensordot(times, moments.information, 1), times @ gradient,
            quadratic.dispersion, quadratic.always,
        )  # fmt: skip
        counts[_selected(again, candidates, limit)] += 1
    return counts / RESAMPLES


def _selected(quadratic: Quadratic, candidates: int, limit: float) -> list[int]:
    kept: list[int] = []
    for _ in range(2 * candidates):
        absent = [k for k in range(candidates) if k not in kept]
        gains = quadratic.gains(kept, absent) if absent else np.zeros(1)
        if gains.max() < limit**2 or len(kept) >= 20:
            break
        entered = absent[int(np.argmax(gains))]
        kept.append(entered)
        t = quadratic.squared_t(kept)
        while len(kept) > 1 and t.min() < limit**2:
            del kept[int(np.argmin(t))]
            t = quadratic.squared_t(kept)
        if entered not in kept:
            break
    return kept
