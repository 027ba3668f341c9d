"""The settings that decide when candidates enter a growing rule, and the record of a trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from metaplast.base.plain_data import check, entry
from metaplast.meta.evidence import Candidate, Evidence


@dataclass(frozen=True)
class GrowthSettings:
    """The settings that decide when candidates enter.

    Attributes:
        train: outer steps in which the rule is fitted after a term has entered.
        look: outer steps in which θ is held fixed: they measure the rule and the gradient for every
            candidate that does not wait, on the same tasks each time.
        bar: the penalty λ, which a candidate's mean gradient must exceed.
        clip: largest norm of a task's gradient; 0 for no limit.
        errors: least size of a candidate's mean gradient in standard errors.
        least: least gain of the score for which a candidate stays.
        tries: how many candidates enter together, and how many are then tried alone before the
            search goes on to values, or ends.
        most: how many trials there are in total; a candidate that is tried together with others
            and then alone counts twice.
        values: the values of each candidate that are tried if the gradient supports none, as
            multiples of the rule's largest scaled coefficient; empty to end the search instead.
        waiting: names of the candidates that are not tried until no other one helps.
    """

    train: int
    look: int
    bar: float
    clip: float
    least: float
    errors: float = 3.0
    tries: int = 3
    most: int = 60
    values: tuple[float, ...] = ()
    waiting: frozenset[str] = frozenset()

    @property
    def cycle(self) -> int:
        """Outer steps from one decision to the next."""
        return self.train + self.look

    @property
    def steps(self) -> int:
        """Outer steps of the longest search."""
        return (1 + self.most) * self.cycle + (self.look if self.waiting else 0)

    def judged(
        self, gradients: Tensor, active: Tensor, signs: Tensor
    ) -> tuple[Evidence, list[Candidate]]:
        """Return the evidence for every term, and the candidates to try, at most `tries`.

        Args:
            gradients: with respect to the scaled coefficients, as for `Evidence.of`.
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
        gradient: mean gradient with respect to its scaled coefficient before it entered.
        errors: the mean gradient in standard errors.
        change: how the score changed, mean over the tasks of a look.
        low: lower end of the band of this change.
        high: upper end.
        entered: whether it stayed.
        start: the scaled coefficient with which it entered; 0 if the gradient supported it.
        tried_with: the name of the first of several candidates that were tried together, so that
            the change is that of all of them; empty for that first one and for one tried alone.
    """

    step: int
    term: str
    gradient: float
    errors: float
    change: float
    low: float
    high: float
    entered: bool
    start: float = 0.0
    tried_with: str = ""

    @classmethod
    def read(cls, data: Any, names: Sequence[str]) -> Trial:
        """Return the trial of a checkpoint.

        Args:
            data: its attributes as plain data.
            names: the names of the terms.

        Raises:
            DataError: if it is not a trial of one of the terms.
        """
        where = "a trial"
        check(isinstance(data, dict), f"{where} is not a record")
        data = {"start": 0.0, "tried_with": "", **data}
        kinds = {"step": int, "term": str, "entered": bool, "tried_with": str}
        check(set(data) == set(cls.__dataclass_fields__), f"{where} has missing or unknown parts")
        found: dict[str, Any] = {
            key: entry(data, key, kinds.get(key, float), where) for key in data
        }
        known = found["term"] in names and found["tried_with"] in ("", *names)
        check(known, f"{where} names an unknown term")
        return cls(**found)
