"""The published arithmetic of predictive coding, against metaplast's own in double precision."""

import pytest
import torch
from support import normal, seeded

from metaplast import predictive_coding
from rule_library.experiments.coding_networks import (
    LOSSES,
    backprop,
    distances,
    network,
    published,
    published_sweeps,
    weight_gradients,
)

X, Y = normal(6, 1, 8, 8, seed=1).abs(), torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(("variant", "eta", "n"), [("strict", 0.1, 6), ("fixed", 0.3, 7)])
def test_the_published_arithmetic_in_double_precision_is_ours(variant, eta, n, loss):
    model = network(8, 3, seeded(), torch.float64)
    published(model, LOSSES[loss], X, Y, variant, eta, n)
    theirs = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    predictive_coding(model, LOSSES[loss], X, Y, variant, eta, n)
    for a, b in zip(theirs, model.parameters(), strict=True):
        torch.testing.assert_close(a, b.grad, rtol=1e-7, atol=1e-12)


def test_every_number_of_sweeps_is_that_of_a_relaxation_of_its_own():
    model, found = network(8, 3, seeded(), torch.float64), {}
    for n in published_sweeps(model, LOSSES["mse"], X, Y, "strict", 0.2, (2, 5)):
        found[n] = weight_gradients(model)
    for n in (2, 5):
        published(model, LOSSES["mse"], X, Y, "strict", 0.2, n)
        for a, b in zip(found[n], weight_gradients(model), strict=True):
            torch.testing.assert_close(a, b)


def test_a_network_has_the_published_sizes_and_is_the_same_in_every_precision():
    model = network(28, 10, seeded(), torch.float32)
    assert sum(p.numel() for p in model.parameters()) == 32_695
    double = network(28, 10, seeded(), torch.float64)
    for a, b in zip(model.parameters(), double.parameters(), strict=True):
        torch.testing.assert_close(a.double(), b)
    bound = 1 / 605**0.5
    assert 0.9 * bound < float(double[2][0].weight.detach().abs().max()) <= bound


def test_distances_are_relative_and_in_degrees():
    model = network(8, 3, seeded(), torch.float64)
    backprop(model, LOSSES["cross-entropy"], X, Y)
    true = weight_gradients(model)
    found = distances([2 * g for g in true[:-1]] + [-true[-1]], true)
    assert found["error"] == pytest.approx([1, 1, 1, 1, 2])
    assert found["angle"] == pytest.approx([0, 0, 0, 0, 180])
