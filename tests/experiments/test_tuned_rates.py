"""The factor by which learned coefficients are multiplied."""

import math

import pytest

from rule_library.experiments.tuned_rates import FIRST, MOST, STEP, best_factor


@pytest.mark.parametrize("best", [-7.3, -2, 0, 1.2, 2, 6.6])
def test_the_best_factor_is_found_wherever_it_is(best):
    factor, tried = best_factor(lambda f: -((math.log(f, STEP) - best) ** 2))
    assert factor == pytest.approx(STEP ** round(best))
    # Both neighbours of the best were tried.
    assert min(tried) < factor < max(tried)
    assert len(tried) <= 2 * FIRST + 2 + max(0, abs(round(best)) - FIRST)


def test_among_equals_the_nearest_to_one_is_taken_and_the_search_ends():
    assert best_factor(lambda _: 0.5)[0] == 1
    factor, tried = best_factor(lambda f: f)
    assert factor == pytest.approx(max(tried)) == pytest.approx(STEP**MOST)
    assert best_factor(lambda f: min(f, 2.0))[0] == pytest.approx(2)
