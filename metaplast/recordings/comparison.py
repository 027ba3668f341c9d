"""The inferred rule compared with two null models and published rules, on held-out data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from metaplast.base.bands import Band, Numbers, mean_band
from metaplast.base.errors import UserError
from metaplast.recordings.fit import Fit, fit, none
from metaplast.recordings.moments import Problem
from metaplast.recordings.monomial import MonomialTerm, equation
from metaplast.recordings.pieces import DivergedError, Free, Parameters
from metaplast.recordings.published import (
    MOST_WORK,
    PublishedRule,
    deviance,
    published_rules,
    rated,
    simulated,
    work,
)
from metaplast.recordings.result import Compared

INFERRED = "inferred rule"
NULL, FITTED_NULL = "no plasticity", "no plasticity, W₀ fitted"


class Judge:
    """Compares models on held-out data with the null model, which has no plasticity.

    Deviance explained is 1 − D/D₀, where D₀ is the deviance without plasticity. Its confidence band
    comes from resampling the held-out units.

    Args:
        problem: the problem to which models are fitted.
        test: the same problem, with the held-out data.
        found: the inferred rule.
    """

    def __init__(self, problem: Problem, test: Problem, found: Fit) -> None:
        self._problem, self._test, self._found = problem, test, found
        self._null = fit(problem, (), none(problem, 0))
        self._base = self._deviance(self._null) if test.data.tests else None

    def _deviance(self, model: Fit) -> Numbers | None:
        try:
            return self._test.deviances(model.terms, model.parameters, test=True)[0]
        except DivergedError:
            return None

    def explained(self, values: Numbers | None, base: Numbers | None = None) -> Band | None:
        """Return 1 − D/D₀ with its band, from the deviances of the held-out units."""
        base = self._base if base is None else base
        if values is None or base is None or not base.sum() > 0:
            return None
        ratio = 1 - values.sum() / base.sum()
        parts = ratio + (base - values - ratio * base) / base.mean()
        return mean_band(parts, (-np.inf, 1.0))

    def without(self, term: MonomialTerm) -> Band | None:
        """Return how much deviance explained is lost when the rule is refitted without a term."""
        own = self._deviance(self._found)
        kept = [i for i, each in enumerate(self._found.terms) if each != term]
        terms = tuple(self._found.terms[i] for i in kept)
        start = replace(self._found.parameters, theta=self._found.theta[kept])
        try:
            less = self._deviance(fit(self._problem, terms, start))
        except DivergedError:
            return None
        if own is None or less is None or self._base is None:
            return None
        lost = (less.sum() - own.sum()) / self._base.sum()
        parts = lost + (less - own - lost * self._base) / self._base.mean()
        return mean_band(parts)

    def models(self, *, known: bool) -> tuple[Compared, ...]:
        """Return all models, with the second null model only if initial weights are `known`."""
        found = self._found
        shown = [
            Compared(
                INFERRED, self.explained(self._deviance(found)),
                equation(found.terms, tuple(map(float, found.theta))),
            )
        ]  # fmt: skip
        words = "θ = 0, W₀ as given" if known and not self._problem.free.initial else "θ = 0"
        name = FITTED_NULL if self._problem.free.initial else NULL
        shown.append(Compared(name, self.explained(self._base), words))
        if known and self._can_fit_weights:
            shown.append(self._fitted_null())
        if work(self._problem) <= MOST_WORK:
            for each in published_rules().values():
                shown.append(self._published(each))
        return tuple(shown)

    @property
    def _can_fit_weights(self) -> bool:
        """Whether a constant added to the given weights can be fitted and tested on all animals."""
        fitted = {t.animal for t in self._problem.data.trajectories}
        tested = {t.animal for t in self._test.data.trajectories}
        free, layer = self._problem.free, self._problem.layer
        return tested <= fitted and not free.initial and layer.link == "neurons"

    def _fitted_null(self) -> Compared:
        free = replace(self._problem.free, initial=True)
        words = "θ = 0, a constant added to W₀"
        try:
            model = fit(replace(self._problem, free=free), ())
            test = replace(self._test, free=free)
            values = test.deviances((), model.parameters, test=True)[0]
        except DivergedError:
            return Compared(FITTED_NULL, None, words)
        return Compared(FITTED_NULL, self.explained(values), words)

    def _published(self, rule: PublishedRule) -> Compared:
        at: Parameters = self._null.parameters
        try:
            fitted = rated(self._problem, rule, at)
        except UserError:
            return Compared(rule.name, None, "diverges")
        text = f"ΔW = {fitted.rate:.3g} × {rule.summary}"
        courses = simulated(self._test, rule.name, fitted.rate, at)
        if courses is None:
            return Compared(rule.name, None, text)
        return Compared(
            rule.name, self.explained(deviance(self._test, courses, at, test=True)[0]), text
        )


__all__ = ["FITTED_NULL", "INFERRED", "NULL", "Free", "Judge"]
