"""The gradient by reverse mode, beside the forward sensitivities."""

import numpy as np
import pytest
from recorded import planted, problem_of

from metaplast.recordings.long_gradient import gradient
from metaplast.recordings.model import ACTIVATIONS
from metaplast.recordings.monomial import monomial, taylor
from metaplast.recordings.pieces import DivergedError, Parameters

POOL = taylor(reward=True)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_reverse_mode_is_forward_mode(activation):
    arrays = planted("xyr=0.2,W=-0.05", activation=activation, eta=0.5).arrays
    arrays["activity"][:, 3, 1] = np.nan
    arrays["plastic"] = np.ones((3, 12))
    arrays["plastic"][:, 5] = 0
    problem = problem_of(arrays, activation=activation, eta=0.5)
    at = Parameters(0.01 * np.random.default_rng(0).normal(size=81), gain=1.5)
    total, found = gradient(problem, POOL, at)
    moments = problem.moments(POOL, at)
    assert total == pytest.approx(moments.total, rel=1e-12)
    assert found == pytest.approx(-2 * moments.score.sum(0), rel=1e-9, abs=1e-11)


@pytest.mark.parametrize("names", [("one",), ("x3", "w3", "y3"), ("r2",)])
def test_reverse_mode_of_other_exponents(names):
    terms = tuple(map(monomial, names))
    problem = problem_of(planted("xy=0.2", reward=True).arrays)
    at = Parameters(np.full(len(terms), 0.02))
    score = problem.moments(terms, at).score.sum(0)
    assert gradient(problem, terms, at)[1] == pytest.approx(-2 * score, rel=1e-9)


def test_weights_that_diverge_are_said():
    problem = problem_of(planted("xy=0").arrays)
    with pytest.raises(DivergedError):
        gradient(problem, (monomial("w"),), Parameters(np.array([9.0])))
