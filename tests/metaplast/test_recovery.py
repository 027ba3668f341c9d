"""The verdict on a found rule beside the planted one."""

import pytest

from metaplast.rules.recovery import Recovery
from metaplast.rules.rule import Rule
from metaplast.terms.library import get_term


def rule(*rows, terms=("error_hebbian", "oja")):
    return Rule(tuple(map(get_term, terms)), rows, "fixed")


PLANTED = rule((0.1, -0.02))


def test_the_same_terms_in_any_order_within_the_tolerance_are_recovered():
    found = rule((-0.0206, 0.1), terms=("oja", "error_hebbian"))
    recovery = Recovery(PLANTED, found)
    assert recovery.is_exact
    assert recovery.is_recovered
    assert recovery.errors == pytest.approx({"error_hebbian": 0, "oja": 0.03})
    assert str(recovery) == "support recovered exactly, coefficients within 3.0%"


@pytest.mark.parametrize(
    ("found", "missing", "extra", "worst"),
    [
        (rule((0.1, 0.02)), (), (), 2.0),
        (rule((-0.02, 0.1)), (), (), 6.0),
        (rule((0.1, -0.022)), (), (), 0.1),
        (rule((0.1,), terms=("error_hebbian",)), ("oja",), (), 1.0),
        (rule((0.1, -0.02, 1e-9), terms=("error_hebbian", "oja", "decay")), (), ("decay",), 0.0),
        (rule((0.1, -0.02), terms=("error_error", "oja")), ("error_hebbian",), ("error_error",), 1),
        (rule((), terms=()), ("error_hebbian", "oja"), (), 1.0),
    ],
    ids=["sign", "swapped", "far", "missing", "extra", "other", "nothing"],
)
def test_what_differs_is_not_recovered(found, missing, extra, worst):
    recovery = Recovery(PLANTED, found)
    assert not recovery.is_recovered
    assert (recovery.missing, recovery.extra) == (missing, extra)
    assert recovery.worst == pytest.approx(worst)
    assert recovery.is_exact == (not missing and not extra)


def test_errors_per_layer_are_relative_to_the_largest_layer():
    planted = rule((0.1, 0.0), (0.2, 0.4))
    found = rule((0.11, 0.02), (0.2, 0.4))
    assert Recovery(planted, found).errors == pytest.approx({"error_hebbian": 0.05, "oja": 0.05})
    # One row for all layers stands for as many equal ones.
    assert Recovery(PLANTED, rule((0.1, -0.02), (0.1, -0.03))).worst == pytest.approx(0.5)
