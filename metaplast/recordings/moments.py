"""The sums over the data that a fit needs, for each cluster; the whole Jacobian is never stored.

For parameters p with slopes J = ∂μ/∂p, residual score s and weight w at each observation,

    deviance_c = Σ D,    u_c = Σ s J  [parameter],    H_c = Σ w J Jᵀ  [parameter, parameter],

over the observations of cluster c. A weight that was observed as V adds λ (V − W)². Its precision λ
is the variance φ of the other observations divided by the variance of the noise on weights.

If initial weights are fitted, each row of W has its own block b of parameters. J is then replaced
by J − P J_b with P = B C⁻¹, B = Σ w J J_bᵀ, C = Σ w J_b J_bᵀ. This eliminates the blocks: u and H
of the other parameters then account for initial weights that are fitted together with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.recordings.arrays import Places
from metaplast.recordings.journal import Journal
from metaplast.recordings.losses import Loss
from metaplast.recordings.model import Layer
from metaplast.recordings.monomial import MonomialTerm
from metaplast.recordings.pieces import NOTHING, Free, Parameters, Piece, SeenWeights, Walk
from metaplast.recordings.trajectory import Data

# A ridge on fitted initial weights, relative to their mean information: the inputs may not span the
# whole input space.
_RIDGE = 1e-9


@dataclass(frozen=True, eq=False)
class Blocks:
    """The information about fitted initial weights, by animal and neuron.

    Attributes:
        projection: P = B C⁻¹, [post, parameter, pre] by animal.
        step: C⁻¹ Σ s J_b, the step of the weights if nothing else changes, [post, pre] by animal.
        promised: by how much this step is predicted to lower the deviance.
    """

    projection: Mapping[int, Numbers]
    step: Mapping[int, Numbers]
    promised: float


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the observations of each cluster.

    Attributes:
        deviance: [cluster].
        count: observations, [cluster].
        score: u, [cluster, parameter]; the terms come first, then log τ, scale and gain.
        information: H, [cluster, parameter, parameter].
        blocks: the blocks of fitted initial weights, or None.
        weights: the sum of the squared errors of observed weights, and the number of these weights.
    """

    deviance: Numbers
    count: Numbers
    score: Numbers
    information: Numbers
    blocks: Blocks | None = None
    weights: tuple[float, int] = (0.0, 0)

    @property
    def total(self) -> float:
        """The deviance of all clusters."""
        return float(self.deviance.sum())


@dataclass(frozen=True, eq=False)
class Problem:
    """Data with a model and a loss.

    Attributes:
        data: the trajectories.
        layer: the network.
        loss: the loss of the observations.
        free: the parameters that are fitted besides θ.
        precision: λ, the precision of an observed weight.
        journal: the journal of fits.
    """

    data: Data
    layer: Layer
    loss: Loss
    free: Free = NOTHING
    precision: float = 1.0
    journal: Journal = field(default_factory=Journal)

    def deviances(
        self, terms: tuple[MonomialTerm, ...], at: Parameters, *, test: bool = False
    ) -> tuple[Numbers, Numbers]:
        """Return the deviance and the number of observations of each cluster or held-out unit.

        Raises:
            DivergedError: if the weights diverge.
        """
        units = self.data.tests if test else self.data.clusters
        deviance, count = np.zeros(units), np.zeros(units)
        walk = Walk(self.layer, self.loss, terms, self.free, slopes=False)
        for each in self.data.trajectories:
            for piece in walk.pieces(each, at):
                unit = (each.test if test else each.cluster)[piece.span]
                inside = unit >= 0
                values = np.where(piece.seen, self.loss.deviance(piece.observed, piece.mean), 0.0)
                np.add.at(deviance, unit[inside], values[inside].sum(1))
                np.add.at(count, unit[inside], piece.seen[inside].sum(1))
                if piece.weights is not None and unit[0] >= 0:
                    deviance[unit[0]] += self.precision * _squares(piece.weights)
                    count[unit[0]] += piece.weights.seen.sum()
        return deviance, count

    def moments(self, terms: tuple[MonomialTerm, ...], at: Parameters) -> Moments:
        """Return the sums at the parameters `at`; coefficients may be zero.

        Raises:
            DivergedError: if the weights diverge.
        """
        walk = Walk(self.layer, self.loss, terms, self.free)
        blocks = _blocks(self, walk, at) if self.free.initial else None
        parameters = len(terms) + self.free.count
        clusters = self.data.clusters
        deviance, count = np.zeros(clusters), np.zeros(clusters)
        score = np.zeros((clusters, parameters))
        information = np.zeros((clusters, parameters, parameters))
        squares, number = 0.0, 0
        for each in self.data.trajectories:
            projection = None if blocks is None else blocks.projection[each.animal]
            for piece in walk.pieces(each, at):
                slopes = piece.slopes
                if projection is not None:
                    slopes = slopes - np.einsum("iqj,tij->tiq", projection, piece.own)
                for cluster, part in _runs(each.cluster[piece.span]):
                    used = piece.seen[part]
                    observed, mean = piece.observed[part][used], piece.mean[part][used]
                    own = slopes[part][used]
                    weighted = self.loss.weight(mean)[:, None] * own
                    deviance[cluster] += self.loss.deviance(observed, mean).sum()
                    count[cluster] += len(observed)
                    score[cluster] += weighted.T @ (observed - mean)
                    information[cluster] += weighted.T @ own
                cluster, weights = each.cluster[piece.span.start], piece.weights
                if weights is not None and cluster >= 0:
                    residuals, own = _of_weights(weights, projection)
                    squares, number = squares + float(residuals @ residuals), number + len(own)
                    deviance[cluster] += self.precision * residuals @ residuals
                    count[cluster] += len(own)
                    score[cluster] += self.precision * residuals @ own
                    information[cluster] += self.precision * own.T @ own
        return Moments(deviance, count, score, information, blocks, (squares, number))


def _squares(weights: SeenWeights) -> float:
    return float(np.square(np.where(weights.seen, weights.observed - weights.mean, 0.0)).sum())


def _of_weights(weights: SeenWeights, projection: Numbers | None) -> tuple[Numbers, Numbers]:
    """Return the residual of each observed weight, and its derivatives, [weight, parameter]."""
    slopes = weights.slopes
    if projection is not None:
        slopes = slopes - projection @ weights.own
    residuals = (weights.observed - weights.mean)[weights.seen]
    return residuals, slopes.swapaxes(1, 2)[weights.seen]


def _blocks(problem: Problem, walk: Walk, at: Parameters) -> Blocks:
    """Eliminate the initial weights of each row of W from the normal equations."""
    count = len(walk.terms) + walk.free.count
    sums: dict[int, tuple[Numbers, Numbers, Numbers]] = {}
    for each in problem.data.trajectories:
        posts, pres = each.initial.shape
        empty = [np.zeros((posts, size, pres)) for size in (count, pres, 1)]
        cross, own, score = sums.setdefault(each.animal, (empty[0], empty[1], empty[2]))
        for piece in walk.pieces(each, at):
            used = piece.seen & (each.cluster[piece.span] >= 0)[:, None]
            weight = np.where(used, problem.loss.weight(piece.mean), 0.0)
            residual = piece.observed - piece.mean
            for i in range(posts):
                part = weight[:, i, None] * piece.own[:, i]
                cross[i] += piece.slopes[:, i].T @ part
                own[i] += part.T @ piece.own[:, i]
                score[i, 0] += residual[:, i] @ part
            weights = piece.weights
            if weights is None or each.cluster[piece.span.start] < 0:
                continue
            seen = problem.precision * weights.seen
            part = (seen[:, None] * weights.own).swapaxes(1, 2)
            cross += weights.slopes @ part
            own += weights.own @ part
            score += (weights.observed - weights.mean)[:, None] @ part
    found = {animal: _eliminated(*own) for animal, own in sums.items()}
    return Blocks(
        {animal: each[0] for animal, each in found.items()},
        {animal: each[1] for animal, each in found.items()},
        sum(each[2] for each in found.values()),
    )


def _eliminated(cross: Numbers, own: Numbers, score: Numbers) -> tuple[Numbers, Numbers, float]:
    pres = own.shape[2]
    size = np.einsum("ijj->i", own) / pres
    own = own + (_RIDGE * size + 1e-300)[:, None, None] * np.eye(pres)
    projection = np.asarray(np.linalg.solve(own, cross.swapaxes(1, 2)), float).swapaxes(1, 2)
    step = np.asarray(np.linalg.solve(own, score.swapaxes(1, 2)), float)[:, :, 0]
    return projection, step, float((score[:, 0] * step).sum())


def _runs(clusters: Places) -> list[tuple[int, slice]]:
    """Return the stretches of consecutive steps of one cluster, without held-out steps."""
    ends = np.flatnonzero(np.diff(clusters)) + 1
    bounds = [0, *ends.tolist(), len(clusters)]
    parts = [slice(a, b) for a, b in pairwise(bounds)]
    return [(int(clusters[part.start]), part) for part in parts if clusters[part.start] >= 0]


__all__ = ["Blocks", "Free", "Moments", "Parameters", "Piece", "Problem"]
