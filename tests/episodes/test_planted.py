"""Episodes labelled by a teacher that learned by a known rule."""

from dataclasses import replace

import pytest
import torch
from support import assert_is_one_sentence, begin, seeded

from episodes.planted import read_plan
from episodes.teacher import EFFECT, divergence, teacher_outputs
from metaplast.base.errors import UserError
from metaplast.engines import Problem, get_engine
from metaplast.rules.rule import Rule
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.tasks.library import open_source
from metaplast.tasks.request import EpisodeRequest
from metaplast.terms.library import get_term

REQUEST = EpisodeRequest(
    ways=3, shots=4, queries=4, labels="remapped", held_out="images", dtype=torch.float64
)
BASE = "clusters:8,6"
NETWORK = FullyConnected((8, 7, 3))
BIO = ("error_hebbian", "error_error", "oja")


def planted(rule, *, base=BASE, network=NETWORK, feedback="fixed", seed=0, **changes):
    request = EpisodeRequest(**{**vars(REQUEST), "seed": seed, **changes})
    return open_source(f"planted:{rule}@{base}", request).bind(
        replace(network, feedback_name=feedback)
    )


def names(plan):
    return tuple(term.name for term in plan.terms)


def test_a_digest_names_the_objective_of_the_teacher():
    sampler, terms = planted("F0=0.01").train, (get_term("F0"),)
    own, other = (
        replace(sampler, teacher=Learner(replace(NETWORK, objective_name=name), terms)).digest()
        for name in ("cross-entropy", "mse")
    )
    assert own == sampler.digest() != other


def test_a_rule_is_read_from_names_coefficients_or_a_file(tmp_path):
    assert names(read_plan("bio")) == BIO
    assert names(read_plan("F0,oja")) == ("error_hebbian", "oja")
    # Oja is a term and a known rule of two; a comma makes it a list of terms.
    assert names(read_plan("oja")) == ("error_hebbian", "oja")
    assert names(read_plan("oja,")) == ("oja",)
    given = read_plan("F1=-0.5, oja=1e-3,F4=0")
    assert names(given) == ("activity_error", "oja")
    assert given.theta.to_plain() == {"activity_error": -0.5, "oja": 0.001}
    rule = Rule(tuple(map(get_term, BIO)), ((1.0, 0.0, 2.0), (3.0, 0.0, 4.0)), "fixed")
    rule.save(tmp_path / "rule.json")
    read = read_plan(str(tmp_path / "rule.json"))
    assert names(read) == ("error_hebbian", "oja")
    assert read.theta.to_plain() == {"error_hebbian": [1.0, 3.0], "oja": [2.0, 4.0]}


@pytest.mark.parametrize(
    "text", ["", "F0=x", "F0=0.1,F1", "F0=0,F1=0", "F0=inf", "nothing", "F77=1", "none.json"]
)
def test_what_is_no_rule_is_refused(text):
    with pytest.raises(UserError) as caught:
        read_plan(text)
    assert_is_one_sentence(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["batched", "fused"])
@pytest.mark.parametrize("side", ["train", "test"])
def test_the_planted_rule_is_the_least_of_the_loss(side, engine):
    split = planted("F0=0.02,F9=0.01,F3=0.003")
    batch = getattr(split, side).sample(3, seeded())
    learner = Learner.on_stack(NETWORK, "fixed", split.planted.terms)
    theta = split.planted.tensor(torch.float64)
    state = begin(learner, batch, seeded(1))
    outcome = get_engine(engine).run(Problem(learner, theta, state, batch))
    assert outcome.theta_gradient.abs().max() < 1e-12
    assert outcome.score.tolist() == [1, 1, 1]
    for k in range(3):
        for sign in (-1, 1):
            other = theta.clone()
            other[k] *= 1 + 0.1 * sign
            worse = get_engine(engine).run(Problem(learner, other, state, batch), gradient=False)
            assert (worse.loss > outcome.loss).all()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_rule_and_episodes():
    one, same, other = (planted("bio", seed=seed) for seed in (3, 3, 4))
    assert one.planted == same.planted != other.planted
    a, b = (split.train.sample(2, seeded(5)) for split in (one, same))
    assert torch.equal(a.query_y, b.query_y)
    assert torch.equal(a.initial.weights[0], b.initial.weights[0])
    assert str(one.planted) in one.description


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_no_drawn_term_can_be_left_out_unnoticed(seed):
    split = planted("F1,F3,F7,F9", seed=seed)
    learner = Learner.on_stack(NETWORK, "fixed", split.planted.terms)
    theta = split.planted.tensor(torch.float64)
    assert theta[1] > 0, "a decay that decays"
    batch = split.train.sample(100, seeded(9))
    assert torch.isfinite(batch.query_y).all()
    for k in range(4):
        without = theta.clone()
        without[k] = 0
        outputs = teacher_outputs(learner, without, batch.initial, batch)
        assert divergence(batch.query_y, outputs) > EFFECT / 10


@pytest.mark.slow
def test_backward_terms_are_planted_where_feedback_is_plastic():
    split = planted("F0,backward_hebbian", feedback="plastic")
    batch = split.train.sample(20, seeded())
    learner = Learner.on_stack(NETWORK, "plastic", split.planted.terms)
    without = split.planted.tensor(torch.float64) * torch.tensor([1.0, 0.0])
    outputs = teacher_outputs(learner, without, batch.initial, batch)
    assert divergence(batch.query_y, outputs) > EFFECT / 10
    with pytest.raises(UserError, match="plastic"):
        planted("F0,backward_hebbian")


def test_any_source_can_be_planted_on():
    network = FullyConnected((64, 8, 3))
    split = planted("F0=0.01", base="digits", network=network)
    assert "digits" in split.description
    assert split.train.sample(2, seeded()).query_y.shape == (2, 12, 3)
    with pytest.raises(UserError):
        open_source("planted:bio@planted:bio", REQUEST)


def test_a_rule_that_diverges_is_refused():
    with pytest.raises(UserError, match=r"diverges in \d+ of 64") as caught:
        planted("F3=-9,F9=100")
    assert_is_one_sentence(caught.value)


def test_divergence_is_that_of_kullback_and_leibler():
    p, q = torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    expected = (
        0.5 * torch.log(torch.tensor([2.0, 2 / 3])).sum() + torch.log(torch.tensor(2.0))
    ) / 2
    assert divergence(p, q) == pytest.approx(float(expected))
    assert divergence(p, q * torch.nan) == torch.inf


@pytest.mark.parametrize("feedback", ["symmetric", "symmetric-detached"])
def test_a_learner_whose_teacher_has_no_backward_weights_draws_its_own(feedback):
    # Feedback alignment is compared on the same tasks, whatever the feedback of the rule.
    batch = planted("F0=0.02", feedback=feedback).train.sample(2, seeded())
    rival = Learner.on_stack(NETWORK, "fixed", (get_term("F0"),))
    state = begin(rival, batch, seeded(1))
    shapes = [tuple(b.shape[1:]) for b in state.backward]
    assert shapes == [tuple(b.shape[1:]) for b in rival.draw(1, seeded()).backward]
    theta = torch.tensor([0.02], dtype=torch.float64)
    outcome = get_engine("batched").run(Problem(rival, theta, state, batch))
    assert outcome.finite.all()
    assert torch.equal(state.weights[0], batch.initial.weights[0])
