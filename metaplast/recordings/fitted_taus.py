"""Fit the time constants of a selected rule together with its coefficients.

The time constants of candidates lie on a grid. After a selection, log τ of each kind of memory in
the rule is fitted together with θ. A term that is then no longer needed is removed: two neighbours
on the grid may together have approximated one τ. Candidates that differ from a selected term
only in τ leave the pool, because the fit has already optimised τ. The selection then continues.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from metaplast.recordings.fit import Fit, fit
from metaplast.recordings.memory import Clock
from metaplast.recordings.moments import Problem
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.pieces import DivergedError, Free
from metaplast.recordings.remembering import clocks_of
from metaplast.recordings.score import Errors
from metaplast.recordings.search import Selection, Step, Told, selection_of
from metaplast.recordings.selection import select_from

# The largest number of rounds. Each fits the time constants and then selects again.
_ROUNDS = 3


@dataclass(frozen=True)
class TimeConstant:
    """A fitted time constant.

    Attributes:
        label: the trace or eligibility that has it, as printed.
        name: the label in plain letters.
        tau: τ, in steps.
        low: lower end of its interval.
        high: upper end.
        terms: labels of the terms that share the time constant.
    """

    label: str
    name: str
    tau: float
    low: float
    high: float
    terms: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        return {
            "of": self.name, "label": self.label, "tau": self.tau, "low": self.low,
            "high": self.high, "terms": list(self.terms),
        }  # fmt: skip


def with_fitted_taus(
    problem: Problem, selection: Selection, *, seed: int = 0, told: Told = lambda _: None
) -> tuple[Problem, Selection]:
    """Return the problem and the selection with the time constants of the rule fitted.

    Args:
        problem: the data.
        selection: the selection among candidates on a grid.
        seed: seed of the random signs in score tests.
        told: called with one line about each step.
    """
    for _ in range(_ROUNDS):
        clocks = clocks_of(selection.fit.terms)
        if set(clocks) <= set(problem.free.clocks):
            break
        told("time constants")
        problem, found = _fitted(problem, selection, clocks)
        found, steps = _needed(problem, found, selection)
        problem, found = _named(problem, found)
        pool = _others(selection.pool, found.terms)
        selection = select_from(
            problem, pool, found, [*selection.steps, *steps], selection.threshold, seed, told
        )
        # The last fit has changed τ once more; the terms must get these values.
        problem, found = _named(problem, selection.fit)
        pool = _others(selection.pool, found.terms)
        selection = selection_of(problem, pool, found, selection.steps, selection.threshold, seed)
    return problem, selection


def time_constants(problem: Problem, found: Fit, spread: Errors) -> tuple[TimeConstant, ...]:
    """Return the fitted time constants with their intervals, exp(log τ ± t · error)."""
    result = []
    values = zip(problem.free.clocks, found.parameters.log_taus, spread.clocks, strict=True)
    for clock, log_tau, error in values:
        own = tuple(t.label for t in found.terms if clock in t.memory.clocks)
        if own:
            ends = (math.exp(min(log_tau + s * spread.quantile * error, 50.0)) for s in (-1, 1))
            low, high = ends
            low = max(low, 1.0)
            name = f"{clock.kind}{2 if clock.power == 2 else ''}"
            result.append(TimeConstant(clock.label, name, math.exp(log_tau), low, high, own))
    return tuple(result)


def tau_notes(found: Iterable[TimeConstant], longest: int) -> list[str]:
    """Return notes about time constants that are too long for trials of at most `longest` steps."""
    return [
        f"τ of {each.label} may be longer than the {longest} steps of a trial: these data barely "
        f"constrain it."
        for each in found
        if each.high > longest
    ]


def _fitted(problem: Problem, selection: Selection, clocks: Sequence[Clock]) -> tuple[Problem, Fit]:
    """Fit the rule with its time constants; return the problem with these free, and the fit."""
    problem = replace(problem, free=replace(problem.free, clocks=tuple(clocks)))
    found = selection.fit
    taus = tuple(math.log(clock.tau) for clock in clocks)
    return problem, fit(problem, found.terms, replace(found.parameters, log_taus=taus))


def _needed(problem: Problem, found: Fit, selection: Selection) -> tuple[Fit, list[Step]]:
    """Return the rule without terms that it no longer needs, and the steps that removed them."""
    steps: list[Step] = []
    penalty = selection.threshold**2 * selection.quadratic.dispersion
    while len(found.terms) > 1:
        shorter = None
        for term in [t for t in found.terms if t.memory.clocks]:
            tried = _without(problem, found, term)
            saved = 1 + len(clocks_of(found.terms)) - len(clocks_of(_left(found, term)))
            if tried is None or tried.moments.total > found.moments.total + penalty * saved:
                continue
            if shorter is None or tried.moments.total < shorter[1].moments.total:
                shorter = term, tried
        if shorter is None:
            break
        left, found = shorter
        steps.append(Step("removed", found.terms, left.label, 0.0))
    return found, steps


def _left(found: Fit, term: MonomialTerm) -> list[MonomialTerm]:
    return [other for other in found.terms if other != term]


def _without(problem: Problem, found: Fit, term: MonomialTerm) -> Fit | None:
    kept = [i for i, other in enumerate(found.terms) if other != term]
    start = replace(found.parameters, theta=found.theta[kept])
    try:
        return fit(problem, tuple(found.terms[i] for i in kept), start)
    except DivergedError:
        return None


def _named(problem: Problem, found: Fit) -> tuple[Problem, Fit]:
    """Write the fitted time constants into the terms; return the problem and the fit with them."""
    used = clocks_of(found.terms)
    values = zip(problem.free.clocks, found.parameters.log_taus, strict=True)
    taus = {clock: math.exp(log_tau) for clock, log_tau in values if clock in used}
    # A term with τ = 1 would have no memory.
    taus = {clock: max(tau, 1.0 + 1e-6) for clock, tau in taus.items()}
    terms = tuple(term.timed(taus) for term in found.terms)
    clocks = clocks_of(terms)
    free: Free = replace(problem.free, clocks=clocks)
    logs = tuple(math.log(clock.tau) for clock in clocks)
    problem = replace(problem, free=free)
    at = replace(found.parameters, log_taus=logs)
    return problem, Fit(terms, at, problem.moments(terms, at))


def _others(pool: Iterable[MonomialTerm], kept: Sequence[MonomialTerm]) -> tuple[MonomialTerm, ...]:
    """Return the pool in which the terms `kept` replace those that differ from them only in τ."""
    same = {_timeless(term) for term in kept if term.memory.clocks}
    rest = [term for term in pool if term not in kept and _timeless(term) not in same]
    return (*rest, *kept)


def _timeless(term: MonomialTerm) -> MonomialTerm:
    return term.timed(dict.fromkeys(term.memory.clocks, 2.0))
