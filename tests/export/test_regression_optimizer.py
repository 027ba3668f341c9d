"""Optimizers and single steps of rules found with the objective mse: vectors as targets, z − t."""

import copy
from dataclasses import replace

import pytest
import torch
from support import FEEDBACKS, assert_close, assert_is_one_sentence, named, normal, seeded
from test_code_exports import BIO
from test_regression_exports import NO_TARGETS, found, network
from test_rule_optimizer import ACTIVATIONS, examples, higher, optimizer_of, sequential
from torch import nn

from metaplast import FullyConnected, Rule, RuleOptimizer, UserError
from metaplast.engines import get_engine
from metaplast.engines.contract import Problem
from metaplast.rules.optimizer import FEEDBACK
from metaplast.systems.learner import Learner
from metaplast.tasks.batch import EpisodeBatch

HEBBIAN = named("error_hebbian")
OPTIMIZED = {
    **{name: {"feedback": name} for name in FEEDBACKS},
    **{name: {"activation": name} for name in ACTIVATIONS},
    "one output": {"widths": (4, 5, 1)},
    "one layer": {"widths": (5, 3)},
}


def problem_of(feedback="fixed", activation="softplus:10", widths=(6, 5, 4, 3)):
    """Return a problem of regression for one network."""
    terms = named("error_hebbian", "error_error", "decay", "gated_error_hebbian", "oja")
    learner = Learner.on_stack(
        FullyConnected(widths, activation, objective_name="mse"), feedback, terms
    )
    parts = [normal(1, n, w, seed=n + w) for n in (7, 4) for w in (widths[0], widths[-1])]
    state = learner.draw(1, seeded(3), torch.float64)
    return Problem(learner, 0.03 * normal(len(terms), seed=1), state, EpisodeBatch(*parts))


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIMIZED.values(), ids=OPTIMIZED)
def test_the_optimizer_and_a_single_step_do_what_the_engine_does(options):
    problem = problem_of(**options)
    model, optimizer = optimizer_of(problem)
    given = Rule.of(problem.learner.terms, problem.theta, problem.learner.feedback_name)
    given = replace(given, provenance={"objective": "mse"})
    weights, backward = ([m[0] for m in g] for g in (problem.state.weights, problem.state.backward))
    for index, (x, target) in enumerate(examples(problem)):
        model(x)
        optimizer.step([target, target[None], target.tolist(), target.numpy()][index % 4])
        weights, backward = given.step(
            weights, x, target, backward, activation=problem.learner.network.activation
        )
    final = get_engine("reference").run(problem, gradient=False).final
    for parameter, one, matrix in zip(model.parameters(), weights, final.weights, strict=True):
        assert_close(parameter.detach(), matrix[0], 1e-12)
        assert_close(one, matrix[0], 1e-12)
    for parameter, matrix in zip(model.parameters(), final.backward, strict=False):
        assert_close(optimizer.state[parameter][FEEDBACK], matrix[0], 1e-12)


def test_the_twins_gradient_is_the_reference_engines():
    problem = problem_of()
    model, optimizer = optimizer_of(problem)
    theta = problem.theta.clone().requires_grad_()
    half = lambda z, t: 0.5 * (z - t).square().sum(-1).mean()  # noqa: E731
    with higher.innerloop_ctx(model, optimizer, override={"theta": [theta]}) as (fmodel, diffopt):
        for x, target in examples(problem):
            diffopt.step(half(fmodel(x[None]), target[None]))
        loss = half(fmodel(problem.episodes.query_x[0]), problem.episodes.query_y[0])
    (gradient,) = torch.autograd.grad(loss, theta)
    expected = get_engine("reference").run(problem)
    assert_close(loss.detach(), expected.loss[0], 1e-12)
    assert_close(gradient, expected.theta_gradient[0], 1e-10)


@pytest.mark.parametrize("activation", ["softplus:10", "tanh", "relu"])
def test_symmetric_feedback_is_gradient_descent_on_half_the_squared_error(activation):
    model = sequential((6, 5, 4, 3), activation)
    twin = copy.deepcopy(model)
    optimizer = RuleOptimizer(model, Rule(HEBBIAN, ((0.05,),), "symmetric"), objective="mse")
    descent = torch.optim.SGD(twin.parameters(), lr=0.05)
    for step in range(10):
        x, target = normal(4, 6, seed=step), normal(4, 3, seed=100 + step)
        model(x)
        optimizer.step(target)
        descent.zero_grad()
        (0.5 * (twin(x) - target).square().sum(-1)).mean().backward()
        descent.step()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        assert_close(one.detach(), other.detach(), 1e-12)


@pytest.mark.parametrize("target", NO_TARGETS.values(), ids=NO_TARGETS)
def test_optimizers_and_single_steps_refuse_what_is_no_target(target):
    if callable(target):
        return
    model = sequential((6, 5, 3), "tanh")
    given = replace(Rule(HEBBIAN, ((0.1,),), "symmetric"), provenance={"objective": "mse"})
    optimizer = RuleOptimizer(model, given)
    before = [weight.detach().clone() for weight in model.parameters()]
    x = torch.ones(6, dtype=torch.float64)
    model(x)
    for step in (optimizer.step, lambda t: given.step(before, x, t)):
        with pytest.raises(UserError, match="the target") as caught:
            step(target)
        assert_is_one_sentence(caught.value)
    assert all(map(torch.equal, before, model.parameters()))


def test_class_labels_are_refused_by_a_batch_too():
    model = sequential((6, 3), "tanh")
    optimizer = RuleOptimizer(model, Rule(HEBBIAN, ((0.1,),), "symmetric"), objective="mse")
    model(torch.ones(2, 6, dtype=torch.float64))
    for wrong in ([0, 1], torch.tensor([0, 1]), [0.5, 0.5, 0.5]):
        with pytest.raises(UserError, match=r"the targets .*shape \(2, 3\)") as caught:
            optimizer.step(wrong)
        assert_is_one_sentence(caught.value)


def test_a_batch_of_networks_takes_a_target_each():
    given = Rule(HEBBIAN, ((0.1,),), "symmetric")
    weights = [normal(2, 4, 6), normal(2, 3, 4, seed=1)]
    x, rows = normal(2, 6, seed=2), normal(2, 3, seed=3)
    both = given.step(weights, x, rows, objective="mse").weights
    for episode in range(2):
        one = given.step([w[episode] for w in weights], x[episode], rows[episode], objective="mse")
        for whole, single in zip(both, one.weights, strict=True):
            assert_close(whole[episode], single, 1e-14)


def test_a_state_of_another_objective_is_refused():
    model = sequential((6, 3), "tanh")
    given = Rule(HEBBIAN, ((0.1,),), "symmetric")
    one, other = RuleOptimizer(model, given), RuleOptimizer(model, given, objective="mse")
    with pytest.raises(UserError, match="objective cross-entropy, the optimizer has mse") as caught:
        other.load_state_dict(one.state_dict())
    assert_is_one_sentence(caught.value)
    old = copy.deepcopy(one.state_dict())
    del old["param_groups"][0]["rule"]["objective"]
    one.load_state_dict(old)
    with pytest.raises(UserError, match="objective cross-entropy"):
        other.load_state_dict(old)
    # The old state does not make the optimizer forget its own objective.
    with pytest.raises(UserError, match="objective mse, the optimizer has cross-entropy"):
        one.load_state_dict(other.state_dict())


def test_a_learner_takes_its_network_s_objective():
    learner = found(BIO).learner(network())
    assert learner.network.objective.name == "cross-entropy"


def test_a_module_trained_with_mse_is_still_ordinary():
    model = nn.Sequential(nn.Linear(2, 1, bias=False))
    optimizer = RuleOptimizer(model, Rule(HEBBIAN, ((0.2,),), "symmetric"), objective="mse")
    for step in range(200):
        x = normal(2, seed=step).float()
        model(x)
        optimizer.step([float(x @ torch.tensor([2.0, -1.0]))])
    assert_close(model[0].weight.detach().double(), torch.tensor([[2.0, -1.0]]).double(), 1e-3)


def test_an_alias_of_the_objective_is_the_same_objective():
    model = sequential((6, 3), "tanh")
    rule = Rule(HEBBIAN, ((0.1,),), "symmetric")
    one, other = (RuleOptimizer(model, rule, objective=name) for name in ("mse", "Regression"))
    assert one.learner == other.learner
    other.load_state_dict(one.state_dict())
