"""The evidence in the gradient for candidates that are not in the rule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metaplast.base.plain_data import check, entry

# Gradients are clipped at this many times the median size.
OUTLIER = 3.0


@dataclass(frozen=True)
class Candidate:
    """A candidate that the gradient supports, or that helps at some value of its coefficient.

    For such values, see `metaplast.meta.probe`.

    Attributes:
        position: the position of the term.
        gradient: mean gradient with respect to its scaled coefficient.
        errors: the mean gradient in standard errors.
        start: the scaled coefficient with which it enters.
    """

    position: int
    gradient: float
    errors: float
    start: float = 0.0

    @classmethod
    def read(cls, data: Any, terms: int) -> Candidate:
        """Return the candidate of a checkpoint.

        Args:
            data: its attributes as plain data.
            terms: the number of terms in the pool.

        Raises:
            DataError: if it is not a candidate of the pool.
        """
        where = "a candidate"
        check(isinstance(data, dict), f"{where} is not a record")
        data = {"start": 0.0, **data}
        check(len(data) == 4, f"{where} has missing or unknown parts")
        position = entry(data, "position", int, where)
        check(0 <= position < terms, f"{where} is not a term of the pool")
        numbers = (entry(data, key, float, where) for key in ("gradient", "errors", "start"))
        return cls(position, *numbers)


@dataclass(frozen=True)
class Evidence:
    """What the gradient with respect to each scaled coefficient shows, once the rule is fitted.

    Attributes:
        mean: over tasks, [term].
        errors: the mean in standard errors, [term].
        steady: mean after clipping, as an outer step with the term would use it, [term].
    """

    mean: Tensor
    errors: Tensor
    steady: Tensor

    @classmethod
    def of(cls, gradients: Tensor, active: Tensor, clip: float) -> Evidence:
        """Return the evidence in the gradients of some tasks.

        Single tasks may have gradients that are larger by orders of magnitude, so each term's
        gradients are clipped at `OUTLIER` times their median size.

        With coefficients for each site, the evidence for a term is taken from the site where it is
        strongest.

        Args:
            gradients: with respect to the scaled coefficients, [task, term] or [task, site, term];
                fewer than two tasks give no evidence.
            active: which terms the rule has, [term].
            clip: largest norm of a task's gradient in an outer step; 0 for no limit.
        """
        if len(gradients) < 2:
            nothing = torch.zeros_like(active, dtype=gradients.dtype)
            return cls(nothing, nothing, nothing)
        sites = gradients.shape[1] if gradients.dim() == 3 else 1
        every = gradients.flatten(1)
        tiny, huge = torch.finfo(every.dtype).tiny, torch.finfo(every.dtype).max
        limit = OUTLIER * every.abs().median(0).values
        bounded = every.clamp(-limit, limit)
        mean, spread = bounded.mean(0), bounded.std(0) / math.sqrt(len(bounded))
        # If all tasks have the same gradient, the quotient may overflow.
        errors = (mean / spread.clamp_min(tiny)).clamp(-huge, huge)
        norms = (every * active.repeat(sites)).square().sum(1, keepdim=True) + every.square()
        factors = (clip / norms.sqrt().clamp_min(tiny)).clamp(max=1.0) if clip else 1.0
        found = [each.reshape(sites, -1) for each in (mean, errors, (every * factors).mean(0))]
        strongest = found[1].abs().argmax(0, keepdim=True)
        return cls(*(each.gather(0, strongest)[0] for each in found))

    def candidates(
        self, active: Tensor, signs: Tensor, bar: float, errors: float
    ) -> list[Candidate]:
        """Return the inactive terms that the gradient supports, the largest mean first.

        Args:
            active: which terms the rule has, [term].
            signs: the sign of each coefficient, as for `OuterLoop`, [term].
            bar: the L1 penalty λ, which the clipped mean must exceed to move a coefficient off
                zero.
            errors: least size of the mean in standard errors.
        """
        supported = (self.steady.abs() > bar) & (self.errors.abs() > errors)
        # A coefficient moves against the gradient.
        fit = supported & ~active & (signs * self.mean <= 0)
        order = torch.argsort(-self.mean.abs(), stable=True)
        return [
            Candidate(k, float(self.mean[k]), float(self.errors[k]))
            for k in order[fit[order]].tolist()
        ]
