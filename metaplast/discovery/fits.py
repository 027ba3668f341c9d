"""Fitted rules that are compared on the same validation tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from metaplast.base.bands import Band, mean_band
from metaplast.terms.clocks import Taus
from metaplast.terms.coefficients import Coefficients

# A rule is hopeless if the first tasks show that it is worse by this many standard errors …
CERTAIN = 5.0
# … and by this many times the least effect.
CLEAR = 10.0


@dataclass(frozen=True)
class Fit:
    """A fitted rule of some of the terms, with its score on the validation tasks.

    Attributes:
        kept: positions of its terms in the pool.
        theta: their coefficients, in the same order.
        score: score on each validation task, [episode]; the tasks are the same for every fit, but
            only the first ones are used if they show that the fit is hopeless.
        taus: the learned value of each time constant of the pool.
        tasks: names the tasks of the refits that start from it. A subset of its terms keeps them,
            so that a refit of the subset can be compared with a refit of all terms.
    """

    kept: tuple[int, ...]
    theta: Coefficients
    score: Tensor
    taus: Taus = field(default_factory=dict)
    tasks: str = ""

    def trimmed(self) -> Fit:
        """Return the rule without the terms whose coefficients are all zero, unless all are."""
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
        """Return whether the difference is at least `least`, and its band below zero."""
        difference = self.difference(other)
        return difference.high < 0 and difference.mean <= -least


def paired(score: Tensor, other: Tensor) -> Tensor:
    """Return the difference on each task on which both rules were measured, [episode]."""
    shared = min(len(score), len(other))
    return score[:shared] - other[:shared]


def is_hopeless(score: Tensor, best: Tensor, least: float) -> bool:
    """Return whether the first tasks already show that a rule is worse than the best one.

    Its mean difference is below zero by at least `CERTAIN` standard errors and by `CLEAR` times the
    least effect. This is much stricter than the band on all tasks, because it is an early look.

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
    """Return the best fit; two are compared on the tasks that both were measured on."""
    best = fits[0]
    for fit in fits[1:]:
        if fit.gain_over(best) > 0:
            best = fit
    return best
