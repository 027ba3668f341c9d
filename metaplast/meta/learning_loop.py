"""How an outer loop changes θ after each step."""

from __future__ import annotations

import math

from torch import Tensor

from metaplast.engines import Outcome, Problem
from metaplast.meta.chaos import SHRINK, is_chaotic
from metaplast.meta.penalised_step import penalised_step
from metaplast.meta.rounds import FACTOR, Shortfall, scheduled, shortfall
from metaplast.meta.saved_loop import SavedLoop


class LearningLoop(SavedLoop):
    """The part of an outer loop that moves the coefficients: forward, back, or towards zero.

    Attributes:
        cold: whether θ is a guess at the start.
        shrinks: whether θ shrinks where learning is chaotic, see `metaplast.meta.chaos`.
        signs: the sign of each coefficient: 1 if it may not be negative, −1 if it may not be
            positive, else 0, [term].
    """

    cold: bool
    shrinks: bool
    signs: Tensor
    _began: float

    @property
    def steps(self) -> int:
        """Number of outer steps, in all rounds that have begun."""
        return self.settings.steps * (self.round + 1)

    @property
    def _most_steps(self) -> int:
        return self.settings.steps * self._rounds

    @property
    def round(self) -> int:
        """The number of the current round, counted from 0; at the end, of the last one."""
        done, steps = divmod(self.progress.step, self.settings.steps)
        if steps or not done:
            return done
        return done if done < self._rounds and self.shortfall is not None else done - 1

    @property
    def shortfall(self) -> Shortfall | None:
        """The coefficient that fell short in the round that has just ended; None in a round."""
        done, steps = divmod(self.progress.step, self.settings.steps)
        if steps or not done:
            return None
        records = self.progress.history[(done - 1) * self.settings.steps :]
        return shortfall(
            self.settings, done - 1, records[0].theta, self.fitted, self.scale, cold=self.cold,
            shrunk=any(record.shrunk for record in records),
        )  # fmt: skip

    @property
    def _fraction(self) -> float:
        """What fraction of the current round has passed, 0 … 1."""
        return self.progress.step / self.settings.steps - self.round

    def _learn(self, problem: Problem, outcome: Outcome, gradient: Tensor) -> None:
        """Change θ, and the time constants that are learned, after a step."""
        finite = outcome.finite
        if self._went_back(finite) or not finite.any():
            return
        settings = self.settings
        # Both are worked out before θ moves, because at the end of a round θ decides what follows.
        rate, tau_rate = self._rate(settings.meta_lr), self._rate(settings.tau_lr)
        penalised_step(self._theta.u, gradient, self._optimizer, rate, settings, self.signs)
        if self.taus is not None:
            self.taus.update(outcome, finite, tau_rate)

    def _is_chaotic(self, gradients: Tensor, finite: Tensor) -> bool:
        """Return whether the coefficients shrink in this step, because learning is chaotic."""
        if not self.shrinks or self._is_lost(finite):
            return False
        history, began = self.progress.history, self._began
        if math.isnan(began) and history:
            began = history[0].loss
        step = self.settings.meta_lr * FACTOR**self.round * self.progress.trust.radius
        return is_chaotic(gradients, int((~finite).sum()), step, began)

    def _shrink(self) -> None:
        """Make all coefficients smaller."""
        self._theta.u.detach().mul_(SHRINK)

    def _is_lost(self, finite: Tensor) -> bool:
        """Return whether the last step has to be undone, because tasks diverged after it.

        Usually one diverged task is enough. A search that began with a guess is more tolerant while
        its steps are short, that is, at its start and shortly after a step was undone: then the
        length of the step is not the cause, because some networks diverge on the way to a good
        rule. Such a step is undone only if more than half of the tasks diverged.
        """
        diverged = int((~finite).sum())
        if not self.shrinks or not self.cold or self.progress.trust.radius >= 1:
            return diverged > 0
        return diverged > len(finite) / 2

    def _went_back(self, finite: Tensor) -> bool:
        """Undo the last step if it led to divergence; return whether it was undone."""
        trust, u = self.progress.trust, self._theta.u.detach()
        if not self.settings.backtrack:
            return False
        if not self._is_lost(finite):
            trust.passed(u)
            if self.taus is not None:
                self.taus.stayed_finite()
            return False
        back = trust.failed(u)
        if back is None:
            return False
        u.copy_(back)
        if self.taus is not None:
            self.taus.go_back()
        # Reset the optimizer state; otherwise its momentum would repeat the step.
        self._optimizer.state.clear()
        return True

    def _rate(self, rate: float) -> float:
        """Return a step size on its schedule, in this round, shortened by the trust region."""
        rate *= FACTOR**self.round * self.progress.trust.radius
        return rate * scheduled(self.settings.schedule, self._fraction)
