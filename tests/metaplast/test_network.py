"""Activations, initial weights, the forward pass and the loss, against plain loops and autograd."""

import math

import pytest
import torch
from support import assert_close, assert_is_one_sentence, normal, seeded

from metaplast.base.errors import UserError
from metaplast.systems.activation import parse_activation
from metaplast.systems.fully_connected import FullyConnected
from metaplast.terms.operator import Operator

ACTIVATIONS = ["softplus:10", "softplus:1", "softplus", "tanh", "relu"]


def loop_activation(text, z):
    kind, _, beta = text.partition(":")
    if kind == "softplus":
        beta = float(beta or 10)
        return (max(beta * z, 0) + math.log1p(math.exp(-abs(beta * z)))) / beta
    return math.tanh(z) if kind == "tanh" else max(z, 0.0)


@pytest.mark.parametrize("text", ACTIVATIONS)
def test_activation_is_the_named_function(text):
    z = torch.linspace(-8, 8, 321, dtype=torch.float64)
    expected = torch.tensor([loop_activation(text, v) for v in z.tolist()], dtype=torch.float64)
    assert_close(parse_activation(text).apply(z), expected, 1e-14)


@pytest.mark.parametrize("text", ACTIVATIONS)
def test_gain_is_the_derivative_in_terms_of_the_activity(text):
    activation = parse_activation(text)
    z = torch.linspace(-3, 3, 120, dtype=torch.float64).requires_grad_()
    y = activation.apply(z)
    (expected,) = torch.autograd.grad(y.sum(), z)
    assert_close(activation.derivative(y.detach()), expected, 1e-12)


@pytest.mark.parametrize("beta", [1.0, 10.0])
def test_softplus_gain_is_one_minus_exp_of_the_activity(beta):
    y = torch.linspace(0, 3, 50, dtype=torch.float64)
    assert_close(
        parse_activation(f"softplus:{beta}").derivative(y), 1 - torch.exp(-beta * y), 1e-15
    )


@pytest.mark.parametrize("text", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gain_of_any_input_is_a_share(text, dtype):
    x = torch.tensor([-1e30, -1e4, -1.0, -0.1, 0.0, 0.5, 1.0, 1e4, 1e30], dtype=dtype)
    gain = parse_activation(text).derivative(x)
    assert ((gain >= 0) & (gain <= 1)).all()
    assert torch.isfinite(parse_activation(text).apply(x)).all()


@pytest.mark.parametrize(
    "text", ["sofplus", "softplus:0", "softplus:-1", "softplus:nan", "softplus:inf", "tanh:2", ""]
)
def test_bad_activations_are_refused(text):
    with pytest.raises(UserError) as caught:
        FullyConnected((2, 2), text)
    assert_is_one_sentence(caught.value)


def test_a_misspelt_activation_is_recognised():
    with pytest.raises(UserError, match="did you mean 'softplus'"):
        parse_activation("sofplus")


def loop_forward(widths, activation, weights, x):
    """Return all activities and the logits of one image, as lists."""
    activities, z = [x], x
    for level in range(1, len(widths)):
        matrix = weights[level - 1]
        z = [
            sum(matrix[i][j] * activities[-1][j] for j in range(widths[level - 1]))
            for i in range(widths[level])
        ]
        if level < len(widths) - 1:
            activities.append([loop_activation(activation, v) for v in z])
    total = sum(math.exp(v) for v in z)
    activities.append([math.exp(v) / total for v in z])
    return activities, z


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("widths", [(3, 2), (4, 5, 3), (3, 4, 2, 5, 2)], ids=str)
def test_forward_pass_loss_and_accuracy_are_those_of_plain_loops(activation, widths):
    network = FullyConnected(widths, activation)
    weights = network.draw(2, seeded(1), torch.float64).weights
    x, labels = normal(2, 3, widths[0], seed=2), torch.tensor([[0, 1, 1], [1, 0, 1]])
    forward = network.forward([Operator(w) for w in weights], x)
    losses, hits = torch.zeros(2, 3).double(), torch.zeros(2, 3).double()
    for episode in range(2):
        for sample in range(3):
            activities, logits = loop_forward(
                widths, activation, [w[episode].tolist() for w in weights],
                x[episode, sample].tolist(),
            )  # fmt: skip
            for got, expected in zip(forward.activities, activities, strict=True):
                assert_close(got[episode, sample], torch.tensor(expected).double(), 1e-6)
                assert got[episode, sample].tolist() == pytest.approx(expected, rel=1e-12)
            assert forward.output[episode, sample].tolist() == pytest.approx(logits, rel=1e-12)
            label = int(labels[episode, sample])
            losses[episode, sample] = -math.log(activities[-1][label])
            hits[episode, sample] = max(range(len(logits)), key=logits.__getitem__) == label
    assert_close(network.objective.loss(forward.output, labels), losses, 1e-12)
    assert_close(network.objective.score(forward.output, labels), hits, 1e-12)


def test_output_error_is_the_gradient_of_the_cross_entropy():
    network = FullyConnected((4, 3))
    weights = [Operator(w) for w in network.draw(2, seeded(), torch.float64).weights]
    x, labels = normal(2, 1, 4), torch.tensor([[2], [0]])
    forward = network.forward(weights, x)
    output = forward.output.detach().requires_grad_()
    loss = network.objective.loss(output, labels).sum()
    (expected,) = torch.autograd.grad(loss, output)
    assert_close(network.objective.error(forward.output, labels), expected, 1e-14)


def test_xavier_weights_are_uniform_within_their_bound():
    weights = FullyConnected((30, 50, 20)).draw(40, seeded()).weights
    assert [tuple(w.shape) for w in weights] == [(40, 50, 30), (40, 20, 50)]
    for weight in weights:
        bound = math.sqrt(6 / (weight.shape[1] + weight.shape[2]))
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.999 * bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
        assert abs(weight.mean().item()) < 0.02 * bound


@pytest.mark.parametrize("std", [0.01, 0.5])
def test_normal_weights_have_their_standard_deviation(std):
    (weight,) = FullyConnected((50, 40), init=f"normal:{std}").draw(20, seeded()).weights
    assert weight.std().item() == pytest.approx(std, rel=0.02)
    assert weight.abs().max() > 3 * std  # not uniform


def test_each_episode_has_weights_of_its_own():
    (weight,) = FullyConnected((3, 3)).draw(2, seeded()).weights
    assert not torch.equal(weight[0], weight[1])


@pytest.mark.parametrize(
    "options",
    [
        {"widths": (3,)},
        {"widths": (3, 0, 2)},
        {"init": "xavir"},
        {"init": "normal"},
        {"init": "normal:0"},
        {"init": "normal:-1"},
        {"init": "normal:nan"},
        {"init": "normal:inf"},
        {"init": "normal:x"},
        {"init": "xavier:2"},
    ],
    ids=str,
)
def test_bad_networks_are_refused(options):
    with pytest.raises(UserError) as caught:
        FullyConnected(**{"widths": (3, 2), **options})
    assert_is_one_sentence(caught.value)
