"""Published rules to compare with an inferred one; each has one free coefficient, its rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError
from metaplast.base.registry import find
from metaplast.recordings.moments import Problem
from metaplast.recordings.pieces import Parameters
from metaplast.recordings.plain_rule import PlainRule
from metaplast.recordings.trajectory import Trajectory
from metaplast.terms.library import TERMS, get_term

_ITERATIONS = 12
# Published rules are skipped if a problem needs more work than this, in steps × synapses.
MOST_WORK = 2e8


@dataclass(frozen=True)
class PublishedRule:
    """A published rule to compare with; plug-ins provide more in the group `metaplast.terms`.

    Attributes:
        name: name of the rule.
        term: name of the one term that makes up the rule.
        summary: one line about the rule.
    """

    name: str
    term: str
    summary: str = ""


@dataclass(frozen=True, eq=False)
class Course:
    """The activity and weights of a rule along a trajectory.

    Attributes:
        activity: y, [time, post].
        weights: W at the steps at which weights were observed, [post, pre].
    """

    activity: Numbers
    weights: Mapping[int, Numbers]


@dataclass(frozen=True, eq=False)
class Rated:
    """A published rule with its fitted rate.

    Attributes:
        name: name of the rule.
        rate: its coefficient.
        courses: activity and weights along each trajectory.
    """

    name: str
    rate: float
    courses: tuple[Course, ...]


def published_rules() -> Mapping[str, PublishedRule]:
    """Return every installed rule to compare with, by name."""
    return find(TERMS, PublishedRule)


def work(problem: Problem) -> float:
    """Return the work of a problem: its steps times its synapses."""
    return float(sum(t.steps * t.initial.size for t in problem.data.trajectories))


def rated(problem: Problem, rule: PublishedRule, at: Parameters) -> Rated:
    """Return a published rule with the rate that gives the lowest deviance.

    The fit is Gauss–Newton on one parameter, with derivatives from central differences.

    Args:
        problem: the data of the fit.
        rule: the rule.
        at: initial weights, scale and gain; its θ is not used.

    Raises:
        UserError: if the weights diverge even without plasticity.
    """
    key = f"rate of {rule.name}"
    known = problem.journal.recall(key)
    if known is not None:
        rate = float(known["rate"])
        return Rated(rule.name, rate, tuple(_courses(problem, rule, rate, at)))
    found = _rated(problem, rule, at)
    problem.journal.keep(key, {"rate": found.rate})
    return found


def _rated(problem: Problem, rule: PublishedRule, at: Parameters) -> Rated:
    rate, size = 0.0, 1e-3
    best = _courses(problem, rule, 0.0, at)
    lowest = deviance(problem, best, at)[0].sum()
    for _ in range(_ITERATIONS):
        step = _newton(problem, rule, rate, at, best)
        if step is None or abs(step) < 1e-7 * max(size, abs(rate)):
            break
        for _ in range(25):
            try:
                tried = _courses(problem, rule, rate + step, at)
            except UserError:
                step *= 0.3
                continue
            found = deviance(problem, tried, at)[0].sum()
            if found < lowest:
                break
            step *= 0.3
        else:
            break
        gained, lowest = lowest - found, found
        rate, best = rate + step, tried
        if gained < 1e-8 * lowest:
            break
    return Rated(rule.name, float(rate), tuple(best))


def _newton(
    problem: Problem, rule: PublishedRule, rate: float, at: Parameters, now: Sequence[Course]
) -> float | None:
    small = 1e-4 * max(abs(rate), 1e-2)
    try:
        up, down = (_courses(problem, rule, rate + s * small, at) for s in (1, -1))
    except UserError:
        return None
    top = bottom = 0.0
    for each, *three in zip(problem.data.trajectories, now, up, down, strict=True):
        seen = ~np.isnan(each.observed) & (each.cluster >= 0)[:, None]
        mean, more, less = (
            problem.loss.within(problem.layer.mean(v.activity, at.gain)) for v in three
        )
        slope, weight = (more - less) / (2 * small), problem.loss.weight(mean)
        residual = np.where(seen, each.observed - mean, 0.0)
        top += float((weight * slope * residual).sum())
        bottom += float((weight * slope**2)[seen].sum())
        for step, observed in each.weights.items():
            if each.cluster[step] >= 0:
                own, higher, lower = (course.weights[step] for course in three)
                by = (higher - lower) / (2 * small)
                top += problem.precision * float(np.nansum(by * (observed - own)))
                bottom += problem.precision * float((by**2)[~np.isnan(observed)].sum())
    return top / bottom if bottom > 0 else None


def simulated(
    problem: Problem, name: str, rate: float, at: Parameters
) -> tuple[Course, ...] | None:
    """Return the courses of a published rule at a rate; None if it diverges."""
    try:
        return tuple(_courses(problem, published_rules()[name], rate, at))
    except UserError:
        return None


def deviance(
    problem: Problem, courses: Sequence[Course], at: Parameters, *, test: bool = False
) -> tuple[Numbers, Numbers]:
    """Return deviance and number of observations of each cluster, or held-out unit."""
    units = problem.data.tests if test else problem.data.clusters
    found, count = np.zeros(units), np.zeros(units)
    for each, course in zip(problem.data.trajectories, courses, strict=True):
        unit = each.test if test else each.cluster
        mean = problem.loss.within(problem.layer.mean(course.activity, at.gain))
        seen = ~np.isnan(each.observed)
        observed = np.where(seen, each.observed, 0.0)
        values = np.where(seen, problem.loss.deviance(observed, mean), 0.0)
        inside = unit >= 0
        np.add.at(found, unit[inside], values[inside].sum(1))
        np.add.at(count, unit[inside], seen[inside].sum(1))
        for step, weights in each.weights.items():
            if unit[step] >= 0:
                errors = np.square(weights - course.weights[step])
                found[unit[step]] += problem.precision * np.nansum(errors)
                count[unit[step]] += np.isfinite(weights).sum()
    return found, count


def _courses(problem: Problem, rule: PublishedRule, rate: float, at: Parameters) -> list[Course]:
    """Return the course of each trajectory; trajectories with equal shapes of W run together."""
    plain = PlainRule((get_term(rule.term),), (rate,))
    together: dict[tuple[int, ...], list[int]] = {}
    trajectories = problem.data.trajectories
    for index, each in enumerate(trajectories):
        together.setdefault(each.initial.shape, []).append(index)
    found: dict[int, Course] = {}
    for indices in together.values():
        own = [trajectories[i] for i in indices]
        seen: list[dict[int, Numbers]] = [{} for _ in own]

        def watch(
            step: int, w: Numbers, own: Sequence[Trajectory] = own,
            seen: Sequence[dict[int, Numbers]] = seen,
        ) -> None:  # fmt: skip
            for place, each in enumerate(own):
                if step in each.weights:
                    seen[place][step] = w[place].copy()

        y, _ = plain.run(
            problem.layer,
            _padded([t.inputs for t in own]),
            _padded([t.reward for t in own]),
            _padded([t.plastic for t in own]) > 0,
            np.stack([initial(t, at) for t in own]),
            watch,
            _padded([t.starts for t in own]) > 0,
        )
        for k, i in enumerate(indices):
            found[i] = Course(y[k, : trajectories[i].steps], seen[k])
    return [found[i] for i in range(len(trajectories))]


def _padded(parts: Sequence[Any]) -> Numbers:
    """Return arrays [time, …] stacked, with zeros after the end of shorter ones."""
    longest = max(map(len, parts))
    found = np.zeros((len(parts), longest, *parts[0].shape[1:]))
    for place, part in enumerate(parts):
        found[place, : len(part)] = part
    return found


def initial(each: Trajectory, at: Parameters) -> Numbers:
    """Return the initial weights of a trajectory at the parameters `at`."""
    given = at.scale * each.initial
    return np.asarray(given + at.shift[each.animal] if at.shift else given)
