"""Growth of a rule: candidates enter one at a time, those with the largest gradient first.

Many candidates cannot be trained all at once. Most of them harm the rule until other terms balance
them, so tasks diverge and steps are undone. But once the rule is fitted, the gradient to a
candidate whose coefficient is zero shows whether it would help. One call computes it for all
candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from metaplast.base.bands import mean_band
from metaplast.base.plain_data import check, entry
from metaplast.meta.evidence import Candidate, Evidence

# The loss of a task that diverged.
DIVERGED = 1e30
# The parts of a state in a checkpoint.
_PARTS = ("active", "trying", "queue", "done", "fitted", "scores", "gradients", "before", "trials")


@dataclass(frozen=True)
class GrowthSettings:
    """The settings that decide when a candidate enters.

    Attributes:
        train: outer steps in which the rule is fitted after a term has entered.
        look: outer steps in which θ is held fixed: they measure the rule and the gradient to every
            candidate, on the same tasks each time.
        bar: the penalty λ, which a candidate's mean gradient must exceed.
        clip: largest norm of a task's gradient; 0 for no limit.
        errors: least size of a candidate's mean gradient in standard errors.
        least: least gain of the score for which a candidate stays.
        tries: how many candidates are tried before the search ends.
        most: how many candidates are tried in total.
    """

    train: int
    look: int
    bar: float
    clip: float
    least: float
    errors: float = 3.0
    tries: int = 3
    most: int = 60

    @property
    def cycle(self) -> int:
        """Outer steps from one decision to the next."""
        return self.train + self.look

    @property
    def steps(self) -> int:
        """Outer steps of the longest search."""
        return (1 + self.most) * self.cycle

    def judged(
        self, gradients: Tensor, active: Tensor, signs: Tensor
    ) -> tuple[Evidence, list[Candidate]]:
        """Return the evidence for every term, and the candidates to try, at most `tries`.

        Args:
            gradients: to the scaled coefficients, as for `Evidence.of`.
            active: which terms the rule has, [term].
            signs: the sign of each coefficient, as for `OuterLoop`, [term].
        """
        evidence = Evidence.of(gradients, active, self.clip)
        found = evidence.candidates(active, signs, self.bar, self.errors)
        return evidence, found[: self.tries]


@dataclass(frozen=True)
class Trial:
    """A candidate that was tried.

    Attributes:
        step: the outer step that ended its look.
        term: its name.
        gradient: mean gradient to its scaled coefficient before it entered.
        errors: the same in standard errors.
        change: how it changed the score, mean over the tasks of a look.
        low: lower end of the band of this change.
        high: upper end.
        entered: whether it stayed.
    """

    step: int
    term: str
    gradient: float
    errors: float
    change: float
    low: float
    high: float
    entered: bool


class Growth:
    """The terms that a growing rule has, and the decisions about the others.

    The search alternates between training, in which only the active terms move, and looks, in which
    θ is held fixed. After a look, a candidate that was tried stays if the score on the tasks of the
    look is higher than before it entered: the band of the paired difference lies above zero, and
    its mean is at least the least gain. It also stays if the loss is lower, with the band of that
    difference below zero, unless the score is lower too. Otherwise the rule goes back to what it
    was, and the next candidate is tried. The search ends if `tries` candidates in a row fail, or if
    the gradient supports none.

    Args:
        settings: when a candidate enters.
        names: the names of the terms.
        start: which terms the rule begins with, [term].
        signs: the sign of each coefficient, as for `OuterLoop`, [term].

    Attributes:
        active: which terms the rule has, [term].
        done: whether the search has ended.
        trials: the candidates that were tried, in order.
    """

    def __init__(
        self, settings: GrowthSettings, names: Sequence[str], start: Tensor, signs: Tensor
    ) -> None:
        self.settings = settings
        self.active = start.clone()
        self.done = False
        self.trials: list[Trial] = []
        self._names, self._signs = tuple(names), signs
        self._trying: Candidate | None = None
        self._queue: list[Candidate] = []
        # u and the scores of the rule before the current candidate entered.
        self._fitted: Tensor | None = None
        self._before: Tensor | None = None
        # The results of the current look.
        self._scores: list[Tensor] = []
        self._gradients: list[Tensor] = []

    @property
    def positions(self) -> list[int]:
        """Positions of the active terms."""
        return [int(k) for k in self.active.nonzero().flatten()]

    @property
    def is_fitted(self) -> bool:
        """Whether there is a rule to go back to."""
        return self._fitted is not None

    def place(self, step: int) -> int | None:
        """Return the place of an outer step in its look; None in training."""
        place = step % self.settings.cycle - self.settings.train
        return place if place >= 0 else None

    def fraction(self, step: int) -> float:
        """Return how much of its training has passed at an outer step, 0 … 1."""
        return min(1.0, step % self.settings.cycle / self.settings.train)

    def see(self, scores: Tensor, losses: Tensor, gradients: Tensor) -> None:
        """Record the tasks of one outer step of a look.

        Args:
            scores: the scores of the tasks; the least score for a task that diverged, [task].
            losses: the losses of the tasks, [task].
            gradients: to the scaled coefficients, for the finite tasks, [task, term].
        """
        losses = losses.nan_to_num(DIVERGED, DIVERGED, DIVERGED).clamp(max=DIVERGED)
        self._scores.append(torch.stack([scores, -losses], dim=1))
        # A gradient that is not finite does not count as evidence.
        self._gradients.append(gradients.nan_to_num(0.0, 0.0, 0.0))

    def decide(self, step: int, u: Tensor) -> Tensor:
        """End a look: decide whether the candidate stays, and admit the next one.

        Args:
            step: the outer step that ends the look.
            u: scaled coefficients now.

        Returns:
            The coefficients to continue from.
        """
        scores, gradients = torch.cat(self._scores), torch.cat(self._gradients)
        self._scores, self._gradients = [], []
        if self._before is None or self._entered(step, scores):
            self.active &= _used(u)
            self._fitted, self._before = u.clone(), scores
            self._queue = self.settings.judged(gradients, self.active, self._signs)[1]
        assert self._fitted is not None
        self._trying = self._queue.pop(0) if self._queue else None
        self.done = self._trying is None or len(self.trials) >= self.settings.most
        if self._trying is not None and not self.done:
            self.active[self._trying.position] = True
        return self._fitted.clone()

    def _entered(self, step: int, scores: Tensor) -> bool:
        """Return whether the candidate that was tried stays."""
        tried = self._trying
        assert tried is not None
        assert self._before is not None
        change, gain = map(mean_band, (scores - self._before).unbind(1))
        better = change.low > 0 and change.mean >= self.settings.least
        # If nearly all answers are right, or nearly none, the loss tells more than the score.
        entered = better or (gain.low > 0 and change.high >= 0)
        self.trials.append(
            Trial(
                step, self._names[tried.position], tried.gradient, tried.errors,
                change.mean, change.low, change.high, entered,
            )
        )  # fmt: skip
        if not entered:
            self.active[tried.position] = False
        return entered

    def state(self) -> dict[str, Any]:
        """Return everything a checkpoint needs: plain containers, numbers and tensors."""
        tensors = {"fitted": self._fitted, "before": self._before}
        return {
            "active": self.active.clone(),
            "trying": None if self._trying is None else asdict(self._trying),
            "queue": [asdict(candidate) for candidate in self._queue],
            "done": self.done,
            "scores": list(self._scores),
            "gradients": list(self._gradients),
            "trials": [asdict(trial) for trial in self.trials],
            **tensors,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state that `state` returned.

        Raises:
            DataError: if it does not fit the terms.
        """
        where = "the growth of the rule"
        check(set(state) == set(_PARTS), f"{where} has other parts than {', '.join(_PARTS)}")
        active = state["active"]
        fits = isinstance(active, Tensor) and active.shape == self.active.shape
        check(fits and active.dtype == torch.bool, f"{where} belongs to other terms")
        rows = [*entry(state, "scores", list, where), *entry(state, "gradients", list, where)]
        rows += [row for row in (state["fitted"], state["before"]) if row is not None]
        finite = all(isinstance(row, Tensor) and bool(row.isfinite().all()) for row in rows)
        check(finite, f"{where} has tensors that are not finite")
        terms, pairs = len(active), [*state["scores"], state["before"]]
        wide = [*state["gradients"], state["fitted"]]
        fits = all(row is None or row.shape[-1:] == (2,) for row in pairs)
        fits = fits and all(row is None or row.shape[-1:] == (terms,) for row in wide)
        check(fits, f"{where} has tensors of other shapes than it should")
        self.active = active.clone()
        self.done = entry(state, "done", bool, where)
        self._trying = None if state["trying"] is None else _candidate(state["trying"], active)
        self._queue = [_candidate(data, active) for data in entry(state, "queue", list, where)]
        self._fitted, self._before = state["fitted"], state["before"]
        self._scores, self._gradients = list(state["scores"]), list(state["gradients"])
        self.trials = [_trial(data, self._names) for data in entry(state, "trials", list, where)]


def _used(u: Tensor) -> Tensor:
    """Return which terms have a coefficient that is not zero, [term]."""
    return u.reshape(-1, u.shape[-1]).ne(0).any(0)


def _candidate(data: Any, active: Tensor) -> Candidate:
    where = "a candidate"
    check(isinstance(data, dict) and len(data) == 3, f"{where} is not a record")
    position = entry(data, "position", int, where)
    check(0 <= position < len(active), f"{where} is not a term of the pool")
    return Candidate(position, *(entry(data, key, float, where) for key in ("gradient", "errors")))


def _trial(data: Any, names: Sequence[str]) -> Trial:
    where = "a trial"
    check(isinstance(data, dict), f"{where} is not a record")
    kinds = {"step": int, "term": str, "entered": bool}
    check(set(data) == set(Trial.__dataclass_fields__), f"{where} has other parts than it should")
    found: dict[str, Any] = {key: entry(data, key, kinds.get(key, float), where) for key in data}
    check(found["term"] in names, f"{where} is of another term")
    return Trial(**found)
