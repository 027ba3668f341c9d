"""Engines and a short discovery give the digits that were written earlier."""

import json

import pytest
from golden.digits import FILE, cases, discovery_digits, engine_digits

WRITTEN = json.loads(FILE.read_text(encoding="utf-8"))
CASES = {name: (engine, options) for name, engine, options in cases()}


def assert_same_digits(found, written):
    assert len(found) == len(written)
    scale = max(map(abs, written))
    assert max(abs(a - b) for a, b in zip(found, written, strict=True)) <= 1e-12 * scale


def test_every_case_is_written():
    assert set(WRITTEN) == {*CASES, "discovery"}


def slow_unless_whole(name):
    """Mark a case as slow, unless it has all terms, and other coefficients in each layer."""
    is_whole = name.startswith("pool") and "per-layer" in name
    return name if is_whole else pytest.param(name, marks=pytest.mark.slow)


@pytest.mark.parametrize("name", [*map(slow_unless_whole, CASES)])
def test_engine(name):
    assert_same_digits(engine_digits(*CASES[name]), WRITTEN[name])


@pytest.mark.slow
def test_discovery():
    assert_same_digits(discovery_digits(), WRITTEN["discovery"])
