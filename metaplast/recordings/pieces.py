"""The model and its derivatives along a trajectory, in pieces so that memory stays bounded."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.recordings.arrays import Flags
from metaplast.recordings.losses import Loss
from metaplast.recordings.memory import Clock
from metaplast.recordings.model import Layer
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.remembering import clocks_of
from metaplast.recordings.steps import PlainSteps, RememberingSteps, Steps
from metaplast.recordings.trajectory import Trajectory

# The derivatives of one piece hold at most this many numbers (32 MB).
_MOST = 4_000_000


@dataclass(frozen=True, eq=False)
class Parameters:
    """All fitted values.

    Attributes:
        theta: coefficients, [term].
        scale: the scale of the given initial weights.
        gain: the gain of the observed activity.
        log_taus: logarithms of the fitted time constants, in the order of `Free.clocks`.
        shift: added to the given initial weights, [post, pre] by animal; empty if they are not
            fitted.
    """

    theta: Numbers
    scale: float = 1.0
    gain: float = 1.0
    shift: Mapping[int, Numbers] = field(default_factory=dict)
    log_taus: tuple[float, ...] = ()

    def others(self, free: Free) -> list[float]:
        """Return all fitted values except θ and initial weights, in the order of the slopes."""
        return [*self.log_taus, *([self.scale] * free.scale), *([self.gain] * free.gain)]


@dataclass(frozen=True)
class Free:
    """Which parameters are fitted together with θ.

    Attributes:
        scale: the scale of the given initial weights.
        gain: the gain of the observed activity.
        initial: the initial weights themselves: one fitted matrix for each animal, added to the
            given initial weights of each of its trials.
        clocks: time constants of traces and eligibilities.
    """

    scale: bool = False
    gain: bool = False
    initial: bool = False
    clocks: tuple[Clock, ...] = ()

    @property
    def count(self) -> int:
        """Number of parameters other than θ and initial weights."""
        return len(self.clocks) + self.scale + self.gain


NOTHING = Free()


class DivergedError(ArithmeticError):
    """The weights of a trajectory diverged."""


@dataclass(frozen=True, eq=False)
class SeenWeights:
    """The weights that were observed before a step.

    Attributes:
        observed: [post, pre]; 0 where nothing was observed.
        seen: whether a weight was observed, [post, pre].
        mean: the model's weights, [post, pre].
        slopes: their derivatives with respect to the terms' coefficients, log τ, scale and gain,
            [post, parameter, pre].
        own: their derivatives with respect to the neuron's own initial weights,
            [post, pre at the start, pre].
    """

    observed: Numbers
    seen: Flags
    mean: Numbers
    slopes: Numbers
    own: Numbers


@dataclass(frozen=True, eq=False)
class Piece:
    """Some steps of a trajectory.

    Attributes:
        span: the steps.
        observed: [time, place]; 0 where nothing was observed.
        seen: whether anything was observed, [time, place].
        mean: expected values, [time, place].
        slopes: their derivatives with respect to the terms' coefficients, log τ, scale and gain,
            [time, place, parameter].
        own: their derivatives with respect to the neuron's own initial weights, [time, post, pre].
        weights: the weights that were observed before the first of these steps, or None.
    """

    span: slice
    observed: Numbers
    seen: Flags
    mean: Numbers
    slopes: Numbers
    own: Numbers
    weights: SeenWeights | None


@dataclass(frozen=True)
class Walk:
    """How to run the model along a trajectory.

    Attributes:
        layer: the network.
        loss: the loss of the observations.
        terms: the terms of the rule.
        free: the parameters that are fitted besides θ.
        slopes: whether to compute derivatives.
    """

    layer: Layer
    loss: Loss
    terms: tuple[MonomialTerm, ...]
    free: Free
    slopes: bool = True

    def pieces(self, each: Trajectory, at: Parameters) -> Iterator[Piece]:
        """Yield the pieces of a trajectory in order.

        Raises:
            DivergedError: if the weights diverge.
        """
        posts = len(each.initial)
        steps = self._steps(at)
        weights = at.scale * each.initial
        if at.shift:
            weights = weights + at.shift[each.animal]
        weights = np.ascontiguousarray(weights, dtype=float)
        carried = self._carried(each)
        steps.begin(carried)
        length = max(1, _MOST // (posts * max(carried.shape[1], 1)))
        starts = sorted({*range(0, each.steps, length), *each.weights})
        for start, end in pairwise([*starts, each.steps]):
            span, seen = slice(start, end), self._seen(each, start, weights, carried)
            count = span.stop - start
            y, dy = np.empty((count, posts)), np.empty((count, posts, carried.shape[1]))
            if not steps.advance(each, span, weights, carried, y, dy):
                raise DivergedError
            yield self._piece(each, span, at, y, dy, seen)

    def _seen(
        self, each: Trajectory, start: int, weights: Numbers, carried: Numbers
    ) -> SeenWeights | None:
        """Return the weights observed before a step, with copies of the model's weights."""
        observed = each.weights.get(start)
        if observed is None:
            return None
        seen = np.isfinite(observed)
        last = carried.shape[1] - (carried.shape[2] if self.slopes and self.free.initial else 0)
        slopes = carried[:, :last].copy()
        if self.slopes and self.free.gain:
            slopes = np.pad(slopes, ((0, 0), (0, 1), (0, 0)))
        own = carried[:, last:].copy()
        return SeenWeights(np.where(seen, observed, 0.0), seen, weights.copy(), slopes, own)

    def _steps(self, at: Parameters) -> Steps:
        kept = [i for i in range(len(self.terms)) if self.slopes or at.theta[i] != 0]
        terms, theta = [self.terms[i] for i in kept], np.array([at.theta[i] for i in kept])
        if not clocks_of(terms):
            return PlainSteps(self.layer, terms, theta)
        taus = dict(zip(self.free.clocks, map(math.exp, at.log_taus), strict=True))
        return RememberingSteps(self.layer, terms, theta, taus, self.free.clocks)

    def _carried(self, each: Trajectory) -> Numbers:
        """Return ∂W_0/∂parameter, [post, parameter, pre]."""
        posts, pres = each.initial.shape
        if not self.slopes:
            return np.zeros((posts, 0, pres))
        before = len(self.terms) + len(self.free.clocks)
        count = before + self.free.scale + (pres if self.free.initial else 0)
        found = np.zeros((posts, count, pres))
        if self.free.scale:
            found[:, before] = each.initial
        if self.free.initial:
            found[:, -pres:] = np.eye(pres)
        return found

    def _piece(
        self, each: Trajectory, span: slice, at: Parameters, y: Numbers, dy: Numbers,
        weights: SeenWeights | None,
    ) -> Piece:  # fmt: skip
        observed = each.observed[span]
        seen = ~np.isnan(observed)
        mean = self.loss.within(self.layer.mean(y, at.gain))
        slopes, own = np.zeros((*mean.shape, 0)), np.zeros((*y.shape, 0))
        if self.slopes:
            last = dy.shape[2] - (each.initial.shape[1] if self.free.initial else 0)
            slopes = self.layer.slopes(y, mean, dy[:, :, :last], at.gain)
            if self.free.gain:
                by_gain = self.layer.gain_slope(y, mean)
                slopes = np.concatenate([slopes, by_gain[:, :, None]], 2)
            own = at.gain * dy[:, :, last:]
        return Piece(span, np.where(seen, observed, 0.0), seen, mean, slopes, own, weights)
