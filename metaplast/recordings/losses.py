"""How far observations are from their expected values: one loss for each kind of observation.

For an observation o with expected value μ, each loss has the deviance D(o, μ), the derivative of
−D/2 with respect to μ, and the weight w = φ/Var(o) with the dispersion φ. The Fisher information is
Σ w ∂μ ∂μᵀ / φ.

    gaussian     D = (o − μ)²                               w = 1           φ = noise variance
    poisson      D = 2 (o log(o/μ) − o + μ)                 w = 1/μ         φ = 1
    bernoulli    D = −2 (o log μ + (1−o) log(1−μ))          w = 1/(μ(1−μ))  φ = 1
    categorical  D = −2 Σ_i o_i log μ_i, o one-hot          w = 1/μ_i       φ = 1
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from metaplast.base.bands import Numbers

# Probabilities and rates stay at least this far from values whose logarithm is infinite.
_TINY = 1e-12


class Loss(ABC):
    """A loss; all its functions are elementwise, over arrays of one shape."""

    name: ClassVar[str]
    has_noise: ClassVar[bool] = False

    def within(self, mean: Numbers) -> Numbers:
        """Return expected values, clipped to the range that the loss allows."""
        return mean

    @abstractmethod
    def deviance(self, observed: Numbers, mean: Numbers) -> Numbers:
        """Return D."""

    @abstractmethod
    def weight(self, mean: Numbers) -> Numbers:
        """Return w."""

    def score(self, observed: Numbers, mean: Numbers) -> Numbers:
        """Return −½ ∂D/∂μ."""
        return self.weight(mean) * (observed - mean)


class Gaussian(Loss):
    """Squared differences; the variance of the noise is estimated from the data."""

    name, has_noise = "gaussian", True

    def deviance(self, observed: Numbers, mean: Numbers) -> Numbers:
        """Return (o − μ)²."""
        return (observed - mean) ** 2

    def weight(self, mean: Numbers) -> Numbers:
        """Return ones."""
        return np.ones_like(mean)


class Poisson(Loss):
    """Counts."""

    name = "poisson"

    def within(self, mean: Numbers) -> Numbers:
        """Return rates of at least 1e-12."""
        return np.maximum(mean, _TINY)

    def deviance(self, observed: Numbers, mean: Numbers) -> Numbers:
        """Return 2 (o log(o/μ) − o + μ)."""
        log = np.log(np.maximum(observed, _TINY) / mean)
        return np.asarray(2 * (observed * log - observed + mean))

    def weight(self, mean: Numbers) -> Numbers:
        """Return 1/μ."""
        return 1 / mean


class Bernoulli(Loss):
    """Binary choices."""

    name = "bernoulli"

    def within(self, mean: Numbers) -> Numbers:
        """Return probabilities strictly between 0 and 1."""
        return np.clip(mean, _TINY, 1 - _TINY)

    def deviance(self, observed: Numbers, mean: Numbers) -> Numbers:
        """Return −2 log likelihood."""
        return np.asarray(-2 * np.log(np.where(observed > 0.5, mean, 1 - mean)))

    def weight(self, mean: Numbers) -> Numbers:
        """Return 1/(μ(1−μ))."""
        return 1 / (mean * (1 - mean))


class Categorical(Poisson):
    """One of several options; observations are one-hot, and the μ of a step sum to 1."""

    name = "categorical"

    def deviance(self, observed: Numbers, mean: Numbers) -> Numbers:
        """Return −2 o log μ."""
        return np.asarray(-2 * observed * np.log(mean))


LOSSES: Mapping[str, Loss] = MappingProxyType(
    {loss.name: loss for loss in (Gaussian(), Poisson(), Bernoulli(), Categorical())}
)
