"""Fitted rules, compared on the same validation tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from metaplast.base.bands import Band, mean_band
from metaplast.terms.clocks import Taus
from metaplast.terms.coefficients import Coefficients

# A rule is hopeless if, on the first tasks, it is worse by this many standard errors
CERTAIN = 5.0
# and by this many times the least effect.
CLEAR = 10.0


@dataclass(frozen=True)
class Fit:
    """A fitted rule of some of the terms, with its score on the validation tasks.

    Attributes:
        kept: positions of its terms in the pool.
        theta: their coefficients, in the same order.
        score: score on each validation task, [episode]. The tasks are the same for every fit, but a
            fit that is hopeless on the first tasks is measured only on those.
        taus: the learned value of each time constant of the pool.
        tasks: name of the tasks on which refits of this fit are trained. A subset of its terms has
            the same name, so that a refit of the subset can be compared with a refit of all terms.
    """

    kept: tuple[int, ...]
    theta: Coefficients
    score: Tensor
    taus: Taus = field(default_factory=dict)
    tasks: str = ""

    def trimmed(self) -> Fit:
        """Return the rule without terms whose coefficients are zero; the whole rule if all are."""
        used = self.theta.used
        places = [k for k, name in zip(self.kept, self.theta.names, strict=True) if name in used]
        return self.only(places) if places else self

    def only(self, kept: Sequence[int]) -> Fit:
        """Return a subset of its terms with their coefficients."""
        names = [self.theta.names[self.kept.index(k)] for k in kept]
        return replace(self, kept=tuple(kept), theta=self.theta.select(names))

    def difference(self, other: Fit) -> Band:
        """Return the mean of this score minus the other's, task by task, with its band."""
        return mean_band(paired(self.score, other.score))

    def gain_over(self, other: Fit) -> float:
        """Return the mean of this score minus the other's, over the tasks measured for both."""
        return float(paired(self.score, other.score).double().mean())

    def is_worse_than(self, other: Fit, least: float) -> bool:
        """Return whether the score is lower by at least `least`, with the band below zero."""
        difference = self.difference(other)
        return difference.high < 0 and difference.mean <= -least


def paired(score: Tensor, other: Tensor) -> Tensor:
    """Return score − other on each task on which both rules were measured, [episode]."""
    shared = min(len(score), len(other))
    return score[:shared] - other[:shared]


def is_hopeless(score: Tensor, best: Tensor, least: float) -> bool:
    """Return whether the first tasks already show that a rule is much worse than the best one.

    This is so if the mean difference is below zero by more than `CERTAIN` standard errors and by
    more than `CLEAR` times the least effect. The criterion is much stricter than the band on all
    tasks, because it is applied early, to few tasks.

    Args:
        score: the score of the rule on the first validation tasks, [episode].
        best: the score of the best rule, [episode].
        least: the least effect.
    """
    difference = paired(score, best)
    error = difference.std() / math.sqrt(len(difference))
    clear = torch.maximum(CERTAIN * error, error.new_tensor(CLEAR * least))
    return bool(difference.mean() < -clear)


def best_of(fits: Sequence[Fit]) -> Fit:
    """Return the fit with the best mean score on the tasks that the compared fits share."""
    best = fits[0]
    for fit in fits[1:]:
        if fit.gain_over(best) > 0:
            best = fit
    return best
