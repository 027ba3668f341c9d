"""Errors, against autograd where they are gradients and against hand-made products elsewhere."""

import pytest
import torch
from support import FEEDBACKS, assert_close, named, normal, seeded

from metaplast.base.errors import UserError
from metaplast.systems.feedback import get_feedback
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples
from metaplast.terms.algebra import pre

WIDTHS = (5, 4, 6, 3)
EPISODES = 2
ACTIVATIONS = ["softplus:10", "tanh", "relu"]


def draw(feedback, activation="softplus:10", terms=("error_hebbian", "error_error")):
    """Return a learner, its state, and one example for each of two episodes."""
    learner = Learner.on_stack(FullyConnected(WIDTHS, activation), feedback, named(*terms))
    state = learner.draw(EPISODES, seeded(4), torch.float64)
    x = torch.rand(EPISODES, WIDTHS[0], generator=seeded(5), dtype=torch.float64)
    return learner, state, x, torch.tensor([2, 0])


def errors_of(learner, state, x, label):
    """Return e_0 … e_L, each [episode, neuron]."""
    shown = learner.system.present(View.of(state), Examples(x, label), learner.reads).synapses
    forward = [shown[name] for name in ("W1", "W2", "W3")]
    return [s.pre_error[:, 0] for s in forward] + [forward[-1].post_error[:, 0]]


def activities_of(learner, state, x):
    forward = learner.network.forward(View.of(state).weights, x[:, None])
    return [y.squeeze(1) for y in forward.activities]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("feedback", ["symmetric", "symmetric-detached"])
def test_symmetric_errors_are_gradients_of_the_loss(feedback, activation):
    learner, state, x, label = draw(feedback, activation)
    apply = learner.network.nonlinearity.apply
    nudges = [torch.zeros(EPISODES, n, dtype=torch.float64, requires_grad=True) for n in WIDTHS]
    y = x + nudges[0]
    for level, weight in enumerate(state.weights, start=1):
        z = (weight @ y[..., None]).squeeze(-1) + nudges[level]
        y = apply(z) if level < len(WIDTHS) - 1 else z
    loss = torch.nn.functional.cross_entropy(y, label, reduction="sum")
    gradients = torch.autograd.grad(loss, nudges)
    errors = errors_of(learner, state, x, label)
    for error, gradient in zip(errors[1:], gradients[1:], strict=True):
        assert_close(error, gradient)
    # The input has no activation: e_0 is its gradient times the gain of x taken as an activity.
    assert_close(errors[0], gradients[0] * learner.network.nonlinearity.derivative(x))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("feedback", ["symmetric", "symmetric-detached"])
def test_error_hebbian_with_symmetric_feedback_is_gradient_descent(feedback, activation):
    learner, state, x, label = draw(feedback, activation, terms=("error_hebbian",))
    leaves = tuple(w.clone().requires_grad_() for w in state.weights)
    loss, _ = learner.query(State.stack(leaves), Examples(x[:, None], label[:, None]))
    gradients = torch.autograd.grad(loss.sum(), leaves)
    theta = torch.full((EPISODES, 3, 1), 0.1, dtype=torch.float64)
    after = learner.step(state, theta, Examples(x, label))
    for weight, moved, gradient in zip(state.weights, after.weights, gradients, strict=True):
        assert_close(moved, weight - 0.1 * gradient)


def carry(matrix, error):
    return torch.einsum("erc,ec->er", matrix, error)


def by_hand(feedback, learner, state, x, label):
    """Return e_0 … e_L written out, one line for each feedback."""
    gain = learner.network.nonlinearity.derivative
    y = activities_of(learner, state, x)
    errors = [y[-1] - torch.nn.functional.one_hot(label, WIDTHS[-1])]
    for level in (2, 1, 0):
        weight = state.weights[level]
        carried = {
            "fixed": lambda k=level: carry(state.backward[k], errors[0]),
            "plastic": lambda k=level: carry(state.backward[k], errors[0]),
            "symmetric": lambda w=weight: carry(w.mT, errors[0]),
            "symmetric-detached": lambda w=weight: carry(w.mT, errors[0]),
            "sign-symmetric": lambda k=level, w=weight: carry(
                state.backward[k].abs() * w.mT.sign(), errors[0]
            ),
            "direct": lambda k=level: carry(state.backward[k], errors[-1]),
        }[feedback]()
        errors.insert(0, carried * gain(y[level]))
    return errors


# Predictive coding is written out in tests/systems/test_predictive_coding.py.
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("feedback", [name for name in FEEDBACKS if name != "predictive-coding"])
def test_errors_are_those_written_out_by_hand(feedback, activation):
    learner, state, x, label = draw(feedback, activation)
    expected = by_hand(feedback, learner, state, x, label)
    for error, by_hand_error in zip(errors_of(learner, state, x, label), expected, strict=True):
        assert_close(error, by_hand_error)


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_the_input_error_is_left_out_where_no_term_reads_it(feedback):
    learner, state, x, label = draw(feedback, terms=("error_hebbian", "oja"))
    full, *_ = draw(feedback)
    assert pre.error not in learner.reads
    assert pre.error in full.reads
    errors, complete = (errors_of(one, state, x, label) for one in (learner, full))
    assert not errors[0].any()
    assert complete[0].any()
    for a, b in zip(errors[1:], complete[1:], strict=True):
        assert torch.equal(a, b)


SHAPES = {
    "fixed": [(5, 4), (4, 6), (6, 3)],
    "plastic": [(5, 4), (4, 6), (6, 3)],
    "sign-symmetric": [(5, 4), (4, 6), (6, 3)],
    "direct": [(5, 3), (4, 3), (6, 3)],
    "symmetric": [],
    "symmetric-detached": [],
    "predictive-coding": [],
}


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_backward_weights_are_drawn_like_forward_ones(feedback):
    network = FullyConnected(WIDTHS, init="normal:0.5", feedback_name=feedback)
    drawn = network.draw(3, seeded()).backward
    assert [tuple(m.shape[1:]) for m in drawn] == SHAPES[feedback]
    assert all(len(m) == 3 for m in drawn)
    many = network.draw(200, seeded()).backward
    assert all(m.std().item() == pytest.approx(0.5, rel=0.05) for m in many)


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_images_of_any_sign_give_finite_errors(feedback):
    learner, state, x, label = draw(feedback)
    for error in errors_of(learner, state, 1e3 * normal(*x.shape), label):
        assert torch.isfinite(error).all()


def test_plastic_feedback_moves_and_all_others_stay():
    learner, state, x, label = draw("plastic", terms=("error_hebbian", "backward_hebbian"))
    theta = torch.full((EPISODES, 3, 2), 0.1, dtype=torch.float64)
    after = learner.step(state, theta, Examples(x, label))
    e, y = errors_of(learner, state, x, label), activities_of(learner, state, x)
    for level, (before, moved) in enumerate(zip(state.backward, after.backward, strict=True)):
        expected = -0.1 * torch.einsum("er,ec->erc", y[level], e[level + 1])
        assert_close(moved - before, expected)
    fixed, *_ = draw("fixed", terms=("error_hebbian",))
    after = fixed.step(state, theta[..., :1], Examples(x, label))
    assert all(a is b for a, b in zip(after.backward, state.backward, strict=True))


@pytest.mark.parametrize("feedback", [name for name in FEEDBACKS if name != "plastic"])
def test_backward_terms_need_plastic_feedback(feedback):
    with pytest.raises(UserError, match="--feedback plastic"):
        Learner.on_stack(FullyConnected(WIDTHS), feedback, named("error_hebbian", "backward_decay"))


def test_a_term_may_occur_once_only():
    with pytest.raises(UserError, match="once"):
        Learner.on_stack(FullyConnected(WIDTHS), "fixed", named("oja", "oja"))


def test_unknown_feedback_suggests_the_nearest():
    with pytest.raises(UserError, match="did you mean 'symmetric'"):
        get_feedback("symetric")
