"""The fused engine's softplus: as exact as the library's, and only where it was asked for."""

import numba
import numpy as np
import pytest

from metaplast.engines.fused.program import SOFTPLUS
from metaplast.engines.fused.sweeps import activate

pytestmark = pytest.mark.slow  # Compiled for this file alone.
BETA = 10
GAP = 37


@numba.njit
def run(s, y, k, count, beta):
    activate(SOFTPLUS, s, 0, y, k, count, beta)


def computed(z):
    """Return softplus and its derivative, and what lies behind them in memory."""
    room = len(z) + GAP
    s = np.full(3 * room, 7, z.dtype)
    s[: len(z)] = z
    run(s, room, 2 * room, len(z), z.dtype.type(BETA))
    y, k = s[room : 2 * room], s[2 * room :]
    return y[: len(z)], k[: len(z)], np.concatenate([y[len(z) :], k[len(z) :]])


def expected(z):
    t = z.dtype.type(BETA) * z  # Rounded as in the kernel.
    t = t.astype(np.longdouble)
    u = np.exp(-abs(t))
    return (np.maximum(t, 0) + np.log1p(u)) / BETA, np.where(t >= 0, 1, u) / (1 + u)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("count", [1, 15, 16, 24, 5000])
def test_it_is_right_to_a_few_units_in_the_last_place_and_writes_nothing_else(count, dtype):
    draw = np.random.default_rng(count)
    z = (draw.standard_normal(count) * 10.0 ** draw.uniform(-6, 0.5, count)).astype(dtype)
    y, k, behind = computed(z)
    epsilon = float(np.finfo(dtype).eps)
    for found, wanted in zip((y, k), expected(z), strict=True):
        assert (abs(found - wanted) <= 3 * epsilon * wanted).all()
    assert (behind == 7).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_numbers(dtype):
    z = np.array([np.nan, np.inf, -np.inf, 0, 1e30, -1e30, -9], dtype)
    y, k, _ = computed(z)
    np.testing.assert_allclose(
        y, [np.nan, np.inf, 0, np.log(2) / BETA, 1e30, 0, 0], rtol=1e-6, atol=1e-37
    )
    np.testing.assert_allclose(k, [np.nan, 1, 0, 0.5, 1, 0, 0], rtol=1e-6, atol=1e-37)
