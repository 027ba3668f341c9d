"""Coefficients learned over drawings: the search, its continuation, and mistakes."""

import json
import math
import sys
import threading
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from support import assert_is_one_sentence, refusal

from metaplast.base.errors import UserError
from metaplast.reservoirs import (
    PEN,
    Algorithm,
    Drawing,
    Dynamics,
    Schedule,
    Search,
    learn_coefficients,
    learning,
    published,
    random_curve,
)

pytest.importorskip("cma")
START = Algorithm("start", exploration_rate=1e-3, noise_size=0.1)
BEST = {"exploration_rate": 4e-3, "noise_size": 0.02}
SIZES = {"dynamics": Dynamics(6, 0.5), "schedule": Schedule(10, 2, 1, lag=1)}


def drawings(generation):
    return [Drawing(random_curve(10, seed), seed) for seed in (2 * generation, 2 * generation + 1)]


class Valley:
    """Instead of a simulation: the deviation grows with the distance from the best coefficients."""

    asked: ClassVar = []

    def __init__(self, lanes, target, dynamics, schedule, seed):
        self.lanes = lanes
        self.asked.append((seed, target[0, 0], [lane.algorithm for lane in lanes]))

    def run(self, observe):
        observe(1, 1)
        return [
            SimpleNamespace(deviation=self.depth(lane), diverged_at=None) for lane in self.lanes
        ]

    def depth(self, lane):
        off = [math.log(getattr(lane.algorithm, name) / best) for name, best in BEST.items()]
        return 10 ** (sum(x * x for x in off) - 2)


@pytest.fixture
def valley(monkeypatch):
    monkeypatch.setattr(learning, "Simulation", Valley)
    monkeypatch.setattr(Valley, "asked", [])
    return Valley


def learn(**options):
    given = {"names": tuple(BEST), "search": Search(generations=25, population=8)}
    return learn_coefficients(PEN, START, drawings, **{**given, **options})


def test_the_best_coefficients_are_found(valley):
    before = np.random.get_state()[1].copy()
    found = learn()
    for name, best in BEST.items():
        assert getattr(found.algorithm, name) == pytest.approx(best, rel=0.05)
    assert found.algorithm.mastery_rate == START.mastery_rate
    assert min(found.scores[-1]) < min(found.scores[0])
    # All candidates of a generation draw the same curves in the same reservoirs.
    assert [seed for seed, _, _ in valley.asked] == [*range(50)]
    assert valley.asked[0][1] != valley.asked[1][1]
    assert all(len(algorithms) == 8 for _, _, algorithms in valley.asked)
    assert (np.random.get_state()[1] == before).all()
    assert learn().scores == found.scores


def test_an_interrupted_search_continues_to_the_same_end(valley, tmp_path):
    whole = learn()

    def stop(done, of):
        assert of == 25
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(folder=tmp_path, observe=stop)
    valley.asked.clear()
    again = learn(folder=tmp_path)
    assert again == whole
    assert len(valley.asked) == 2 * 15
    # More generations continue it too; another start does not.
    assert len(learn(folder=tmp_path, search=Search(26, 8)).scores) == 26
    with pytest.raises(UserError, match="a search with other settings") as caught:
        learn(folder=tmp_path, search=Search(25, 8, spread=0.4))
    assert_is_one_sentence(caught.value)
    place = tmp_path / "coefficients.json"
    kept = json.loads(place.read_text())
    short, unknown = [*kept["scores"][:-1], [0.0]], [*kept["scores"][:-1], [math.nan] * 8]
    for damaged in ("{", *(json.dumps(kept | {"scores": each}) for each in (short, unknown))):
        place.write_text(damaged)
        with pytest.raises(UserError, match="is damaged") as caught:
            learn(folder=tmp_path)
        assert_is_one_sentence(caught.value)


def test_runs_that_diverge_count_as_the_worst():
    kinds = [
        (0.01, None, -2),
        (100.0, None, 1),
        (math.nan, 5, 1),
        (math.nan, None, 1),
        (0, None, -6),
    ]
    for deviation, step, expected in kinds:
        run = SimpleNamespace(deviation=deviation, diverged_at=step)
        assert learning.badness(run) == pytest.approx(expected)


@pytest.mark.slow
def test_real_drawings_are_learned_on(tmp_path):
    search = Search(generations=2, population=4)
    start = published("supertrex", PEN)
    folder = tmp_path / "new" / "search"
    found = learn_coefficients(PEN, start, drawings, search=search, folder=str(folder), **SIZES)
    assert np.isfinite(found.scores).all()
    assert np.shape(found.scores) == (2, 4)
    assert len(np.unique(found.scores[0])) > 1
    assert found.algorithm.name == "SUPERTREX, learned"
    assert json.loads((folder / "coefficients.json").read_text())["search"]["task"] == "pen"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"names": ()}, "names holds no coefficient"),
        ({"names": ("memory",)}, "'memory' is not a coefficient that can be scaled"),
        ({"names": ("rate",)}, "'rate' is not a coefficient"),
    ],
)
def test_mistakes_are_told(given, sentence, valley):
    assert sentence in refusal(learn, **given)


def test_a_coefficient_that_is_zero_cannot_be_scaled(valley):
    frozen = Algorithm("frozen", mastery_rate=0.0)
    told = refusal(learn_coefficients, PEN, frozen, drawings, names=("mastery_rate",))
    assert "mastery_rate must be positive at the start, not 0" in told


@pytest.mark.parametrize(
    "options", [{"generations": 0}, {"population": 3}, {"spread": 0}, {"seed": -1}]
)
def test_searches_that_are_impossible_are_refused(options):
    assert refusal(Search, **options)


def test_without_cma_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cma", None)
    assert "install metaplast[evolution]" in refusal(learn)


def test_a_random_curve_is_closed_smooth_and_decided_by_its_seed():
    curve = random_curve(1000, 3)
    assert np.array_equal(curve, random_curve(1000, 3))
    assert not np.allclose(curve, random_curve(1000, 4))
    assert np.hypot(*curve.T).max() == pytest.approx(1.2)
    steps = np.hypot(*np.diff(curve, axis=0, append=curve[:1]).T)
    assert steps.max() < 0.05


def test_threads_change_nothing():
    def several(generation):
        return [Drawing(random_curve(10, s), s) for s in range(3 * generation, 3 * generation + 3)]

    options = {"search": Search(2, 4), **SIZES}
    at = []
    one = learn_coefficients(
        PEN, START, several, observe=lambda *where: at.append(where), **options
    )
    assert [done for done, _ in at] == pytest.approx([1 / 3, 2 / 3, 1, 4 / 3, 5 / 3, 2])
    assert learn_coefficients(PEN, START, several, workers=3, **options) == one
    with pytest.raises(UserError, match="workers must be a whole number") as caught:
        learn_coefficients(PEN, START, several, workers=0, **options)
    assert_is_one_sentence(caught.value)
    with pytest.raises(UserError, match="generation 0 has no drawings") as caught:
        learn_coefficients(PEN, START, lambda generation: [], **options)
    assert_is_one_sentence(caught.value)


def test_an_interrupt_stops_the_drawings_that_still_run(valley, monkeypatch):
    ended, started = [], threading.Barrier(2, timeout=20)

    def run(self, observe):
        which = started.wait()
        try:
            while which:
                observe(1, 2)
            raise KeyboardInterrupt
        finally:
            ended.append(which)

    monkeypatch.setattr(valley, "run", run)
    with pytest.raises(KeyboardInterrupt):
        learn(workers=2)
    assert sorted(ended) == [0, 1]
