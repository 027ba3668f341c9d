"""Any rule of the algebra along trials, written plainly: for simulations and for published rules.

It shares no code with the compiled kernel, and differs from it in what it can do: terms may have
traces, functions of the activity and sums over neurons, but there are no derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require
from metaplast.recordings.arrays import Flags
from metaplast.recordings.model import FUNCTIONS, Layer
from metaplast.terms.algebra import Formula, Mapped, Monomial, Projection, Scalar, Signal, Vector
from metaplast.terms.functions import FUNCTIONS as MAPS
from metaplast.terms.term import Term
from metaplast.terms.traces import trace_of

Watch = Callable[[int, Numbers], None]
_REWARD = "reward"
# Weights beyond this have diverged.
_LARGEST = 1e8


@dataclass(frozen=True, eq=False)
class PlainRule:
    """Terms with their coefficients, applied to a layer.

    Attributes:
        terms: of the rule; they read the activity of both sides, its traces, weights and reward.
        theta: their coefficients.
    """

    terms: tuple[Term, ...]
    theta: tuple[float, ...]

    def __post_init__(self) -> None:
        """Check what the terms read.

        Raises:
            UserError: if one reads an error or another signal that a recording lacks.
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
            other = term.scalars - {_REWARD}
            require(
                not other,
                f"the term {term.name} reads the scalar {', '.join(sorted(other))}, which "
                f"recordings do not have; the reward is scalar('reward').",
            )

    @property
    def has_reward(self) -> bool:
        """Whether a term reads the reward."""
        return any(_REWARD in term.scalars for term in self.terms)

    def run(
        self, layer: Layer, inputs: Numbers, reward: Numbers, plastic: Flags, weights: Numbers,
        watch: Watch = lambda *_: None,
    ) -> tuple[Numbers, Numbers]:  # fmt: skip
        """Return the activity of the layer, and its final weights.

        Args:
            layer: the network.
            inputs: x, [trial, time, pre].
            reward: r, [trial, time].
            plastic: whether the weights change, [trial, time].
            weights: W_0, [trial, post, pre].
            watch: called before each step, with its number and W.

        Returns:
            y [trial, time, post] and W [trial, post, pre].

        Raises:
            UserError: if the weights diverge.
        """
        w, function = np.array(weights, dtype=float), FUNCTIONS[layer.activation]
        y = np.empty((*inputs.shape[:2], w.shape[1]))
        traces: dict[Signal, Numbers] = {}
        with np.errstate(all="ignore"):
            for t in range(inputs.shape[1]):
                watch(t, w)
                x = inputs[:, t]
                y[:, t] = function(np.einsum("bij,bj->bi", w, x))
                signals = self._signals(x, y[:, t], traces)
                change = layer.eta * self._change(signals, w, reward[:, t])
                w = w + np.where(plastic[:, t, None, None], change, 0.0)
                if not (np.abs(w) < _LARGEST).all():
                    raise UserError(
                        "the weights diverged; give smaller coefficients, --eta or inputs."
                    )
        return y, w

    def _signals(
        self, x: Numbers, y: Numbers, traces: dict[Signal, Numbers]
    ) -> Mapping[Signal, Numbers]:
        """Return all signals of a step, after updating the traces."""
        found = {Signal("pre", "activity"): x, Signal("post", "activity"): y}
        found |= {Signal("pre", "one"): np.ones_like(x), Signal("post", "one"): np.ones_like(y)}
        for term in self.terms:
            for signal in term.signals:
                followed = trace_of(signal)
                if followed is None or signal in found:
                    continue
                value = _read(followed.followed, found)
                old = traces.get(signal, np.zeros_like(value))
                traces[signal] = (1 - 1 / followed.tau) * old + value / followed.tau
                found[signal] = traces[signal]
        return found

    def _change(self, signals: Mapping[Signal, Numbers], w: Numbers, reward: Numbers) -> Numbers:
        found = np.zeros_like(w)
        for term, value in zip(self.terms, self.theta, strict=True):
            assert isinstance(term.formula, Formula)
            for monomial in term.formula.monomials:
                found += value * _product(monomial, signals, w, reward)
        return found


def _product(
    monomial: Monomial, signals: Mapping[Signal, Numbers], w: Numbers, reward: Numbers
) -> Numbers:
    found = monomial.coefficient * w ** (monomial.power + (monomial.row is None))
    if monomial.row is not None and monomial.column is not None:
        row, column = _read(monomial.row, signals), _carried(monomial.column, signals, w)
        found = found * row[:, :, None] * column[:, None, :]
    for gate in monomial.gates:
        if isinstance(gate, Scalar):
            factor: Numbers = reward
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
