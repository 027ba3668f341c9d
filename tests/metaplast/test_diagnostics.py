"""Angles between errors, compared with plain trigonometry."""

import math

import pytest
import torch
from support import named, normal, seeded

from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.systems.system import Examples

WIDTHS = (4, 3, 5, 2)


def angles_of(feedback, change=lambda state: state, widths=WIDTHS, dtype=torch.float64):
    learner = Learner.on_stack(FullyConnected(widths, "tanh"), feedback, named("error_hebbian"))
    state = change(learner.draw(2, seeded(), dtype))
    x, labels = normal(2, 6, widths[0], seed=1, dtype=dtype), torch.arange(12).view(2, 6) % 2
    return learner, state, x, labels, learner.error_angles(state, Examples(x, labels))


def backward_of(factor):
    return lambda state: State.stack(state.weights, tuple(factor * w.mT for w in state.weights))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("feedback", ["symmetric", "symmetric-detached"])
@pytest.mark.parametrize("widths", [WIDTHS, (64, 170, 130, 100, 70, 10)], ids=["small", "usual"])
def test_backprop_is_at_no_angle_to_itself(feedback, widths, dtype):
    *_, angles = angles_of(feedback, widths=widths, dtype=dtype)
    assert angles.dtype == dtype
    assert angles.tolist() == [[0.0] * (len(widths) - 2)] * 2


def test_a_small_angle_is_no_noise():
    """In float32, the acos of a cosine cannot distinguish angles below 0.02 degrees from 0."""
    turn, p, q = 1e-4, *torch.eye(3)[:2]
    learner = Learner.on_stack(FullyConnected((4, 3, 2), "tanh"), "fixed", named("error_hebbian"))
    # Dark images: e_L = (-1/2, 1/2) and all slopes are 1; Wᵀ e_L = -p, and B e_L is turned from it.
    weight = torch.stack([p, -p])
    feedback = torch.stack([p + turn * q, -p - turn * q], -1)
    drawn = learner.draw(1, seeded())
    state = State.stack((drawn.weights[0], weight[None]), (drawn.backward[0], feedback[None]))
    query = Examples(torch.zeros(1, 1, 4), torch.zeros(1, 1).long())
    angles = learner.error_angles(state, query)
    assert angles.item() == pytest.approx(math.degrees(turn), rel=1e-4)


@pytest.mark.parametrize(("factor", "angle"), [(3.0, 0.0), (-1.0, 180.0)])
def test_transposed_weights_are_parallel_whatever_their_size(factor, angle):
    *_, angles = angles_of("fixed", backward_of(factor))
    # Two layers down, two reversals cancel.
    lower = 0.0 if factor < 0 else angle
    assert angles[:, 1].tolist() == pytest.approx([angle] * 2, abs=1e-5)
    assert angles[:, 0].tolist() == pytest.approx([lower] * 2, abs=1e-5)


def test_angles_are_those_of_means_over_the_batch():
    _, state, x, labels, angles = angles_of("fixed")
    for episode in range(2):
        w2, w3 = state.weights[1][episode], state.weights[2][episode]
        b2, b3 = state.backward[1][episode], state.backward[2][episode]
        sums = [torch.zeros(n).double() for n in (3, 3, 5, 5)]
        for image, label in zip(x[episode], labels[episode], strict=True):
            y1 = torch.tanh(state.weights[0][episode] @ image)
            y2 = torch.tanh(w2 @ y1)
            e3 = torch.softmax(w3 @ y2, 0)
            e3[label] -= 1
            fed, true = (b3 @ e3) * (1 - y2**2), (w3.T @ e3) * (1 - y2**2)
            below = (b2 @ fed) * (1 - y1**2), (w2.T @ true) * (1 - y1**2)
            for total, error in zip(sums, (*below, fed, true), strict=True):
                total += error
        for layer in range(2):
            a, b = sums[2 * layer], sums[2 * layer + 1]
            expected = math.degrees(math.acos(float(a @ b / (a.norm() * b.norm()))))
            assert angles[episode, layer].item() == pytest.approx(expected)


def test_a_network_without_hidden_layer_has_no_angles():
    *_, angles = angles_of("fixed", widths=(4, 2))
    assert tuple(angles.shape) == (2, 0)


def test_a_vanishing_error_counts_as_a_right_angle():
    *_, angles = angles_of("fixed", backward_of(0.0))
    assert angles.flatten().tolist() == [90.0] * 4


def test_two_vanishing_errors_count_as_a_right_angle():
    def silent(state):
        return State.stack(tuple(0 * weight for weight in state.weights), state.backward)

    *_, angles = angles_of("symmetric", silent)
    assert angles.flatten().tolist() == [90.0] * 4
