"""Run any rule of the algebra along trials in plain NumPy, for simulations and published rules.

It shares no code with the compiled kernels. Unlike them, it takes terms with any traces and
eligibilities, functions of the activity and sums over neurons, but it computes no derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require
from metaplast.recordings.arrays import Flags
from metaplast.recordings.model import FUNCTIONS, Layer
from metaplast.terms.algebra import (
    Eligibility,
    Formula,
    Mapped,
    Monomial,
    Projection,
    Scalar,
    Signal,
    Vector,
)
from metaplast.terms.functions import FUNCTIONS as MAPS
from metaplast.terms.term import Term
from metaplast.terms.traces import Trace, scalar_trace_of, trace_of

Watch = Callable[[int, Numbers], None]
_REWARD = "reward"
# Weights beyond this have diverged.
_LARGEST = 1e8


@dataclass(frozen=True, eq=False)
class PlainRule:
    """Terms with their coefficients, applied to a layer.

    Attributes:
        terms: the terms; they read pre and post activity, their traces, weights and the reward.
        theta: their coefficients.
    """

    terms: tuple[Term, ...]
    theta: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check the signals that the terms read.

        Raises:
            UserError: if a term reads an error or another signal that a recording lacks.
        """
        for term in self.terms:
            require(
                isinstance(term.formula, Formula) and term.matrix.name == "W",
                f"the term {term.name} cannot run on recordings: it must be a formula on W.",
            )
            for signal in term.signals:
                followed = trace_of(signal)
                kind = signal.kind if followed is None else followed.signal.kind
                require(
                    kind == "activity",
                    f"the term {term.name} reads {signal.written}, which recordings do not have; "
                    f"give a rule of pre.activity, post.activity, W and scalar('reward').",
                )
            other = {name for name in term.scalars if _followed(name)[0] != _REWARD}
            require(
                not other,
                f"the term {term.name} reads the scalar {', '.join(sorted(other))}, which "
                f"recordings do not have; the reward is scalar('reward').",
            )

    @property
    def has_reward(self) -> bool:
        """Whether a term reads the reward."""
        return any(term.scalars for term in self.terms)

    @property
    def remembers(self) -> bool:
        """Whether a term reads a trace or an eligibility."""
        scalars = any(_followed(name)[0] != name for name in self._scalars)
        return bool(self._traces or self._eligibilities or scalars)

    @cached_property
    def _traces(self) -> Mapping[Signal, Trace]:
        signals = {signal: trace_of(signal) for term in self.terms for signal in term.signals}
        return {signal: found for signal, found in signals.items() if found is not None}

    @cached_property
    def _scalars(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for term in self.terms for name in term.scalars))

    @cached_property
    def _eligibilities(self) -> tuple[Eligibility, ...]:
        return tuple(dict.fromkeys(each for term in self.terms for each in term.eligibilities))

    def run(
        self, layer: Layer, inputs: Numbers, reward: Numbers, plastic: Flags, weights: Numbers,
        watch: Watch = lambda *_: None, starts: Flags | None = None,
    ) -> tuple[Numbers, Numbers]:  # fmt: skip
        """Return the activity of the layer and its final weights.

        Args:
            layer: the network.
            inputs: x, [trial, time, pre].
            reward: r, [trial, time].
            plastic: whether the weights change, [trial, time].
            weights: W_0, [trial, post, pre].
            watch: called before each step with the number of the step and W.
            starts: steps at which traces and eligibilities are reset to zero, [trial, time]; None
                for the first step only.

        Returns:
            y [trial, time, post] and W [trial, post, pre].

        Raises:
            UserError: if the weights diverge.
        """
        w, function = np.array(weights, dtype=float), FUNCTIONS[layer.activation]
        y = np.empty((*inputs.shape[:2], w.shape[1]))
        kept = _Kept({}, {}, {})
        with np.errstate(all="ignore"):
            for t in range(inputs.shape[1]):
                watch(t, w)
                if starts is not None:
                    kept.forget(starts[:, t])
                x = inputs[:, t]
                y[:, t] = function(np.einsum("bij,bj->bi", w, x))
                change = layer.eta * self._change(self._step(x, y[:, t], reward[:, t], w, kept))
                w = w + np.where(plastic[:, t, None, None], change, 0.0)
                if not (np.abs(w) < _LARGEST).all():
                    raise UserError(
                        "the weights diverged; give smaller coefficients, --eta or inputs."
                    )
        return y, w

    def _step(self, x: Numbers, y: Numbers, reward: Numbers, w: Numbers, kept: _Kept) -> _Step:
        """Update traces and eligibilities, and return all that terms read in a step."""
        traces = kept.traces
        found = {Signal("pre", "activity"): x, Signal("post", "activity"): y}
        found |= {Signal("pre", "one"): np.ones_like(x), Signal("post", "one"): np.ones_like(y)}
        for signal, followed in self._traces.items():
            value = _read(followed.followed, found)
            old = traces.get(signal, np.zeros_like(value))
            traces[signal] = (1 - 1 / followed.tau) * old + value / followed.tau
            found[signal] = traces[signal]
        for name in self._scalars:
            _, tau = _followed(name)
            old = kept.scalars.get(name, np.zeros_like(reward))
            kept.scalars[name] = (1 - 1 / tau) * old + reward / tau
        step = _Step(found, kept.scalars, w, kept.eligibilities)
        for eligibility in self._eligibilities:
            new = sum(_product(each, step) for each in eligibility.formula.monomials)
            old = kept.eligibilities.get(eligibility, np.zeros_like(w))
            kept.eligibilities[eligibility] = (1 - 1 / eligibility.tau) * old + new
        return step

    def _change(self, step: _Step) -> Numbers:
        found = np.zeros_like(step.weights)
        for term, value in zip(self.terms, self.theta, strict=True):
            assert isinstance(term.formula, Formula)
            for monomial in term.formula.monomials:
                found += value * _product(monomial, step)
        return found


class _Kept(NamedTuple):
    """The traces and eligibilities between steps; the first axis is the trial."""

    traces: dict[Signal, Numbers]
    scalars: dict[str, Numbers]
    eligibilities: dict[Eligibility, Numbers]

    def forget(self, trials: Flags) -> None:
        """Reset some trials to zero."""
        for kept in self:
            for values in kept.values():
                values[trials] = 0.0


class _Step(NamedTuple):
    """What terms read in a step."""

    signals: Mapping[Signal, Numbers]
    scalars: Mapping[str, Numbers]
    weights: Numbers
    eligibilities: Mapping[Eligibility, Numbers]


def _followed(scalar: str) -> tuple[str, float]:
    """Return the scalar that a trace follows, and τ; another scalar is returned with τ = 1."""
    return scalar_trace_of(scalar) or (scalar, 1.0)


def _product(monomial: Monomial, step: _Step) -> Numbers:
    w, signals = step.weights, step.signals
    found = monomial.coefficient * w ** (monomial.power + (monomial.row is None))
    if monomial.eligibility is not None:
        found = found * step.eligibilities[monomial.eligibility]
    if monomial.row is not None and monomial.column is not None:
        row, column = _read(monomial.row, signals), _carried(monomial.column, signals, w)
        found = found * row[:, :, None] * column[:, None, :]
    for gate in monomial.gates:
        if isinstance(gate, Scalar):
            factor: Numbers = step.scalars[gate.name]
        else:
            left, right = (_carried(side, signals, w) for side in gate.vectors)
            factor = (left * right).sum(1)
        found = found * factor[:, None, None]
    return np.asarray(found)


def _carried(vector: Vector, signals: Mapping[Signal, Numbers], w: Numbers) -> Numbers:
    if isinstance(vector, Projection):
        return np.asarray(np.einsum("bij,bi->bj", w, _read(vector.signal, signals)))
    return _read(vector, signals)


def _read(vector: object, signals: Mapping[Signal, Numbers]) -> Numbers:
    if isinstance(vector, Mapped):
        found: Numbers = np.ones(1)
        for signal, name in vector.factors:
            found = found * MAPS[name].apply(torch.from_numpy(signals[signal])).numpy()
        return np.asarray(found)
    assert isinstance(vector, Signal)
    return signals[vector]
