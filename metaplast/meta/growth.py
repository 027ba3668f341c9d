"""Growth of a rule: candidates enter a few at a time, those with the largest gradient first.

A large number of candidates cannot be trained all at once. Most of them harm the rule until other
terms balance them, so tasks diverge and steps are undone. But once the rule is fitted, the gradient
with respect to a candidate's coefficient, at zero, shows whether the candidate would help. One call
computes this gradient for all candidates. When it supports none of them, other values of the
coefficients are tried: see `metaplast.meta.probe`.

A pool may name candidates that wait, such as hundreds of gated forms of other terms. Until none of
the others helps, they are neither measured nor tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from metaplast.base.bands import mean_band
from metaplast.meta.evidence import Candidate
from metaplast.meta.growth_settings import GrowthSettings, Trial
from metaplast.meta.saved_growth import SavedGrowth

# The loss of a task that diverged.
DIVERGED = 1e30


class Growth(SavedGrowth):
    """The terms that a growing rule has, and the decisions about the others.

    The search alternates between training, in which only the active terms move, and looks, in which
    θ is held fixed. After a look, the candidates that the gradient supports best enter together, at
    most `tries`. They stay if the score on the tasks of the next look is higher than before they
    entered: the band of the paired difference lies above zero, and its mean is at least the least
    gain. They also stay if the loss is lower, with the band of that difference below zero, unless
    the score is lower too. Otherwise the rule goes back to its previous state, and each of them is
    tried alone, until one stays. If none does, or if the gradient supports no candidate, values of
    the candidates' coefficients are tried once. If no value helps, or if `tries` more candidates
    fail, the search ends, unless candidates wait. Then another look measures the rule with all
    candidates, and those that waited are tried like the others.

    Args:
        settings: when candidates enter.
        names: the names of the terms.
        start: which terms the rule begins with, [term].
        signs: the sign of each coefficient, as for `OuterLoop`, [term].

    Attributes:
        active: which terms the rule has, [term].
        done: whether the search has ended.
        trials: the candidates that were tried, in order.
        looked: the outer step that ended the last look; −1 before, and after a checkpoint.
        fitted: u of the rule before the current candidates entered; None before the first look.
        before: the scores and negated losses of that rule on the tasks of a look, [task, 2].
    """

    def __init__(
        self, settings: GrowthSettings, names: Sequence[str], start: Tensor, signs: Tensor
    ) -> None:
        self.settings = settings
        self.active = start.clone()
        self.done = False
        self.trials: list[Trial] = []
        self.looked = -1
        self._names, self._signs = tuple(names), signs
        waits = [name in settings.waiting for name in self._names]
        self._later = torch.tensor(waits, dtype=torch.bool, device=start.device) & ~start
        self._is_waiting = bool(self._later.any())
        self._trying, self._queue, self._joins = [], [], False
        self.fitted = self.before = self._evidence = None
        self._probed = False if settings.values else None
        self._scores, self._gradients = [], []

    @property
    def positions(self) -> list[int]:
        """Positions of the active terms."""
        return [int(k) for k in self.active.nonzero().flatten()]

    @property
    def joined(self) -> dict[int, int]:
        """The outer step at whose end each term was found to help, by position; see `select`.

        It is empty for a search that an earlier version began.
        """
        found = [] if self._joins is None else [trial for trial in self.trials if trial.entered]
        return {self._names.index(trial.term): trial.step for trial in found}

    @property
    def measured(self) -> list[int]:
        """Positions of the terms that a look measures: all but those that wait."""
        return [int(k) for k in (~self._waiting).nonzero().flatten()]

    @property
    def _waiting(self) -> Tensor:
        """Which candidates wait now, [term]."""
        return self._later if self._is_waiting else torch.zeros_like(self._later)

    @property
    def _skipped(self) -> int:
        """Number of training steps left out: one look follows another when the waiting ends."""
        has_ended = bool(self._later.any()) and self._is_waiting is False
        return self.settings.train if has_ended else 0

    @property
    def is_fitted(self) -> bool:
        """Whether there is a rule to go back to."""
        return self.fitted is not None

    def place(self, step: int) -> int | None:
        """Return the position of an outer step within its look; None in training."""
        place = (step + self._skipped) % self.settings.cycle - self.settings.train
        return place if place >= 0 else None

    def fraction(self, step: int) -> float:
        """Return what fraction of the current training has passed at an outer step, 0 … 1."""
        return min(1.0, (step + self._skipped) % self.settings.cycle / self.settings.train)

    def see(self, scores: Tensor, losses: Tensor, gradients: Tensor) -> None:
        """Record the tasks of one outer step of a look.

        Args:
            scores: the scores of the tasks; the worst score for a task that diverged, [task].
            losses: the losses of the tasks, [task].
            gradients: with respect to the scaled coefficients, for the finite tasks, [task, term];
                zero for terms that wait.
        """
        self._scores.append(torch.stack([scores, -bounded(losses)], dim=1))
        # A gradient that is not finite does not count as evidence.
        self._gradients.append(gradients.nan_to_num(0.0, 0.0, 0.0))

    def conclude(self, step: int, u: Tensor) -> bool:
        """End a look: decide whether the candidates stay, and which others the gradient supports.

        Returns whether the rule stays as it is now.

        Args:
            step: the outer step that ends the look.
            u: scaled coefficients now.
        """
        scores, gradients = torch.cat(self._scores), torch.cat(self._gradients)
        self._scores, self._gradients = [], []
        self.looked = step
        stays = self.before is None or self._entered(step, scores, used(u))
        if stays:
            self.active &= used(u)
            self.fitted, self.before = u.clone(), scores
            evidence, self._queue = self.settings.judged(gradients, self.active, self._signs)
            self._evidence = torch.stack([evidence.mean, evidence.errors])
            if self._probed is not None:
                self._probed = False
            if self._joins is not None:
                self._joins = len(self._queue) > 1
        return stays

    @property
    def wants_values(self) -> bool:
        """Whether to try values: no candidate is left, and no value was tried at this rule yet."""
        fresh = not self._queue and self._probed is False
        return fresh and len(self.trials) < self.settings.most

    def likeliest(self, most: int) -> list[int]:
        """Return the positions of the candidates that the gradient supports best, in order.

        They are those with the largest gradients in standard errors, at most `most` of them.
        """
        assert self._evidence is not None
        closed = self.active | self._waiting
        errors = self._evidence[1].abs().masked_fill(closed, -math.inf)
        rest = int((~closed).sum())
        return sorted(errors.topk(min(most, rest)).indices.tolist())

    def offer(self, starts: Sequence[tuple[int, float]]) -> None:
        """Receive the candidates that help at some value, the best first.

        Args:
            starts: position and scaled coefficient of each.
        """
        assert self._evidence is not None
        mean, errors = self._evidence.tolist()
        self._queue = [
            Candidate(k, mean[k], errors[k], start) for k, start in starts[: self.settings.tries]
        ]
        self._probed = True

    def advance(self) -> Tensor:
        """Admit the next candidates, or those that wait, or end; return the u to continue from."""
        assert self.fitted is not None
        u = self.fitted.clone()
        left = self.settings.most - len(self.trials)
        self.done = left <= 0
        if self._joins:
            # They stay in the queue: if all of them together do not help, each is tried alone.
            self._trying, self._joins = self._queue[: max(0, left)], False
        else:
            self._trying, self._queue = self._queue[:1], self._queue[1:]
        if not self._trying and not self.done:
            self._admit_waiting()
        elif not self.done:
            for candidate in self._trying:
                self.active[candidate.position] = True
                u[..., candidate.position] = candidate.start
        return u

    def _admit_waiting(self) -> None:
        """Let the candidates that wait be tried from now on; without any, end the search."""
        self.done = not self._is_waiting
        if self._is_waiting:
            self._is_waiting = False
            # The next look measures the same rule with all candidates; see `_skipped`.
            self.before = None

    def _entered(self, step: int, scores: Tensor, in_use: Tensor) -> bool:
        """Return whether the rule stays as it is with the candidates that were tried.

        Args:
            step: the outer step that ends the look.
            scores: scores and negated losses of the rule, [task, 2].
            in_use: which coefficients are not zero, [term]: training may leave a candidate out.
        """
        assert self._trying
        assert self.before is not None
        change, gain = map(mean_band, (scores - self.before).unbind(1))
        better = change.low > 0 and change.mean >= self.settings.least
        # If nearly all answers are right, or nearly none, the loss is more informative.
        stays = better or (gain.low > 0 and change.high >= 0)
        first = self._names[self._trying[0].position]
        for place, tried in enumerate(self._trying):
            entered = stays and bool(in_use[tried.position])
            self.trials.append(
                Trial(
                    step, self._names[tried.position], tried.gradient, tried.errors, change.mean,
                    change.low, change.high, entered, tried.start, first if place else "",
                )
            )  # fmt: skip
            if not entered:
                self.active[tried.position] = False
        return stays


def bounded(losses: Tensor) -> Tensor:
    """Return losses, replaced by one large number for tasks that diverged, [task]."""
    return losses.nan_to_num(DIVERGED, DIVERGED, DIVERGED).clamp(max=DIVERGED)


def used(u: Tensor) -> Tensor:
    """Return which terms have a coefficient that is not zero, [term]."""
    return u.reshape(-1, u.shape[-1]).ne(0).any(0)
