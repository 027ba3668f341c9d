"""Time constants while an outer loop learns them together with θ.

The loop learns log τ, so that one step size suits short and long memories. log τ stays between 0
(τ = 1) and the logarithm of the longest τ. The optimizer, its schedule and the trust region are
those of θ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metaplast.engines import Outcome
from metaplast.meta.adam import make_optimizer
from metaplast.meta.backtracking import Backtracking
from metaplast.meta.gradient import mean_clipped
from metaplast.meta.loop_state import require_taus
from metaplast.meta.settings import OuterSettings
from metaplast.systems.timed import Timed
from metaplast.terms.clocks import Taus
from metaplast.terms.time_constants import MOST_TAU


class LearnedTaus:
    """The time constants of a learner's terms; all sites share them.

    Args:
        timed: the traces and eligibilities with learned time constants, and their initial values.
        settings: how θ is learned.
        window: how many of the latest values `fitted` averages; 0 for the current ones.
        like: θ, for its type and device.

    Attributes:
        clocks: the names of the time constants.
        log_tau: log τ, [clock]; the parameter that the optimizer moves.
    """

    def __init__(self, timed: Timed, settings: OuterSettings, window: int, like: Tensor) -> None:
        self.clocks = timed.clocks
        self._settings, self._window = settings, window
        start = like.new_tensor([math.log(tau) for _, tau in timed.taus])
        self.log_tau = torch.nn.Parameter(start)
        self._optimizer = make_optimizer(settings.optimizer, self.log_tau, settings.tau_lr)
        self._trust = Backtracking()
        self._latest: tuple[Tensor, ...] = ()
        self._settled = start.clone()

    @property
    def values(self) -> Tensor:
        """log τ now, [clock]."""
        return self.log_tau.detach().clone()

    @property
    def named(self) -> dict[str, float]:
        """τ now, by name."""
        names = (clock.name for clock in self.clocks)
        return dict(zip(names, self.values.exp().tolist(), strict=True))

    @property
    def fitted(self) -> Taus:
        """The final τ of the loop: the last τ, or exp of the mean of the latest log τ, as for θ."""
        found = torch.stack(self._latest).mean(0) if self._latest else self.values
        return dict(zip(self.clocks, found.double().exp().tolist(), strict=True))

    def logs(self, taus: Taus) -> Tensor:
        """Return log τ of the given time constants, [clock]; others keep their current values."""
        now = zip(self.clocks, self.values.tolist(), strict=True)
        found = [math.log(taus[clock]) if clock in taus else log for clock, log in now]
        return self.log_tau.new_tensor(found)

    @torch.no_grad()
    def update(self, outcome: Outcome, finite: Tensor, rate: float) -> None:
        """Take a step against the mean gradient.

        Args:
            outcome: the outcome of the step's episodes.
            finite: which of the episodes take part, [episode].
            rate: step size.
        """
        assert outcome.tau_gradient is not None
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self.log_tau.grad = mean_clipped(outcome.tau_gradient[finite], self._settings.clip)
        self._optimizer.step()
        self.log_tau.clamp_(0.0, math.log(MOST_TAU))

    def passed(self) -> None:
        """Remember the values with which a step was computed, for `fitted`."""
        if self._window:
            self._latest = (*self._latest, self.values)[-self._window :]

    def stayed_finite(self) -> None:
        """Remember values with which all tasks of a step stayed finite."""
        self._trust.passed(self.values)

    def go_back(self) -> None:
        """Return to earlier values after tasks diverged, as θ does."""
        back = self._trust.failed(self.values)
        if back is not None:
            self._put_values(back)

    def end_trial(self, *, entered: bool) -> None:
        """Keep the values if a candidate entered; otherwise restore those from before its trial."""
        if not entered:
            self._put_values(self._settled)
        self._settled = self.values
        self._trust = Backtracking(home=self.values, safe=self.values)
        self._optimizer.state.clear()

    def _put_values(self, values: Tensor) -> None:
        with torch.no_grad():
            self.log_tau.copy_(values)
        # Reset the optimizer state; otherwise its momentum would repeat the step.
        self._optimizer.state.clear()

    def state(self) -> dict[str, Any]:
        """Return everything a checkpoint needs."""
        return {
            "log_tau": self.values,
            "settled": self._settled,
            "latest": torch.stack(self._latest) if self._latest else self.values[None][:0],
            "trust": self._trust.state(),
            "optimizer": self._optimizer.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` returned.

        Raises:
            DataError: if the state does not fit the time constants.
        """
        require_taus(state, self.values, self._window, self._optimizer)
        with torch.no_grad():
            self.log_tau.copy_(state["log_tau"])
        self._settled, self._latest = state["settled"], tuple(state["latest"])
        self._trust = Backtracking(**state["trust"])
        self._optimizer.load_state_dict(state["optimizer"])
