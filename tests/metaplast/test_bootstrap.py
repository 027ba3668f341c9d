"""The bootstrap of means: the same ends as scipy's, and none that depend on rounding."""

import numpy as np
import pytest
from scipy import stats

from metaplast.base.bootstrap import bca_bands

RESAMPLES = 2000


def drawn() -> np.random.Generator:
    return np.random.default_rng(5)


@pytest.mark.parametrize(("count", "tail"), [(15, 0.01), (23, 0.005), (400, 0.02)])
def test_the_ends_are_those_of_scipy(count, tail):
    values = np.random.default_rng(count).exponential(size=(count, 6))
    low, high = bca_bands(values, tail, RESAMPLES, drawn())
    expected = stats.bootstrap(
        (values,), np.mean, axis=0, vectorized=True, method="BCa", n_resamples=RESAMPLES,
        batch=100, confidence_level=1 - 2 * tail, rng=drawn(),
    ).confidence_interval  # fmt: skip
    np.testing.assert_allclose(low, expected.low, rtol=1e-12)
    np.testing.assert_allclose(high, expected.high, rtol=1e-12)


def test_equal_means_count_as_equal_however_they_are_rounded():
    hits = np.random.default_rng(0).integers(0, 3, (40, 3)).astype(float)
    exact = bca_bands(hits, 0.01, RESAMPLES, drawn())
    # Sums of multiples of 0.1 are rounded; those of whole numbers are not.
    rounded = bca_bands(0.1 * hits, 0.01, RESAMPLES, drawn())
    np.testing.assert_allclose(rounded, np.multiply(0.1, exact), rtol=1e-12)


def test_values_without_spread_have_no_band():
    low, high = bca_bands(np.ones((12, 2)), 0.01, RESAMPLES, drawn())
    assert np.isnan([low, high]).all()


def test_many_values_are_drawn_in_several_parts(monkeypatch):
    values = np.random.default_rng(1).standard_normal((15, 2))
    whole = bca_bands(values, 0.01, RESAMPLES, drawn())
    monkeypatch.setattr("metaplast.base.bootstrap._AT_ONCE", 7 * 15)
    np.testing.assert_allclose(bca_bands(values, 0.01, RESAMPLES, drawn()), whole, rtol=1e-13)
