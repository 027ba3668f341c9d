"""The result of an inference: the rule, its uncertainty, and the models compared with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metaplast.base.bands import LEVEL, Band
from metaplast.base.words import amount
from metaplast.recordings.fitted_taus import TimeConstant
from metaplast.recordings.monomial import MonomialTerm, equation
from metaplast.recordings.search import Step
from metaplast.rules.rule import Rule


@dataclass(frozen=True)
class FoundTerm:
    """A term of the inferred rule.

    Attributes:
        term: the monomial.
        theta: its coefficient.
        low: lower end of its interval.
        high: upper end.
        kept: share of resamples of the clusters in which it is selected, from 0 to 1.
        alone: absent candidates, each of which could replace it.
        together: pairs of absent candidates that could replace it.
        least_t: the smallest |t| of the term when one absent candidate is added, or two that are
            not in `alone`.
        without: how much of the deviance explained on held-out data is lost without the term.
    """

    term: MonomialTerm
    theta: float
    low: float
    high: float
    kept: float
    alone: tuple[str, ...]
    together: tuple[tuple[str, str], ...]
    least_t: float
    without: Band | None

    @property
    def is_certain(self) -> bool:
        """Whether neither one nor two absent candidates could replace it."""
        return not self.alone and not self.together

    @property
    def in_words(self) -> str:
        """A sentence that says what the data show about the term."""
        label = self.term.label
        if self.is_certain:
            return f"{label} is certain: no one or two other candidates could replace it."
        if self.alone:
            return f"one of {', '.join([label, *self.alone])}: these data cannot tell."
        pairs = [f"{one} with {two}" for one, two in self.together[:3]]
        more = len(self.together) - len(pairs)
        rest = f" or {amount(more, 'other pairs', 'other pair')}" if more else ""
        return f"{label}, or {', or '.join(pairs)}{rest}: these data cannot tell."

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "name": self.term.name,
            "label": self.term.label,
            "exponents": dict(zip("xyWr", self.term.exponents, strict=True)),
            "memory": [clock._asdict() for clock in self.term.memory.clocks],
            "theta": self.theta,
            "low": self.low,
            "high": self.high,
            "kept_share": self.kept,
            "certain": self.is_certain,
            "could_be_replaced_by": list(self.alone),
            "could_be_replaced_by_pairs": [list(pair) for pair in self.together],
            "least_t": self.least_t,
            "lost_without": None if self.without is None else self.without.to_json(),
        }


@dataclass(frozen=True)
class Compared:
    """A model in the comparison.

    Attributes:
        name: name of the model.
        explained: deviance explained on held-out data; None if the model diverged there.
        text: its rule, or a description of the model.
    """

    name: str
    explained: Band | None
    text: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        found = None if self.explained is None else self.explained.to_json()
        return {"name": self.name, "deviance_explained": found, "model": self.text}


@dataclass(frozen=True, eq=False)
class Inference:
    """An inferred rule.

    Attributes:
        terms: the terms of the rule.
        time_constants: the fitted time constants of its traces and eligibilities.
        models: the inferred rule, the null models and published rules, on held-out data.
        steps: the steps of the selection.
        p: the probability that, without plasticity, some candidate would appear as strong as the
            strongest one does here; corrected for the number of candidates.
        pool: number of candidates.
        often: absent candidates that are selected in some resamples of the clusters, with the share
            of resamples that select them.
        noise: standard deviation of the noise of the activity; None if there is none.
        weight_noise: the same for observed weights.
        scale, gain: the scale of the initial weights, and the gain of the observed activity; None
            if not fitted.
        data: what was recorded, in words, by topic.
        notes: sentences about the data and the fit.
        settings: the settings of the inference.
    """

    terms: tuple[FoundTerm, ...]
    time_constants: tuple[TimeConstant, ...]
    models: tuple[Compared, ...]
    steps: tuple[Step, ...]
    p: float
    pool: int
    often: Mapping[str, float]
    noise: float | None
    weight_noise: float | None
    scale: float | None
    gain: float | None
    data: Mapping[str, str]
    notes: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def theta(self) -> dict[str, float]:
        """Coefficients by name."""
        return {found.term.name: found.theta for found in self.terms}

    @property
    def given(self) -> dict[str, Any]:
        """The settings that are not empty."""
        return {name: value for name, value in self.settings.items() if value != ""}

    @property
    def equation(self) -> str:
        """The rule in one line."""
        return equation(tuple(f.term for f in self.terms), tuple(f.theta for f in self.terms))

    @property
    def in_words(self) -> tuple[str, ...]:
        """What is certain and what the data cannot tell, in one sentence for each term."""
        if not self.terms:
            return (
                f"no candidate is significant (p = {self.p:.2g} over all {self.pool} candidates): "
                f"these data show no plasticity that the candidates could explain.",
            )
        return tuple(found.in_words for found in self.terms)

    @property
    def taus_in_words(self) -> tuple[str, ...]:
        """The fitted time constants with their intervals, in one sentence each."""
        return tuple(
            f"{each.label} has τ = {each.tau:.4g} steps ({100 * LEVEL:g} % interval "
            f"{each.low:.4g} to {each.high:.4g})."
            for each in self.time_constants
        )

    def rule(self) -> Rule:
        """Return the rule in the form that other commands take."""
        terms = tuple(found.term.to_term() for found in self.terms)
        theta = (tuple(found.theta for found in self.terms),)
        return Rule(terms, theta, "symmetric", {"inferred": dict(self.data) | self.given})

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "equation": self.equation,
            "terms": [found.to_json() for found in self.terms],
            "time_constants": [each.to_json() for each in self.time_constants],
            "in_words": list(self.in_words),
            "level": LEVEL,
            "p_of_no_plasticity": self.p,
            "candidates": self.pool,
            "selected_in_some_draws": dict(self.often),
            "models": [model.to_json() for model in self.models],
            "steps": [
                {"what": s.what, "term": s.term, "z": s.z, "p": s.p,
                 "rule": [t.name for t in s.terms]}
                for s in self.steps
            ],
            "noise": self.noise, "weight_noise": self.weight_noise,
            "scale": self.scale, "gain": self.gain,
            "data": dict(self.data), "notes": list(self.notes), "settings": dict(self.settings),
        }  # fmt: skip
