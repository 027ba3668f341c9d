"""Bands, places of labels, and files of figures."""

import itertools

import numpy as np
import pytest
from support import ACCURACY

from metaplast.base.bands import Band
from metaplast.report import complexity_figure, figures
from metaplast.report.canvas import _spread, inlined, look, save_figure, svg
from metaplast.report.complexity_figure import Size
from metaplast.report.curve import PLACES, Curve
from metaplast.report.figures import Trajectory
from metaplast.reproduce.panels import Panel, _shared_looks, figure_of


@pytest.mark.slow
def test_a_band_over_networks_covers_the_mean_as_often_as_it_says():
    draw = np.random.default_rng(1)
    curve = Curve.over_networks(range(400), draw.normal(size=(30, 400)))
    inside = ((curve.low < 0) & (curve.high > 0)).mean()
    assert 0.93 < inside < 0.995
    assert ((curve.low < curve.mean) & (curve.mean < curve.high)).all()


@pytest.mark.parametrize("median", [False, True])
def test_networks_without_a_number_have_no_part_in_a_curve(median):
    values = np.random.default_rng(1).normal(size=(9, 3))
    values[4:, 1], values[:, 2] = np.nan, np.inf
    curve = Curve.over_networks(range(3), values, median=median)
    middle = np.median if median else np.mean
    np.testing.assert_allclose(curve.mean[:2], [middle(values[:, 0]), middle(values[:4, 1])])
    assert curve.low[0] < curve.mean[0] < curve.high[0]
    # Four values are too few for the band of a median.
    assert np.isnan(curve.low[1]) == median
    assert np.isnan([curve.mean[2], curve.low[2], curve.high[2]]).all()


def test_a_line_over_one_network_has_no_band():
    curve = Curve.over_networks(range(2), np.array([[1.0, 2.0]]))
    assert curve.mean.tolist() == [1, 2]
    assert np.isnan([*curve.low, *curve.high]).all()


def test_on_a_logarithmic_axis_a_line_stays_where_only_its_band_goes_below_zero():
    x = np.arange(3.0)
    curve = Curve(x, np.array([2.0, 2, -1]), np.array([1.0, -1, -2]), x + 3).positive()
    np.testing.assert_array_equal(curve.mean, [2, 2, np.nan])
    np.testing.assert_array_equal(curve.low, [1, np.nan, np.nan])
    np.testing.assert_array_equal(curve.high, [3, np.nan, np.nan])


def test_the_median_is_not_moved_by_one_network():
    values = np.ones((20, 1))
    values[0] = 1e9
    curve = Curve.over_networks([0], values, median=True)
    assert (curve.mean[0], curve.low[0], curve.high[0]) == (1, 1, 1)


def test_lines_beside_each_other_differ_in_colour_and_named_ones_keep_theirs():
    line = Curve.over_networks([0, 1], np.zeros((3, 2)))
    first = ("a", "b", "c", "d", "e", "f", "g")
    shown = [Panel("", "", dict.fromkeys(("g", "b", "x", "y"), line)),
             Panel("", "", dict.fromkeys("xz", line))]  # fmt: skip
    looks = _shared_looks(shown, first)
    assert looks["b"] == look(1)
    for panel in shown:
        assert len({looks[name].colour for name in panel.lines}) == len(panel.lines)


def test_a_running_mean_is_the_mean_of_the_neighbours_and_gaps_stay_gaps():
    values = np.arange(20.0)
    curve = Curve.running(range(20), values, 5)
    assert curve.mean[10] == 10
    assert curve.mean[0] == 1
    # Five values: Student's t of 4 degrees of freedom, 98 %.
    half = 3.747 * np.arange(5).std(ddof=1) / np.sqrt(5)
    assert curve.high[10] - 10 == pytest.approx(half, rel=1e-3)
    assert 10 - curve.low[10] == pytest.approx(half, rel=1e-3)
    values[4:16] = np.nan
    curve = Curve.running(range(20), values, 5)
    assert np.isnan(curve.mean[8])
    assert np.isnan(curve.low[8])
    assert curve.mean[5] == 3
    assert len(Curve.running([], np.empty(0), 5).x) == 0


def test_of_a_long_running_mean_as_many_places_are_drawn_as_can_be_seen():
    values = np.sin(np.arange(5000.0))
    curve = Curve.running(range(5000), values, 9)
    assert len(curve.x) == len(curve.mean) == PLACES
    assert (curve.x[0], curve.x[-1]) == (0, 4999)
    place = int(curve.x[200])
    assert curve.mean[200] == pytest.approx(values[place - 4 : place + 5].mean())


@pytest.mark.parametrize(
    "values", [[0.5] * 6, [0, 0.01, 0.5, 0.99, 1], [0.9] * 8, [0.02] * 7, [0.3, 0.31, 0.32, 0.7]]
)
def test_labels_keep_their_distance_their_order_and_stay_inside(values):
    places = _spread(sorted(values), 0.1, 0, 1)
    assert all(b - a >= 0.1 - 1e-9 for a, b in itertools.pairwise(places))
    assert min(places) >= -1e-9
    assert max(places) <= 1 + 1e-9


def test_a_large_pool_leaves_room_for_the_names_of_the_rule():
    x = np.arange(3.0)
    kept = {f"k{i}": Trajectory(x, 0.001 * x[:, None], np.array([0.001])) for i in range(4)}
    tried = {f"t{i}": Trajectory(x, (1 + i) * x[:, None]) for i in range(30)}
    untried = {f"u{i}": Trajectory(x, 0 * x[:, None]) for i in range(300)}
    (axes,) = figures.trajectories({**untried, **tried, **kept}, x="x", y="θ").axes
    names = {text.get_text() for text in axes.texts}
    assert kept.keys() <= names
    assert not names & untried.keys()
    # The largest of those that were tried and dropped have the places that are left.
    assert {"t29", "t28"} <= names
    assert "t0" not in names
    assert 12 < len(names) < 25
    places = sorted(text.xyann[1] for text in axes.texts)
    assert places[0] >= 0
    assert places[-1] <= 1


def some_figures():
    x = np.arange(1.0, 6)
    curve = Curve(x, x, x - 0.5, x + 0.5)
    yield figures.curves({"a_b": curve, "c": Curve.nothing()}, x="x", y="y", floor=(2, "chance"))
    yield figures.profiles({"a": curve}, x="x", y="y", log=True)
    zero = Curve(x, 0 * x, 0 * x, 0 * x)
    yield figures.profiles({"a": curve, "does not learn": zero}, x="x", y="y", log=True)
    yield figures.by_layer({"a": [curve, curve], "b": []}, x="x", y="y")
    yield figures.whiskers(
        {"a": Band(0.5, 0.4, 0.6), "b": Band(-0.1, -0.2, 0)}, x="x", scale=ACCURACY, zero=True
    )
    kept = Trajectory(x, np.stack([x, 2 * x], 1), np.array([4.0, 9.0]))
    yield figures.trajectories({"k": kept, "d": Trajectory(x, x[:, None])}, x="x", y="θ")


@pytest.mark.slow
def test_every_kind_of_figure_becomes_files_and_parts_of_a_page(tmp_path):
    for index, figure in enumerate(some_figures()):
        save_figure(figure, tmp_path / "new" / f"f{index}")
        text = inlined(svg(figure, f"f{index}"), 'what "it" shows')
        assert text.startswith('<svg role="img" aria-label="what &quot;it&quot; shows"')
        head = text[: text.index(">")]
        assert "viewBox" in head
        assert "width=" not in head
        assert "height=" not in head
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == sorted(f"f{i}.{kind}" for i in range(6) for kind in ("png", "svg"))


@pytest.mark.slow
def test_the_same_data_give_the_same_picture():
    a, b = (inlined(svg(next(some_figures()), "f"), "x") for _ in range(2))
    assert a == b


def test_dropped_terms_are_faded_and_kept_ones_end_in_a_dot():
    *_, figure = some_figures()
    kept, final, dropped = figure.axes[0].lines[0], figure.axes[0].lines[2], figure.axes[0].lines[3]
    assert kept.get_alpha() == 1
    assert final.get_ydata().tolist() == [4, 9]
    assert dropped.get_alpha() == figures.FADED


def test_points_of_categories_are_not_joined():
    lines = {
        name: Curve(np.array([1.0, 2.0]), *(np.array([height, height + 5]) + d for d in (0, -1, 1)))
        for name, height in (("a", 10.0), ("b", 20.0))
    }
    figure = figure_of([Panel("accuracy", "", lines, categories=("EMNIST", "MNIST"))])
    (axes,) = figure.axes
    points = [line for line in axes.lines if len(line.get_xdata()) == 2]
    assert all(line.get_linestyle() == "None" for line in points)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["EMNIST", "MNIST"]
    first, second = (line.get_xdata() for line in points)
    assert all(first < second)  # Beside each other, not on top.
    assert np.allclose((first + second) / 2, [1, 2])


def test_complexity_shows_every_rule_and_joins_the_best_of_each_size():
    rules = [
        Size(3, Band(0.6, 0.5, 0.7)), Size(2, Band(0.7, 0.6, 0.8)), Size(1, Band(0.2, 0.1, 0.3)),
        Size(2, Band(0.5, 0.4, 0.6)), Size(2, Band(0.71, 0.6, 0.8), is_chosen=True),
    ]  # fmt: skip
    (axes,) = complexity_figure.complexity(rules, y="validation accuracy, %", scale=ACCURACY).axes
    joined, *others = axes.lines
    assert joined.get_ydata() == pytest.approx([20, 71, 60])
    dots = [line for line in others if line.get_marker() == "o"]
    assert [line.get_ydata()[0] for line in dots] == pytest.approx([60, 70, 20, 50, 71])
    assert [round(line.get_xdata()[0]) for line in dots] == [3, 2, 1, 2, 2]
    assert len({line.get_xdata()[0] for line in dots}) == 5
    colours = [line.get_color() for line in dots]
    assert colours.count(colours[-1]) == 1
    (label,) = axes.texts
    assert label.get_text() == "chosen"
    assert label.xy[1] == pytest.approx(71)
