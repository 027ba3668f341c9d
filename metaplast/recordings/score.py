"""Standard errors, and score tests, which find absent terms that would improve the fit.

For a candidate k and the fitted parameters S, the contribution of cluster c is

    v_ck = u_ck − H_kS H_SS⁻¹ u_cS,

and z_k = Σ_c v_ck / √Σ_c v_ck². If the fitted rule is the true one, the sign of each cluster's
contribution is random. The p value of a candidate is therefore the share of draws of random signs
in which the largest |z| over all candidates is at least as large. One sign for all candidates in a
cluster preserves the correlations between candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metaplast.base.bands import LEVEL, Numbers
from metaplast.base.seeds import numpy_generator
from metaplast.recordings.fit import Fit, solved
from metaplast.recordings.losses import Loss
from metaplast.recordings.moments import Moments
from metaplast.recordings.quadratic import Quadratic

FLIPS = 2000


@dataclass(frozen=True, eq=False)
class ScoreTest:
    """The test of all absent candidates at once.

    Attributes:
        z: the statistic of each candidate in the pool; 0 for those in the model, [candidate].
        p: share of draws of random signs in which the largest |z| is at least as large,
            [candidate].
        gain: by how much each would lower the deviance, in units of the dispersion, [candidate].
    """

    z: Numbers
    p: Numbers
    gain: Numbers


def score_test(
    moments: Moments, kept: Sequence[int], quadratic: Quadratic, candidates: int, *, seed: int = 0
) -> ScoreTest:
    """Return the test of the candidates that are not `kept`.

    Args:
        moments: sums over the whole pool, at the fit of the terms `kept`.
        kept: indices of the terms in the model.
        quadratic: the quadratic deviance of the same moments.
        candidates: number of terms in the pool.
        seed: seed of the random signs.
    """
    absent = [k for k in range(candidates) if k not in set(kept)]
    z, p, gain = np.zeros(candidates), np.ones(candidates), np.zeros(candidates)
    if not absent:
        return ScoreTest(z, p, gain)
    index = [*kept, *quadratic.always]
    parts = moments.score[:, absent]
    if index:
        own = quadratic.information[np.ix_(index, index)]
        cross = quadratic.information[np.ix_(index, absent)]
        parts = parts - moments.score[:, index] @ solved(own, cross)
    norm = np.sqrt(np.square(parts).sum(0))
    parts = parts / np.where(norm > 0, norm, 1.0)
    z[absent] = parts.sum(0)
    draw = numpy_generator(seed, "infer", "signs")
    signs = draw.choice([-1.0, 1.0], size=(FLIPS, len(parts)))
    largest = np.abs(signs @ parts).max(1)
    above = (largest[:, None] >= np.abs(z[absent]) - 1e-12).sum(0)
    p[absent] = (1 + above) / (1 + FLIPS)
    gain[absent] = quadratic.gains(kept, absent)
    return ScoreTest(z, p, gain)


def quadratic_of(
    moments: Moments, theta: Numbers, loss: Loss, scale: Sequence[float] = ()
) -> Quadratic:
    """Return the quadratic deviance at a fit.

    Args:
        moments: sums over the whole pool.
        theta: coefficients of the whole pool, [candidate].
        loss: the loss of the observations.
        scale: values of the other parameters.
    """
    point = np.concatenate([theta, scale])
    information = moments.information.sum(0)
    gradient = information @ point + moments.score.sum(0)
    always = tuple(range(len(theta), len(point)))
    return Quadratic(information, gradient, dispersion(moments, len(point), loss), always)


def dispersion(moments: Moments, parameters: int, loss: Loss) -> float:
    """Return φ: the variance of the noise, or 1 if the loss fixes it."""
    if not loss.has_noise:
        return 1.0
    free = max(float(moments.count.sum()) - parameters, 1.0)
    # Exact data have no noise; use the size of rounding errors instead.
    return max(moments.total / free, 1e-28)


@dataclass(frozen=True, eq=False)
class Errors:
    """Standard errors of the terms in a model.

    Attributes:
        value: the standard error of each, [term]: the larger of the two below.
        by_clusters: from the differences between clusters, [term].
        by_model: from the information and the dispersion, [term].
        quantile: the quantile of Student's t for a two-sided interval at level `LEVEL`.
        clocks: standard errors of log τ, [clock], as in `value`.
    """

    value: Numbers
    by_clusters: Numbers
    by_model: Numbers
    quantile: float
    clocks: Numbers


def errors(found: Fit, loss: Loss) -> Errors:
    """Return the standard errors of a fit.

    By clusters: H⁻¹ (Σ u_c u_cᵀ) H⁻¹ C/(C − 1) for C clusters, which to first order equals a
    bootstrap over clusters.
    """
    from scipy.special import stdtrit

    moments, terms = found.moments, len(found.terms)
    count = moments.score.shape[1]
    clusters = len(moments.deviance)
    if not count:
        empty = np.zeros(0)
        return Errors(empty, empty, empty, 0.0, empty)
    inverse = solved(moments.information.sum(0), np.eye(count))
    by_model = np.sqrt(np.maximum(np.diag(inverse) * dispersion(moments, count, loss), 0.0))
    spread = moments.score.T @ moments.score * clusters / max(clusters - 1, 1)
    by_clusters = np.sqrt(np.maximum(np.diag(inverse @ spread @ inverse), 0.0))
    value = np.maximum(by_model, by_clusters)
    quantile = float(stdtrit(max(clusters - 1, 1), (1 + LEVEL) / 2))
    clocks = value[terms : terms + len(found.parameters.log_taus)]
    return Errors(value[:terms], by_clusters[:terms], by_model[:terms], quantile, clocks)
