"""Bootstrap bands against theory, fair comparison of rules, and the selection of terms."""

import math

import numpy as np
import pytest
import torch
from support import Clouds, Poisoned, named, normal

from metaplast.evaluation import Band, bootstrap, evaluate
from metaplast.learner import Learner
from metaplast.network import FullyConnected
from metaplast.selection import keep_terms
from metaplast.unroll import get_engine

NETWORK = FullyConnected((6, 5, 3))


@pytest.mark.parametrize(("coverage", "z"), [(0.98, 2.326), (0.9, 1.645)])
def test_the_band_of_normal_data_is_the_analytic_one(coverage, z):
    values = 3 + 2 * normal(400)
    band = bootstrap(values, coverage)
    half = z * float(values.std(correction=0)) / math.sqrt(400)
    assert band.mean == pytest.approx(float(values.mean()))
    assert band.high - band.mean == pytest.approx(half, rel=0.08)
    assert band.mean - band.low == pytest.approx(half, rel=0.08)


def test_the_band_covers_the_truth_as_often_as_it_says():
    bands = [bootstrap(normal(60, seed=seed), coverage=0.8) for seed in range(100)]
    covered = sum(band.low <= 0 <= band.high for band in bands)
    assert 68 <= covered <= 90  # 80 ± 3 standard deviations


def test_bands_are_the_same_each_time_and_leave_numpy_alone():
    state = np.random.get_state()[1].tolist()
    assert bootstrap(normal(30)) == bootstrap(normal(30))
    assert bootstrap(normal(30)) != bootstrap(normal(30), seed=1)
    assert np.random.get_state()[1].tolist() == state


def test_the_band_of_equal_numbers_has_no_width():
    assert bootstrap(torch.full((20,), 0.25)) == Band(0.25, 0.25, 0.25)


def test_a_band_prints_as_percent():
    assert str(Band(0.5, 0.25, 0.755)) == "50.0 % [25.0, 75.5]"


class Recorder:
    """Passes problems on to an engine and remembers them."""

    def __init__(self):
        self.seen = []

    def run(self, problem, *, gradient=True):
        assert not gradient
        self.seen.append(problem)
        return get_engine("batched").run(problem, gradient=gradient)


def evaluated(names, theta, feedback="fixed", *, sampler=None, **options):
    recorder, learner = Recorder(), Learner(NETWORK, feedback, named(*names))
    theta = torch.tensor(theta, dtype=torch.float64)
    options = {"episodes": 7, "seed": 3, "chunk": 3, **options}
    return recorder.seen, evaluate(learner, theta, sampler or Clouds(), recorder, **options)


def test_all_rules_meet_the_same_episodes_and_initial_weights():
    one, first = evaluated(["error_hebbian"], [0.05])
    two, second = evaluated(["error_hebbian", "oja"], [0.1, 0.01])
    three, _ = evaluated(["error_hebbian"], [0.1], "symmetric")
    assert [p.episodes.episodes for p in one] == [3, 3, 1]
    for a, b, c in zip(one, two, three, strict=True):
        assert torch.equal(a.episodes.support_x, b.episodes.support_x)
        assert torch.equal(a.episodes.query_y, c.episodes.query_y)
        assert all(torch.equal(x, y) for x, y in zip(a.matrices, b.matrices, strict=True))
        assert all(torch.equal(x, y) for x, y in zip(a.state.weights, c.state.weights, strict=True))
    assert not torch.equal(first.loss, second.loss)
    assert len(first.accuracy) == 7


def test_chunks_seeds_and_purposes_differ():
    seen, _ = evaluated(["oja"], [0.1])
    other, _ = evaluated(["oja"], [0.1], seed=4)
    select, _ = evaluated(["oja"], [0.1], purpose="selection")
    first = seen[0].episodes.support_x
    for problem in (seen[1], other[0], select[0]):
        assert not torch.equal(first, problem.episodes.support_x)


def test_a_diverging_episode_counts_as_failed():
    counts = []
    _, result = evaluated(
        ["error_hebbian"], [0.05], sampler=Poisoned([0]), episodes=6, observe=counts.append
    )
    assert result.non_finite == 2  # the first of each chunk of three
    assert result.accuracy[[0, 3]].tolist() == [0.0, 0.0]
    assert counts == [3, 3]
    assert result.band.mean == pytest.approx(float(result.accuracy.mean()))


def test_evaluation_is_learning_and_judging():
    seen, result = evaluated(["error_hebbian"], [0.05], episodes=2)
    (problem,) = seen
    state = problem.state
    for t in range(problem.episodes.steps):
        x, label = problem.episodes.support_x[:, t], problem.episodes.support_y[:, t]
        state = problem.learner.step(state, problem.episode_theta, x, label)
    loss, accuracy = problem.learner.query(
        state, problem.episodes.query_x, problem.episodes.query_y
    )
    assert result.loss.tolist() == pytest.approx(loss.tolist())
    assert result.accuracy.tolist() == accuracy.tolist()


# --- selection ---

TERMS = named("error_hebbian", "error_error", "oja")


@pytest.mark.parametrize(
    ("u", "threshold", "kept"),
    [
        ([1.0, -0.5, 0.02], 0.03, [0, 1]),
        ([1.0, -0.5, 0.04], 0.03, [0, 1, 2]),
        ([0.1, -10.0, 0.0], 0.03, [1]),
        ([1.0, 0.0, 1e-9], 0.0, [0, 2]),
        ([0.0, 0.0, 0.0], 0.0, []),
        ([[1.0, 0.0, 0.0], [0.0, 0.0, -0.9]], 0.5, [0, 2]),
        ([[0.01, 1.0, 0.02], [0.02, 0.0, -0.04]], 0.03, [1, 2]),
    ],
)
def test_terms_are_kept_by_their_share_of_the_largest(u, threshold, kept):
    assert keep_terms(torch.tensor(u), TERMS, threshold) == kept


def test_selection_among_no_terms():
    assert keep_terms(torch.zeros(0), (), 0.1) == []
    assert keep_terms(torch.zeros(4, 0), (), 0.1) == []
