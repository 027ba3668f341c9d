"""The time constants of a discovered rule that were learned together with its coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metaplast.terms.clocks import Clock, Taus, clocks_of
from metaplast.terms.term import Term


@dataclass(frozen=True)
class LearnedTau:
    """A learned time constant.

    Attributes:
        of: the trace or eligibility that has it, with the τ of the candidate terms.
        tau: the learned τ, in examples or time steps.
        terms: names of the terms of the rule that share it.
    """

    of: Clock
    tau: float
    terms: tuple[str, ...]

    @property
    def start(self) -> float:
        """The initial τ."""
        return self.of.tau

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        return {
            "of": self.of.name, "label": self.of.spell(), "start": self.start, "tau": self.tau,
            "terms": list(self.terms),
        }  # fmt: skip


def learned_taus(terms: Sequence[Term], taus: Taus) -> tuple[LearnedTau, ...]:
    """Return the learned time constants of a rule.

    Args:
        terms: the terms of the rule, with the initial time constants of the candidates.
        taus: the learned values.
    """
    return tuple(
        LearnedTau(clock, taus[clock], tuple(t.name for t in terms if clock in clocks_of([t])))
        for clock in clocks_of(terms)
        if clock in taus
    )
