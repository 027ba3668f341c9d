"""Query labels may be class probabilities, and an episode may prescribe its initial weights."""

from dataclasses import replace

import pytest
import torch
from support import (
    FORWARD,
    assert_close,
    assert_is_one_sentence,
    begin,
    matrices_of,
    normal,
    random_problem,
    seeded,
)

from metaplast.base.errors import UserError
from metaplast.engines import get_engine
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.state import View

ENGINES = ["reference", "batched", "fused"]


def soft_problem(seed=0, **options):
    """Return a random problem whose queries are labelled with random probabilities."""
    problem = random_problem(FORWARD, seed=seed, **options)
    shape = (*problem.episodes.query_y.shape, problem.learner.network.widths[-1])
    soft = torch.softmax(2 * normal(*shape, seed=seed + 7), -1)
    return replace(problem, episodes=replace(problem.episodes, query_y=soft))


@pytest.mark.slow
@pytest.mark.parametrize("per_layer", [False, True], ids=["shared", "per-layer"])
@pytest.mark.parametrize("seed", range(3))
def test_engines_agree_on_probabilities(seed, per_layer):
    problem = soft_problem(seed, per_layer=per_layer)
    expected = get_engine("reference").run(problem)
    assert expected.theta_gradient.abs().min() > 0
    for name in ENGINES[1:]:
        outcome = get_engine(name).run(problem)
        assert_close(outcome.loss, expected.loss)
        assert torch.equal(outcome.score, expected.score)
        assert_close(outcome.theta_gradient, expected.theta_gradient)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_a_sure_label_is_the_class_itself(engine):
    problem = random_problem(FORWARD)
    sure = torch.nn.functional.one_hot(problem.episodes.query_y, 3).double()
    soft = replace(problem, episodes=replace(problem.episodes, query_y=sure))
    by_index, by_probability = (get_engine(engine).run(p) for p in (problem, soft))
    assert_close(by_probability.loss, by_index.loss, 1e-13)
    assert torch.equal(by_probability.score, by_index.score)
    assert_close(by_probability.theta_gradient, by_index.theta_gradient, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_the_gradient_vanishes_where_the_labels_are_the_learners_own_outputs(engine):
    problem = soft_problem()
    final = get_engine(engine).run(problem).final
    forward = problem.learner.network.forward(View.of(final).weights, problem.episodes.query_x)
    own = forward.activities[-1]
    outcome = get_engine(engine).run(
        replace(problem, episodes=replace(problem.episodes, query_y=own))
    )
    entropy = -(own * own.log()).sum(-1).mean(-1)
    assert_close(outcome.loss, entropy, 1e-12)
    assert outcome.theta_gradient.abs().max() < 1e-12
    assert outcome.score.tolist() == [1, 1]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_probability_that_is_no_number_spoils_its_episode_alone(engine):
    problem = soft_problem()
    problem.episodes.query_y[1, 0] = torch.nan
    assert get_engine(engine).run(problem).finite.tolist() == [True, False]


WRONG = {
    "too many classes": lambda b: replace(b, query_y=torch.cat([b.query_y, b.query_y], -1)),
    "sums of two": lambda b: replace(b, query_y=2 * b.query_y),
    "negative": lambda b: replace(b, query_y=b.query_y - torch.eye(3)[0] + 1 / 3),
    "for the support": lambda b: replace(b, support_y=b.support_y.double()),
}


@pytest.mark.parametrize("change", WRONG.values(), ids=list(WRONG))
def test_what_is_not_a_distribution_is_refused(change):
    problem = soft_problem()
    with pytest.raises(UserError) as caught:
        replace(problem, episodes=change(problem.episodes))
    assert_is_one_sentence(caught.value)


def test_prescribed_weights_are_taken_in_the_place_of_fresh_ones():
    problem = soft_problem()
    learner, batch = problem.learner, problem.episodes
    given = replace(batch, initial=problem.state)
    state = begin(learner, given, seeded(5))
    assert all(a is b for a, b in zip(matrices_of(state), matrices_of(problem.state), strict=True))
    fresh = begin(learner, batch, seeded(5))
    assert not torch.equal(fresh.weights[0], state.weights[0])
    # Backprop has no backward weights of its own.
    symmetric = Learner.on_stack(learner.network, "symmetric", learner.terms)
    own = begin(symmetric, given, seeded(5))
    assert tuple(own.matrices) == ("W1", "W2", "W3")


def test_prescribed_weights_and_labels_go_where_their_episodes_go():
    problem = soft_problem(episodes=3)
    batch = replace(problem.episodes, initial=problem.state)
    one = batch.select(slice(1, 2)).to(torch.float32)
    assert one.query_y.dtype == one.initial.weights[0].dtype == torch.float32
    assert torch.equal(one.query_y, batch.query_y[1:2].float())
    assert torch.equal(one.initial.backward[0], problem.state.backward[0][1:2].float())
    plain = random_problem(FORWARD).episodes.to(torch.float32)
    assert plain.query_y.dtype == torch.int64
    assert plain.initial is None


def test_labels_of_another_number_of_classes_do_not_fit_the_network():
    problem = soft_problem()
    wider = Learner.on_stack(FullyConnected((6, 5, 4, 4)), "fixed", problem.learner.terms)
    with pytest.raises(UserError, match="probabilities"):
        replace(problem, learner=wider)
