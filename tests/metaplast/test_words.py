"""Amounts in messages."""

import pytest

from metaplast.base.words import amount


@pytest.mark.parametrize(
    ("number", "many", "one", "text"),
    [
        (0, "trials", None, "0 trials"),
        (1, "trials", None, "1 trial"),
        (2, "trials", None, "2 trials"),
        (1, "groups of trials", None, "1 group of trials"),
        (1, "parts of the last steps", None, "1 part of the last steps"),
        (1, "inputs are", "input is", "1 input is"),
        (3, "inputs are", "input is", "3 inputs are"),
    ],
)
def test_an_amount_of_one_is_singular(number, many, one, text):
    assert amount(number, many, one) == text
