"""The model along a trajectory, with its derivatives, piece by piece so that memory is bounded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.recordings.arrays import Flags, Places
from metaplast.recordings.losses import Loss
from metaplast.recordings.model import Layer
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.trajectory import Trajectory

# Numbers that the derivatives of one piece take: 32 MB.
_MOST = 4_000_000


@dataclass(frozen=True, eq=False)
class Parameters:
    """All that is fitted.

    Attributes:
        theta: coefficients, [term].
        scale: of the given initial weights.
        gain: of the observed activity.
        shift: added to the given initial weights, [post, pre] by animal; empty if they are not
            fitted.
    """

    theta: Numbers
    scale: float = 1.0
    gain: float = 1.0
    shift: Mapping[int, Numbers] = field(default_factory=dict)


@dataclass(frozen=True)
class Free:
    """What is fitted beside θ.

    Attributes:
        scale: the scale of the given initial weights.
        gain: the gain of the observed activity.
        initial: the initial weights themselves, the same for all trials of an animal up to what
            their given initial weights differ by.
    """

    scale: bool = False
    gain: bool = False
    initial: bool = False

    @property
    def count(self) -> int:
        """Number of parameters beside θ, without initial weights."""
        return self.scale + self.gain


NOTHING = Free()


class DivergedError(ArithmeticError):
    """The weights of a trajectory grew beyond all bounds."""


@dataclass(frozen=True, eq=False)
class SeenWeights:
    """Weights that were observed before a step.

    Attributes:
        observed: [post, pre]; 0 where nothing was observed.
        seen: whether it was, [post, pre].
        mean: the model's weights, [post, pre].
        slopes: their derivatives by the terms' coefficients, scale and gain, [post, parameter,
            pre].
        own: their derivatives by the initial weights of the neuron itself, [post, pre at the
            start, pre].
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
        seen: whether it was, [time, place].
        mean: expected values, [time, place].
        slopes: their derivatives by the terms' coefficients, scale and gain, [time, place,
            parameter].
        own: their derivatives by the initial weights of the neuron itself, [time, post, pre].
        weights: those that were observed before the first of these steps, or None.
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
    """How to go through a trajectory.

    Attributes:
        layer: the network.
        loss: of the observations.
        terms: of the rule.
        free: what is fitted beside θ.
        slopes: whether derivatives are wanted.
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
        from metaplast.recordings.kernel import advance

        posts = len(each.initial)
        theta, powers = _coefficients(self.terms, at.theta, only_active=not self.slopes)
        weights = at.scale * each.initial
        if at.shift:
            weights = weights + at.shift[each.animal]
        weights = np.ascontiguousarray(weights, dtype=float)
        carried = self._carried(each, len(theta))
        length = max(1, _MOST // (posts * max(carried.shape[1], 1)))
        starts = sorted({*range(0, each.steps, length), *each.weights})
        for start, end in pairwise([*starts, each.steps]):
            span, seen = slice(start, end), self._seen(each, start, weights, carried)
            steps = span.stop - start
            y, dy = np.empty((steps, posts)), np.empty((steps, posts, carried.shape[1]))
            fine = advance(
                self.layer.code, self.layer.eta, theta, powers, each.inputs[span],
                each.reward[span], each.plastic[span], weights, carried, y, dy,
            )  # fmt: skip
            if not fine:
                raise DivergedError
            yield self._piece(each, span, at, y, dy, seen)

    def _seen(
        self, each: Trajectory, start: int, weights: Numbers, carried: Numbers
    ) -> SeenWeights | None:
        """Return what was observed of the weights before a step, with copies of the model's."""
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

    def _carried(self, each: Trajectory, terms: int) -> Numbers:
        """Return ∂W_0/∂parameter, [post, parameter, pre]."""
        posts, pres = each.initial.shape
        if not self.slopes:
            return np.zeros((posts, 0, pres))
        count = terms + self.free.scale + (pres if self.free.initial else 0)
        found = np.zeros((posts, count, pres))
        if self.free.scale:
            found[:, terms] = each.initial
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


def _coefficients(
    terms: Sequence[MonomialTerm], theta: Numbers, *, only_active: bool
) -> tuple[Numbers, Places]:
    """Return θ and the exponents of the terms, without those whose θ is 0 if `only_active`."""
    kept = [i for i in range(len(terms)) if not only_active or theta[i] != 0]
    powers = np.array([terms[i].exponents for i in kept], dtype=np.int64).reshape(-1, 4)
    chosen = np.array([theta[i] for i in kept], dtype=float)
    return chosen, powers
