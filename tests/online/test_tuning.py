"""The search for coefficients finds known optima, grows its grid, and says when it cannot."""

import math

import pytest
from support import named

from metaplast.online.tuning import GRID, Quality, Search, Trial


def search(terms, height):
    """Return a finished search of a landscape: `height` maps coefficients to accuracy."""
    found = Search(named(*terms), lambda theta: Trial(theta, Quality(height(*theta), 0.0)))
    found.run()
    return found


def peak(at):
    return lambda rate: -((math.log10(abs(rate) or 1e-30) - math.log10(at)) ** 2)


@pytest.mark.parametrize("at", [1e-6, 3.2e-4, 1e-2, 0.5, 30.0])
def test_one_rate_is_found_to_an_eighth_of_a_decade_inside_and_beyond_the_grid(at):
    found = search(["error_hebbian"], peak(at))
    assert abs(math.log10(found.best.theta[0] / at)) <= 0.125 + 1e-3
    assert found.at_edge == []


def test_a_rate_beyond_all_limits_is_reported():
    assert search(["error_hebbian"], lambda rate: rate).at_edge == ["error_hebbian"]


def test_a_rate_that_only_harms_ends_at_zero():
    found = search(["error_hebbian"], lambda rate: -rate)
    assert found.best.theta == (0.0,)
    assert found.at_edge == []


def test_the_grid_is_not_grown_where_nothing_is_gained():
    found = search(["error_hebbian"], peak(1e-2))
    assert len(found.trials) == 1 + len(GRID) + 2


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("rate", "other"), [(30.0, 1e-2), (1e-6, 1e-2), (1e-2, 30.0), (1e-2, 1e-6), (1e-2, 3e-3)]
)
def test_the_grid_grows_for_each_of_two_coefficients(rate, other, whole):
    def height(first, second):
        return peak(rate)(first) + (peak(other)(second) if second > 0 else -60)

    found = Search(
        named("error_hebbian", "oja"),
        lambda theta: Trial(theta, Quality(height(*theta), 0.0)),
        whole,
    )
    # Where a term must take part, its grid ends where it would hardly act.
    ends = whole and other < 10 ** (GRID[0] / 4)
    theta = found.run().theta
    assert abs(math.log10(theta[0] / rate)) <= 0.26
    assert ends or abs(math.log10(theta[1] / other)) <= 0.26
    assert found.at_edge == (["oja"] if ends else [])


def test_signs_and_interaction_are_found():
    def height(rate, other):
        a = 1 + math.log10(abs(rate) or 1e-30)
        if other >= 0:
            return -9 - (a + 1) ** 2  # Without the other term the best rate is a tenth.
        b = 1 + math.log10(-other)
        return -(a**2 + b**2 + 1.2 * a * b)

    rate, other = search(["error_hebbian", "error_error"], height).best.theta
    assert abs(math.log10(rate / 0.1)) <= 0.5
    assert other < 0
    assert abs(math.log10(other / -0.1)) <= 0.5


def test_a_useless_term_stays_at_zero_and_decay_is_not_tried_below_it():
    found = search(["error_hebbian", "decay"], lambda rate, other: peak(1e-2)(rate) - abs(other))
    assert found.best.theta[1] == 0
    assert min(theta[1] for theta in found.trials) == 0
    assert found.at_edge == []


def test_a_term_without_which_no_rate_works_is_found():
    def height(rate, other):
        return peak(3e-3)(rate) + peak(3e-3)(other) if other > 0 else -50 + min(rate, 1e-6)

    rate, other = search(["error_hebbian", "oja"], height).best.theta
    assert abs(math.log10(rate / 3e-3)) <= 0.25
    assert abs(math.log10(other / 3e-3)) <= 0.25


def test_where_every_term_must_take_part_a_useless_one_is_as_small_as_the_grid():
    def attempt(theta):
        rate, other = theta
        return Trial(theta, Quality(peak(1e-2)(rate) - abs(other), 0.0))

    found = Search(named("error_hebbian", "oja"), attempt, whole=True)
    rate, other = found.run().theta
    assert abs(math.log10(rate / 1e-2)) <= 0.25
    assert abs(math.log10(abs(other)) - GRID[0] / 4) <= 0.26  # Half a grid step, rounded.
    assert found.at_edge == ["oja"]


def test_equal_accuracies_are_decided_by_the_loss():
    assert Quality(0.5, -1.0) > Quality(0.5, -math.inf)
    assert Quality(0.6, -9.0) > Quality(0.5, -1.0)
