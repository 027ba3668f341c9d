"""Episodes built to diverge at one place, and what the guard says about them."""

from dataclasses import replace

import pytest
import torch
from support import named, random_problem

from metaplast.engines import get_engine
from metaplast.meta.divergence import Divergence, diagnose
from metaplast.systems.state import State

HUGE = 1e200


def planted(terms, place, value, **options):
    """Return a per-layer problem of tiny coefficients, but for `value` at (layer, term)."""
    problem = random_problem(
        named(*terms), per_layer=True, episodes=1, size=1e-6, activation="softplus:10", **options
    )
    layer, name = place
    problem.theta[layer - 1, terms.index(name)] = value
    assert not get_engine("batched").run(problem).finite.any()
    return problem


FORWARD = ("error_hebbian", "error_error", "decay")


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_growth_of_one_layer_is_found(layer):
    # W is multiplied by 1e200 at each step, and overflows at the second.
    problem = planted(FORWARD, (layer, "decay"), -HUGE)
    # All other coefficients are zero, or other matrices would diverge too.
    quiet = torch.zeros_like(problem.theta)
    quiet[layer - 1, 2] = -HUGE
    problem.theta.copy_(quiet)
    assert diagnose(problem) == Divergence("learning", 1, f"W{layer}", "decay")


@pytest.mark.parametrize("term", ["error_hebbian", "oja", "summed_error_hebbian"])
@pytest.mark.parametrize("layer", [1, 2, 3])
def test_one_huge_coefficient_overflows_at_the_first_step(layer, term):
    terms = ("decay", "error_error", term)
    problem = planted(terms, (layer, term), 1e308)
    problem.episodes.support_x.mul_(1e3)
    assert diagnose(problem) == Divergence("learning", 0, f"W{layer}", term)


def test_growth_of_backward_weights_is_found():
    terms = ("error_hebbian", "backward_hebbian", "backward_decay")
    problem = planted(terms, (2, "backward_decay"), -HUGE, feedback="plastic")
    problem.theta[:, :2] = 0
    assert diagnose(problem) == Divergence("learning", 1, "B2", "backward_decay")


def test_the_step_is_that_of_the_image_that_did_it():
    problem = random_problem(named("error_hebbian"), episodes=1, steps=7)
    problem.episodes.support_x[:, 4] = torch.inf
    found = diagnose(problem)
    assert (found.phase, found.step, found.term) == ("learning", 4, "error_hebbian")


def test_a_query_that_overflows_is_told_from_learning():
    problem = random_problem(named("error_hebbian", "decay"), episodes=1, steps=1)
    # After one step every matrix is finite, but not their product.
    problem.theta.copy_(torch.tensor([0.0, -HUGE], dtype=torch.float64))
    assert diagnose(problem) == Divergence("query", 1, "", "")


def vanishing(problem, layer, size):
    """Shrink the initial weights of one layer."""
    weights = list(problem.state.weights)
    weights[layer - 1] = size * weights[layer - 1]
    return replace(problem, state=State.stack(tuple(weights), problem.state.backward))


def test_an_adjoint_that_overflows_is_told_from_learning():
    problem = random_problem(
        named("error_hebbian", "decay"), widths=(4, 3, 2), per_layer=True, episodes=1, steps=4
    )
    problem.theta.copy_(torch.tensor([[0, 0], [0, -1e120]], dtype=torch.float64))
    # W_2 grows by 1e120 a step from 1e-300 to 1e180; its adjoint, going back, from 1 to beyond.
    problem = vanishing(problem, 2, 1e-300)
    # Whatever the network learns, it is wrong on some of these.
    problem.episodes.query_y.copy_(torch.tensor([[0, 1, 0, 1]]))
    problem.episodes.query_x.copy_(problem.episodes.query_x[:, :1].expand(-1, 4, -1))
    outcome = get_engine("batched").run(problem)
    assert torch.isfinite(outcome.loss).all()
    assert not outcome.finite.any()
    assert diagnose(problem) == Divergence("gradient", 1, "W2", "decay")


@pytest.mark.parametrize(
    ("divergence", "sentence"),
    [
        (
            Divergence("learning", 3, "W2", "oja"),
            "non-finite learning at step 3, W2, most of it from oja",
        ),
        (Divergence("query", 9, "", ""), "non-finite query at step 9"),
    ],
    ids=["learning", "query"],
)
def test_sentences(divergence, sentence):
    assert str(divergence) == sentence


def test_diagnosis_leaves_the_problem_as_it_was():
    problem = planted(FORWARD, (2, "decay"), -HUGE)
    before = [m.clone() for m in (*problem.state.matrices.values(), problem.theta)]
    diagnose(problem)
    after = (*problem.state.matrices.values(), problem.theta)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
