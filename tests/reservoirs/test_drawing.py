"""One run on a target of one's own."""

import numpy as np
import pytest
from support import refusal

from metaplast.reservoirs import Algorithm, Dynamics, Schedule, learn_to_draw
from metaplast.reservoirs.simulation import CHECKPOINT

SMALL = {"dynamics": Dynamics(6, 0.5), "schedule": Schedule(10, 2, 1, lag=1)}
SQUARE = [[0.0, 0.5], [0.5, 0.5], [0.5, 0.0], [0.0, 0.0]]


@pytest.mark.slow
def test_a_target_is_a_file_an_array_or_the_butterfly(tmp_path):
    path = tmp_path / "square.csv"
    path.write_text("x,y\n" + "\n".join(f"{x},{y}" for x, y in SQUARE))
    steps = []
    folder = tmp_path / "new" / "run"
    run = learn_to_draw(path, folder=folder, observe=lambda *given: steps.append(given), **SMALL)
    assert steps == [(10, 30), (20, 30), (30, 30)]
    assert (folder / CHECKPOINT).exists()
    for same in (SQUARE, np.array(SQUARE)):
        assert learn_to_draw(same, **SMALL).deviation == run.deviation
    assert learn_to_draw(**SMALL).deviation != run.deviation
    assert learn_to_draw(path, seed=1, **SMALL).deviation != run.deviation
    assert run.lane.algorithm.name == "SUPERTREX"
    assert run.mastery.shape == (2, 6)


@pytest.mark.slow
def test_algorithms_are_those_of_the_task():
    run = learn_to_draw(task="arm:3", algorithm="repaired", costs=(0.1, 0.0, 0.0), **SMALL)
    assert run.lane.algorithm.costs == (0.1, 0.0, 0.0)
    assert run.lane.algorithm.exploration_rate == pytest.approx(5e-4 * 0.5 / 3)
    own = Algorithm("mine", noise_size=0.1)
    assert learn_to_draw(task="arm:2", algorithm=own, **SMALL).lane.algorithm == own


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"task": "arm:2", "algorithm": "force"}, "unknown algorithm 'force'"),
        ({"algorithm": "supertrax"}, "did you mean 'supertrex'?"),
        ({"target": [[5.0, 5.0], [0.0, 0.0]], "task": "arm:2"}, "reaches 3.6 from its shoulder"),
        ({"target": "none.csv"}, "none.csv is not a target"),
        ({"target": [[1.0, 2.0]]}, "at least two points"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"algorithm": Algorithm("mine"), "costs": (1.0, 1.0)}, "has its own costs"),
        ({"folder": "/dev/null/run"}, "cannot write to the folder"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(given, sentence):
    assert sentence in refusal(learn_to_draw, **{**SMALL, **given})
