"""Bands: their level, how often they cover the truth, and their width for equal values."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from support import normal

import metaplast
from metaplast.base.bands import (
    BAND,
    DESCRIPTION,
    ENOUGH,
    LEVEL,
    Band,
    mean_band,
    mean_bands,
    median_bands,
)

# The possible range of a share, and of a difference of shares.
SHARE, CHANGE = (0.0, 1.0), (-1.0, 1.0)
ROOT = Path(metaplast.__file__).parents[1]
DRAWS = {
    # Name: how values are drawn, their mean, their median.
    "normal": (lambda draw, size: draw.normal(size=size), 0, 0),
    "skewed": (lambda draw, size: draw.exponential(size=size), 1, math.log(2)),
    "accuracy": (lambda draw, size: draw.binomial(50, 0.9, size=size) / 50, 0.9, 0.9),
}


def covered(ends, truth):
    return float(((ends[1] <= truth) & (truth <= ends[2])).mean())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "least"),
    [
        ("normal", 5, 0.97), ("normal", 10, 0.96), ("normal", 20, 0.965),
        ("accuracy", 5, 0.97), ("accuracy", 10, 0.96), ("accuracy", 20, 0.965),
        # Every known band covers the mean of a few skewed values less often than its level.
        ("skewed", 5, 0.915), ("skewed", 10, 0.935), ("skewed", 20, 0.955),
    ],
)  # fmt: skip
def test_bands_over_few_networks_cover_the_mean_as_often_as_they_say(name, count, least):
    draw, mean, _ = DRAWS[name]
    values = draw(np.random.default_rng(0), (count, 800))
    assert least <= covered(mean_bands(values), mean) <= 0.993


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWS)
def test_bands_over_many_episodes_cover_the_mean_as_often_as_they_say(name):
    draw, mean, _ = DRAWS[name]
    values = draw(np.random.default_rng(0), (400, 100))
    assert covered(mean_bands(values), mean) >= 0.95
    low, high = (np.abs(end - values.mean(0)).mean() for end in mean_bands(values)[1:])
    half = stats.norm.ppf(0.99) * values.std(0).mean() / 20
    assert low + high == pytest.approx(2 * half, rel=0.03)
    # For values with a long upper tail the band reaches further up.
    assert (high > 1.03 * low) == (name == "skewed")


def test_the_level_is_that_of_the_published_curves_and_of_the_names_in_print():
    assert LEVEL == 0.98
    assert BAND == "98 % band"
    assert BAND in DESCRIPTION


@pytest.mark.parametrize("level", [0.9, 0.98])
def test_another_level_can_be_asked_for(level):
    values = DRAWS["normal"][0](np.random.default_rng(1), (5, 2000))
    assert covered(mean_bands(values, level=level), 0) == pytest.approx(level, abs=0.015)


@pytest.mark.parametrize("count", [7, 20])
@pytest.mark.parametrize("name", ["normal", "skewed"])
def test_bands_of_medians_cover_the_median_of_any_distribution(name, count):
    draw, _, median = DRAWS[name]
    assert covered(median_bands(draw(np.random.default_rng(0), (count, 2000))), median) >= 0.975


def test_a_median_of_fewer_values_than_its_level_needs_has_an_open_band():
    median, low, high = median_bands(np.arange(6.0)[:, None])
    assert (median[0], low[0], high[0]) == (2.5, -math.inf, math.inf)
    median, low, high = median_bands(np.arange(7.0)[:, None])
    assert (median[0], low[0], high[0]) == (3, 0, 6)


def test_a_band_of_few_values_is_wider_than_their_range_allows_a_bootstrap_to_be():
    values = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    band = mean_band(values)
    half = 3.747 * values.std(ddof=1) / math.sqrt(5)  # Student's t of 4 degrees of freedom, 98 %.
    assert band.high - band.mean == pytest.approx(half, rel=1e-3)
    assert band.mean - band.low == pytest.approx(band.high - band.mean)


def test_bands_are_the_same_each_time_in_any_order_and_leave_numpy_alone():
    state = np.random.get_state()[1].tolist()
    values = normal(30)
    assert mean_band(values) == mean_band(values) == mean_band(values.flip(0))
    assert np.random.get_state()[1].tolist() == state


def test_a_place_has_the_band_that_it_has_alone():
    values = np.random.default_rng(0).normal(size=(25, 4))
    values[3:, 1], values[12:, 2], values[:, 3] = np.nan, np.inf, np.nan
    together = np.stack(mean_bands(values))
    for place, count in ((0, 25), (1, 3), (2, 12)):
        band = mean_band(values[:count, place])
        np.testing.assert_allclose(together[:, place], [band.mean, band.low, band.high], rtol=1e-12)
    assert np.isnan(together[:, 3]).all()


@pytest.mark.parametrize("count", [2, ENOUGH - 1, ENOUGH, 20])
def test_the_band_of_equal_numbers_has_no_width(count):
    assert mean_band(torch.full((count,), 0.3)) == Band(*[float(torch.tensor(0.3))] * 3)


def test_one_value_says_nothing_of_the_spread():
    assert mean_band(np.array([0.3]), SHARE) == Band(0.3, 0, 1)
    assert mean_band(np.array([0.3]), CHANGE) == Band(0.3, -1, 1)
    assert mean_band(np.array([0.3])) == Band(0.3, -math.inf, math.inf)


def test_a_band_ends_where_what_it_is_about_does():
    values = np.array([0.0, 1.0, 1.0, 1.0, 1.0])
    assert mean_band(values).high > 1
    assert mean_band(values, SHARE).high == 1


@pytest.mark.parametrize("count", [ENOUGH, 50])
def test_one_value_that_differs_leaves_a_band_about_the_mean(count):
    values = np.zeros(count)
    values[3] = 1
    band = mean_band(values, SHARE)
    assert 0 <= band.low < band.mean < band.high < 1


def test_where_the_bootstrap_has_no_answer_the_band_is_students(monkeypatch):
    values, nothing = normal(30).numpy(), np.full((2, 1), np.nan)
    monkeypatch.setattr("metaplast.base.bands._bootstrap", lambda values, level: nothing)
    band = mean_band(values)
    half = stats.t.ppf(0.99, 29) * values.std(ddof=1) / math.sqrt(30)
    assert (band.low, band.high) == pytest.approx((values.mean() - half, values.mean() + half))


def test_a_band_prints_as_percent():
    assert str(Band(0.5, 0.25, 0.755)) == "50.0 % [25.0, 75.5]"
    assert Band(0.5, 0.25, 0.755).points == "+50.0 [+25.0, +75.5]"


def test_the_level_is_written_in_one_place_of_the_code():
    files = itertools.chain.from_iterable(
        (ROOT / package).rglob("*") for package in ("metaplast", "rule_library", "scripts")
    )
    sources = [path for path in files if path.suffix in (".py", ".jinja", ".j2")]
    assert len(sources) > 100
    level = re.compile(r"\b\d\d(\.\d)?\s?%\s+([a-z]+ )*(bands?|interval)")
    stated = [path.name for path in sources if level.search(path.read_text("utf-8"))]
    assert stated == ["bands.py"]


@pytest.mark.parametrize("path", [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")], ids=str)
def test_the_documents_say_the_level_that_is_used(path):
    found = re.findall(r"([\d.]+)\s%\s+(?:[a-z]+ )*bands?\b", path.read_text("utf-8"))
    assert {float(level) / 100 for level in found} <= {LEVEL}
