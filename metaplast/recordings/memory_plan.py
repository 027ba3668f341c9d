"""Terms with memory as tables of numbers for the compiled steps, and the state between steps.

Factors, traces and eligibilities that several terms share occur once. Parameters are numbered in
this order: the coefficients of the terms, the fitted time constants, all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.recordings.arrays import Flags, Places
from metaplast.recordings.memory import Clock
from metaplast.recordings.monomial import MonomialTerm


class Traces(NamedTuple):
    """The traces of x, of y or of the reward.

    Attributes:
        power: the power of the activity or reward that each trace follows, [trace].
        rate: 1/τ, [trace].
        clock: index of the parameter log τ, [trace]; -1 if it is not fitted.
    """

    power: Places
    rate: Numbers
    clock: Places


class Plan(NamedTuple):
    """The tables; the index -1 of a trace or an eligibility means that there is none.

    Attributes:
        theta: coefficients, [term].
        terms: factor of x, factor of y, exponent of W, factor of r, eligibility, [term, 5].
        pre: exponent of x and trace, [factor of x, 2].
        post: the same for y.
        reward: the same for r.
        eligible: factor of x, factor of y, exponent of W, and place in `Kept.eligible_by` (-1 for
            an eligibility without derivatives), [eligibility, 4].
        decay: 1/τ of each eligibility.
        decay_clock: index of its parameter log τ, or -1.
        x, y, r: the traces.
    """

    theta: Numbers
    terms: Places
    pre: Places
    post: Places
    reward: Places
    eligible: Places
    decay: Numbers
    decay_clock: Places
    x: Traces
    y: Traces
    r: Traces


class Kept(NamedTuple):
    """The state between steps with its derivatives; all of it is zero when a trial begins.

    Attributes:
        x: traces of x, [trace, pre].
        x_by_tau: their derivatives with respect to their own log τ, [trace, pre].
        r: traces of the reward, [trace].
        r_by_tau: their derivatives with respect to their own log τ, [trace].
        y: traces of y, [post, trace].
        y_by: their derivatives, [post, trace, parameter].
        eligible: E, [post, eligibility, pre].
        eligible_by: derivatives of the eligibilities in the rule, [post, place, parameter, pre].
    """

    x: Numbers
    x_by_tau: Numbers
    r: Numbers
    r_by_tau: Numbers
    y: Numbers
    y_by: Numbers
    eligible: Numbers
    eligible_by: Numbers


class Factors(NamedTuple):
    """The factors of a step: values, and derivatives with respect to log τ of their own traces.

    Attributes:
        x, x_by_tau: [factor, pre].
        r, r_by_tau: [factor].
        y: the factors of y of one neuron, [factor].
        y_by: their derivatives with respect to all parameters, [factor, parameter].
    """

    x: Numbers
    x_by_tau: Numbers
    r: Numbers
    r_by_tau: Numbers
    y: Numbers
    y_by: Numbers


class Row(NamedTuple):
    """The change of one row of W in a step.

    Attributes:
        change: the change, [pre].
        by_w: its derivative with respect to W, [pre].
        by_y: its derivative with respect to each factor of the neuron, [factor, pre].
        powers: 1, W, W², W³, [power, pre].
        uses: whether the rule has a factor of the neuron, [factor].
    """

    change: Numbers
    by_w: Numbers
    by_y: Numbers
    powers: Numbers
    uses: Flags


class _Table:
    """Distinct rows, numbered in the order in which they were added."""

    def __init__(self) -> None:
        self.rows: dict[Any, int] = {}

    def number(self, row: Any) -> int:
        return self.rows.setdefault(row, len(self.rows))

    def array(self, width: int) -> Places:
        return np.array(list(self.rows), dtype=np.int64).reshape(-1, width)


def plan(
    terms: Sequence[MonomialTerm], theta: Numbers, taus: Mapping[Clock, float],
    clocks: Sequence[Clock],
) -> Plan:  # fmt: skip
    """Return the tables of some terms.

    Args:
        terms: the terms of the rule, and other candidates.
        theta: coefficients, [term].
        taus: the time constants whose values differ from those in the terms.
        clocks: time constants with derivatives; their parameters come after the coefficients.
    """
    traces = {kind: _Table() for kind in "xyr"}
    sides = {kind: _Table() for kind in "xyr"}
    collected = _Table()

    def factor(kind: str, exponent: int, own: Mapping[str, Clock]) -> int:
        trace = traces[kind].number(own[kind]) if kind in own else -1
        return sides[kind].number((exponent, trace))

    rows = []
    for term in terms:
        own = {clock.kind: clock for clock in term.memory.clocks}
        pre, post = factor("x", term.pre, own), factor("y", term.post, own)
        held = collected.number((pre, post, term.weight, own["e"])) if "e" in own else -1
        rows.append((pre, post, term.weight, factor("r", term.reward, own), held))
    in_rule = _Table()
    for row, value in zip(rows, theta, strict=True):
        if row[4] >= 0 and value != 0:
            in_rule.number(row[4])
    eligible = [(*row[:3], in_rule.rows.get(i, -1)) for i, row in enumerate(collected.rows)]
    found = _timed([row[3] for row in collected.rows], taus, clocks, len(terms))
    return Plan(
        np.ascontiguousarray(theta, dtype=float),
        np.array(rows, dtype=np.int64).reshape(-1, 5),
        sides["x"].array(2), sides["y"].array(2), sides["r"].array(2),
        np.array(eligible, dtype=np.int64).reshape(-1, 4), found.rate, found.clock,
        *(_timed(list(traces[kind].rows), taus, clocks, len(terms)) for kind in "xyr"),
    )  # fmt: skip


def _timed(
    own: Sequence[Clock], taus: Mapping[Clock, float], clocks: Sequence[Clock], terms: int
) -> Traces:
    places = [terms + clocks.index(c) if c in clocks else -1 for c in own]
    return Traces(
        np.array([c.power for c in own], dtype=np.int64),
        np.array([1.0 / taus.get(c, c.tau) for c in own], dtype=float),
        np.array(places, dtype=np.int64),
    )


def nothing_kept(made: Plan, posts: int, pres: int, parameters: int) -> Kept:
    """Return the state at the start of a trial."""
    x, y, r = (len(t.rate) for t in (made.x, made.y, made.r))
    in_rule = int((made.eligible[:, 3] >= 0).sum())
    return Kept(
        np.zeros((x, pres)), np.zeros((x, pres)), np.zeros(r), np.zeros(r), np.zeros((posts, y)),
        np.zeros((posts, y, parameters)), np.zeros((posts, len(made.decay), pres)),
        np.zeros((posts, in_rule, parameters, pres)),
    )  # fmt: skip
