"""The state that an outer loop saves in a checkpoint, and how it continues from one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from metaplast.base.plain_data import check
from metaplast.base.tensors import copied
from metaplast.base.torch_settings import own_settings
from metaplast.engines import Outcome, Problem
from metaplast.meta.adam import Adam
from metaplast.meta.backtracking import Backtracking
from metaplast.meta.growth import Growth
from metaplast.meta.learned_taus import LearnedTaus
from metaplast.meta.learned_theta import LearnedTheta
from metaplast.meta.loop_state import require_state
from metaplast.meta.record import Record, with_angles
from metaplast.meta.settings import OuterSettings
from metaplast.terms.clocks import Taus
from metaplast.terms.coefficients import Coefficients


@dataclass
class Progress:
    """The progress of an outer loop: what a checkpoint needs besides θ and the optimizer."""

    step: int = 0
    history: list[Record] = field(default_factory=list)
    divergences: list[str] = field(default_factory=list)
    trust: Backtracking = field(default_factory=Backtracking)


class SavedLoop(ABC):
    """The part of an outer loop that checkpoints save and restore.

    Attributes:
        settings: how θ is learned.
        progress: steps so far.
        growth: the candidates of a rule that grows, see `GrowingLoop`; None for other loops.
        taus: the time constants that are learned; None if there are none.
    """

    settings: OuterSettings
    progress: Progress
    growth: Growth | None = None
    taus: LearnedTaus | None = None
    _theta: LearnedTheta
    _optimizer: Adam | torch.optim.Optimizer
    # The largest number of rounds, see `metaplast.meta.rounds`.
    _rounds: int = 1
    # The last step, until its record has the angles.
    _unfinished: tuple[Problem, Outcome] | None = None

    @property
    @abstractmethod
    def _most_steps(self) -> int:
        """The largest possible number of outer steps."""

    @property
    def theta(self) -> Tensor:
        """The coefficients now, [term] or [layer, term]."""
        return self._theta.tensor

    @property
    def scale(self) -> Coefficients:
        """The units of θ."""
        return self._theta.named(self._theta.scale)

    @property
    def fitted(self) -> Coefficients:
        """The final coefficients of the loop.

        With a cosine schedule θ settles, so these are the last ones. With a constant step size θ
        keeps jittering, so these are the mean over the last fifth of the steps (Polyak averaging).
        """
        return self._theta.fitted

    @property
    def fitted_taus(self) -> Taus:
        """The final τ of each time constant that the loop learns."""
        return {} if self.taus is None else self.taus.fitted

    def state(self) -> dict[str, Any]:
        """Return everything a checkpoint needs: plain containers, numbers and tensors."""
        self._complete()
        progress, latest = self.progress, self._theta.latest
        return {
            **self._step_state(),
            "scale": self._theta.scale,
            "history": [vars(record) for record in progress.history],
            "divergences": progress.divergences,
            **({"latest": torch.stack(latest)} if latest else {}),
            **({"rounds": self._rounds} if self._rounds > 1 else {}),
        }

    def _complete(self) -> None:
        """Complete the record of the last step."""
        if self._unfinished is not None:
            history = self.progress.history
            history[-1] = with_angles(history[-1], *self._unfinished)
            self._unfinished = None

    def _step_state(self) -> dict[str, Any]:
        """Return what a step changes, except for the lists that it appends to."""
        progress = self.progress
        return {
            "u": self._theta.u.detach().clone(),
            "step": progress.step,
            "trust": progress.trust.state(),
            "optimizer": self._optimizer.state_dict(),
        } | ({} if self.taus is None else {"taus": self.taus.state()})

    def _put(self, state: dict[str, Any]) -> None:
        self.progress.step = state["step"]
        self.progress.trust = Backtracking(**state["trust"])
        with torch.no_grad():
            self._theta.u.copy_(state["u"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self.taus is not None:
            self.taus.restore(state["taus"])

    @own_settings(grad=True)
    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned and `loop_state.read_stages` accepted.

        Raises:
            DataError: if the state does not fit this loop.
        """
        progress, settings, theta = self.progress, self.settings, self._theta
        # A loop of an earlier version has one round: what came after it began where it ended.
        self._rounds = state.get("rounds", 1)
        require_state(
            state, theta.named(theta.u.detach()), self._most_steps, settings.meta_batch,
            theta.window, self._optimizer,
        )  # fmt: skip
        check(
            ("growth" in state) == (self.growth is not None),
            "the rule grows in only one of the two",
        )
        check(
            ("taus" in state) == (self.taus is not None),
            "time constants are learned in only one of the two",
        )
        theta.scale = state["scale"]
        if "latest" in state:
            theta.latest = tuple(state["latest"])
        else:
            theta.recall([record["theta"] for record in state["history"]])
        self._unfinished = None
        progress.history = [Record(**record) for record in state["history"]]
        progress.divergences = list(state["divergences"])
        self._put(state)

    @contextmanager
    def _whole_or_not_at_all(self) -> Iterator[None]:
        """Undo a step that is interrupted halfway through its changes: a checkpoint may follow."""
        progress = self.progress
        before, latest = copied(self._step_state()), self._theta.latest
        lengths = len(progress.history), len(progress.divergences)
        try:
            yield
        except BaseException:
            del progress.history[lengths[0] :], progress.divergences[lengths[1] :]
            self._unfinished = None
            self._theta.latest = latest
            self._put(before)
            raise
