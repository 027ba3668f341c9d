"""Episodes and states taken apart and put together again."""

from dataclasses import replace

import pytest
import torch
from support import (
    BACKWARD,
    FORWARD,
    assert_is_one_sentence,
    matrices_of,
    named,
    normal,
    random_problem,
    refusal,
    seeded,
)
from systems.settings import SETTINGS

from metaplast import UserError, unroll
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.digest import batch_digest


def parts_of(whole):
    return [whole.select(slice(0, 1)), whole.select(slice(1, 3)), whole.select(torch.tensor([3]))]


@pytest.mark.parametrize("feedback", ["symmetric", "fixed", "direct"])
def test_states_are_put_together_as_they_were(feedback):
    whole = random_problem(FORWARD, feedback=feedback, episodes=4).state
    again = State.cat(parts_of(whole))
    assert tuple(again.matrices) == tuple(whole.matrices)
    assert all(map(torch.equal, matrices_of(again), matrices_of(whole)))


@pytest.mark.parametrize("prescribed", [False, True])
def test_batches_are_put_together_as_they_were(prescribed):
    problem = random_problem(BACKWARD, feedback="plastic", episodes=4)
    batch = problem.episodes
    whole = EpisodeBatch(
        batch.support_x, batch.support_y, batch.query_x, batch.query_y,
        problem.state if prescribed else None,
    )  # fmt: skip
    again = EpisodeBatch.cat(parts_of(whole))
    for name in ("support_x", "support_y", "query_x", "query_y"):
        assert torch.equal(getattr(again, name), getattr(whole, name))
    if not prescribed:
        assert again.initial is None
        return
    assert all(map(torch.equal, matrices_of(again.initial), matrices_of(whole.initial)))


CLASSES, WIDE = torch.zeros(1, 2, dtype=torch.long), torch.ones(1, 2, 3)
STATE = State({"W1": torch.zeros(1, 3, 4)}, {"trace": torch.zeros(1, 3)})
UNLIKE = {
    "support vectors": ({"support_y": WIDE}, {"support_y": torch.ones(1, 2, 5)}),
    "support kinds": ({"support_y": WIDE}, {"support_y": CLASSES}),
    "weights": ({"initial": STATE}, {}),
    "carried vectors": ({"initial": STATE}, {"initial": State(STATE.matrices)}),
    "noise": ({"noise": torch.ones(1, 2, 3)}, {}),
    "sizes of noise": ({"noise": torch.ones(1, 2, 3)}, {"noise": torch.ones(1, 2, 4)}),
}


@pytest.mark.parametrize(("one", "other"), UNLIKE.values(), ids=UNLIKE.keys())
def test_batches_that_differ_are_not_put_together(one, other):
    x = torch.zeros(1, 2, 4)
    given = {"support_x": x, "support_y": CLASSES, "query_x": x, "query_y": CLASSES}
    batches = [EpisodeBatch(**{**given, **changes}) for changes in (one, other)]
    with pytest.raises(UserError) as caught:
        EpisodeBatch.cat(batches)
    assert_is_one_sentence(caught.value)


def with_noise(noise, episodes=3):
    x = normal(episodes, 2, 4)
    labels = torch.zeros(episodes, 2).long()
    return EpisodeBatch(x, labels, x, labels, noise=noise)


def test_noise_goes_with_its_steps():
    whole = with_noise(normal(3, 2, 5, 6))
    assert torch.equal(whole.example(1).noise, whole.noise[:, 1])
    assert torch.equal(whole.support.noise, whole.noise)
    assert whole.query.noise is None
    parts = [whole.select(slice(0, 1)), whole.select(torch.tensor([1, 2]))]
    assert torch.equal(EpisodeBatch.cat(parts).noise, whole.noise)
    assert torch.equal(whole.to(torch.float32).noise, whole.noise.float())
    assert with_noise(None).example(1).noise is None
    digests = {batch_digest(with_noise(n)) for n in (None, whole.noise, whole.noise + 1)}
    assert len(digests) == 3


def test_noise_made_in_inference_mode_is_learned_from():
    setting = SETTINGS["perturbed"]
    learner = Learner(setting.system, setting.terms)
    theta = 0.1 * normal(len(setting.terms))
    state, batch = learner.draw(2, seeded(), torch.float64), setting.batch()
    with torch.inference_mode():
        inferred = replace(batch, noise=batch.noise.clone())
    expected, found = (unroll(learner, theta, state, b) for b in (batch, inferred))
    assert torch.equal(found.theta_gradient, expected.theta_gradient)


BAD_NOISE = {
    "no tensor": [1.0],
    "other episodes": torch.ones(2, 2, 5).double(),
    "other steps": torch.ones(3, 1, 5).double(),
    "another dtype": torch.ones(3, 2, 5),
    "whole numbers": torch.ones(3, 2, 5).long(),
}


@pytest.mark.parametrize("noise", BAD_NOISE.values(), ids=BAD_NOISE)
def test_noise_that_does_not_fit_the_steps_is_refused(noise):
    assert "noise" in refusal(with_noise, noise)


def test_a_digest_is_of_all_prescribed_weights():
    x = torch.zeros(1, 2, 4)

    def digest(**changes):
        matrices = {"W1": torch.zeros(1, 3, 4), "recurrent": torch.zeros(1, 3, 3)}
        carry = {"trace": torch.zeros(1, 3)}
        matrices |= {name: v for name, v in changes.items() if name in matrices}
        carry |= {name: v for name, v in changes.items() if name in carry}
        return batch_digest(EpisodeBatch(x, CLASSES, x, CLASSES, State(matrices, carry)))

    digests = {
        digest(),
        digest(W1=torch.ones(1, 3, 4)),
        digest(recurrent=torch.ones(1, 3, 3)),
        digest(trace=torch.ones(1, 3)),
    }
    assert len(digests) == 4


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:1", ""])
def test_a_device_that_is_not_there_is_refused_in_a_sentence(device):
    problem = random_problem(named("error_hebbian"))
    for moved in (problem, problem.state, problem.episodes):
        with pytest.raises(UserError) as refused:
            moved.on(device)
        assert_is_one_sentence(refused.value)
