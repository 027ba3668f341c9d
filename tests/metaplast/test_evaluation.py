"""Fair comparison of rules, and the selection of terms."""

import pytest
import torch
from support import ACCURACY, Clouds, Poisoned, matrices_of, named

from metaplast.base.bands import Band
from metaplast.discovery.elimination import keep_terms
from metaplast.engines import get_engine
from metaplast.meta.evaluation import Evaluation, evaluate
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.terms.coefficients import Coefficients

NETWORK = FullyConnected((6, 5, 3))


class Recorder:
    """Passes problems on to an engine and remembers them."""

    def __init__(self):
        self.seen = []

    def run(self, problem, *, gradient=True):
        assert not gradient
        self.seen.append(problem)
        return get_engine("batched").run(problem, gradient=gradient)


def evaluated(names, theta, feedback="fixed", *, sampler=None, **options):
    recorder, learner = Recorder(), Learner.on_stack(NETWORK, feedback, named(*names))
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
        assert all(
            torch.equal(x, y)
            for x, y in zip(matrices_of(a.state), matrices_of(b.state), strict=True)
        )
        assert all(torch.equal(x, y) for x, y in zip(a.state.weights, c.state.weights, strict=True))
    assert not torch.equal(first.loss, second.loss)
    assert len(first.score) == 7


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
    assert result.score[[0, 3]].tolist() == [0.0, 0.0]
    assert counts == [3, 3]
    assert result.band.mean == pytest.approx(float(result.score.mean()))


def test_evaluation_is_learning_and_judging():
    seen, result = evaluated(["error_hebbian"], [0.05], episodes=2)
    (problem,) = seen
    state = problem.state
    for t in range(problem.episodes.steps):
        state = problem.learner.step(state, problem.episode_theta, problem.episodes.example(t))
    loss, accuracy = problem.learner.query(state, problem.episodes.query)
    assert result.loss.tolist() == pytest.approx(loss.tolist())
    assert result.score.tolist() == accuracy.tolist()


def test_a_band_is_drawn_once(monkeypatch):
    drawn = []

    def counted(values, limits):
        drawn.append(len(values))
        return Band(0.0, 0.0, 0.0)

    monkeypatch.setattr("metaplast.base.scores.mean_band", counted)
    evaluation = Evaluation(torch.rand(30), torch.rand(30), 0, ACCURACY)
    assert evaluation.band is evaluation.band
    assert drawn == [30]


def test_a_change_is_that_of_each_episode_and_in_the_direction_it_says():
    accuracies = torch.tensor([0.1, 0.5, 0.9]), torch.tensor([0.2, 0.6, 1.0])
    first, second = (Evaluation(accuracy, torch.zeros(3), 0, ACCURACY) for accuracy in accuracies)
    change = first.change(second)
    # The difference is the same in every episode, so its band has no width.
    assert change.low == pytest.approx(0.1, abs=1e-6)
    assert change.high == pytest.approx(0.1, abs=1e-6)


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
    named_u = Coefficients(tuple(term.name for term in TERMS), torch.tensor(u))
    assert keep_terms(named_u, threshold) == kept


def test_selection_among_no_terms():
    assert keep_terms(Coefficients((), torch.zeros(0)), 0.1) == []
    assert keep_terms(Coefficients((), torch.zeros(4, 0)), 0.1) == []
