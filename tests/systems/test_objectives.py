"""Every objective keeps its laws: the error is the loss's gradient, a better output scores more."""

import math

import numpy as np
import pytest
import torch
from support import assert_close, assert_is_one_sentence, named, normal, random_problem, seeded
from torch import nn

from metaplast.base.errors import UserError
from metaplast.engines import get_engine
from metaplast.rules.optimizer import RuleOptimizer
from metaplast.rules.rule import Rule
from metaplast.systems.objective import Objective, all_objectives, get_objective

OBJECTIVES = all_objectives()
each = pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)


def targets(objective, samples=(2, 5), neurons=3, seed=1):
    """Return random targets of the kind that an objective takes: classes, else vectors."""
    classes = torch.randint(neurons, samples, generator=seeded(seed))
    try:
        return objective.targets(classes, samples, neurons)
    except UserError:
        vectors = normal(*samples, neurons, seed=seed)
        return objective.targets(vectors, samples, neurons, dtype=torch.float64)


@each
def test_the_error_is_the_gradient_of_the_loss(objective):
    output, target = normal(2, 5, 3).requires_grad_(), targets(objective)
    loss = objective.loss(output, target)
    assert tuple(loss.shape) == (2, 5)
    (expected,) = torch.autograd.grad(loss.sum(), output)
    assert_close(objective.error(output.detach(), target), expected, 1e-12)


@each
def test_samples_are_independent(objective):
    output, target = normal(2, 5, 3), targets(objective)
    for method in (objective.loss, objective.error, objective.score):
        whole = method(output, target)
        assert_close(method(output[:, 2:3], target[:, 2:3]), whole[:, 2:3], 1e-14)


@each
def test_the_score_is_larger_where_the_output_went_down_the_gradient(objective):
    output, target = normal(2, 5, 3), targets(objective)
    better = output
    for _ in range(400):
        better = better - 0.1 * objective.error(better, target)
    assert objective.score(better, target).mean() > objective.score(output, target).mean()
    assert objective.worst <= objective.score(output, target).min()
    assert 0 < objective.least_effect < 1


@each
def test_the_least_score_is_finite_and_below_that_of_no_output(objective):
    target = targets(objective)
    least = objective.least_score(target)
    assert tuple(least.shape) == (2, 5)
    assert bool(torch.isfinite(least).all())
    nothing = objective.score(torch.zeros(2, 5, 3, dtype=torch.float64), target)
    assert least.mean() < nothing.mean()
    assert objective.worst <= least.min() <= objective.best


@each
def test_scores_lie_within_the_limits_of_their_scale(objective):
    score = objective.score(normal(2, 5, 3), targets(objective))
    low, high = objective.score_scale.limits
    assert low <= score.min()
    assert score.max() <= high


@each
@pytest.mark.parametrize("samples", [(2, 4), (1, 5), (5,)])
def test_targets_of_another_shape_are_refused(objective, samples):
    with pytest.raises(UserError) as caught:
        objective.targets(targets(objective), samples, 3)
    assert_is_one_sentence(caught.value)


def test_the_cross_entropy_is_that_of_a_plain_loop():
    objective = get_objective("cross-entropy")
    output, target = normal(1, 4, 3), torch.tensor([[0, 2, 1, 1]])
    for sample in range(4):
        z = output[0, sample].tolist()
        expected = -math.log(math.exp(z[target[0, sample]]) / sum(map(math.exp, z)))
        assert float(objective.loss(output, target)[0, sample]) == pytest.approx(expected)


def test_the_squared_error_is_that_of_a_plain_loop():
    objective = get_objective("mse")
    output, target = normal(1, 4, 3), normal(1, 4, 3, seed=9)
    for sample in range(4):
        pairs = zip(output[0, sample].tolist(), target[0, sample].tolist(), strict=True)
        squares = [(a - b) ** 2 for a, b in pairs]
        assert float(objective.loss(output, target)[0, sample]) == pytest.approx(sum(squares) / 2)
        assert float(objective.score(output, target)[0, sample]) == pytest.approx(-sum(squares) / 3)


def test_targets_that_are_no_numbers_are_refused():
    with pytest.raises(UserError, match="NaN"):
        get_objective("mse").targets(torch.full((1, 2, 3), math.nan), (1, 2), 3)


@pytest.mark.parametrize(
    "given",
    [
        np.ma.array([[1.0, 2.0, 3.0]] * 2, mask=[[0, 1, 0]] * 2),
        torch.eye(2, 3).to_sparse(),
        torch.empty(2, 3, device="meta"),
    ],
    ids=["masked", "sparse", "meta"],
)
@each
def test_targets_with_missing_numbers_are_refused(objective, given):
    with pytest.raises(UserError) as caught:
        objective.targets(given, (2,), 3)
    assert_is_one_sentence(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_targets_whose_squares_overflow_are_refused(dtype):
    objective, neurons = get_objective("mse"), 3
    largest = math.sqrt(torch.finfo(dtype).max / (4 * neurons))
    for size, is_held in ((0.99 * largest, True), (1.01 * largest, False)):
        given = torch.full((1, 2, neurons), -size, dtype=torch.float64)
        assert bool(torch.isfinite(objective.least_score(given.to(dtype))).all()) == is_held
        if is_held:
            objective.targets(given, (1, 2), neurons, dtype=dtype)
            continue
        with pytest.raises(UserError, match=r"must be at most .*target_scale") as caught:
            objective.targets(given, (1, 2), neurons, dtype=dtype)
        assert_is_one_sentence(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([1, 2, 3], "int64 of shape .*convert them to floating point"),
        ([1.0, 2.0], "give one vector of 3 numbers for each sample"),
        (np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]), "masked values"),
        (torch.ones(3).to_sparse(), "got a Tensor"),
        (torch.ones(3, device="meta"), "got a Tensor"),
    ],
)
def test_refused_targets_are_described(given, words):
    with pytest.raises(UserError, match=words) as caught:
        get_objective("mse").targets(given, (), 3)
    assert_is_one_sentence(caught.value)


@pytest.mark.parametrize("method", ["error", "loss", "score"])
@pytest.mark.parametrize("returned", [None, torch.zeros(())], ids=["nothing", "another shape"])
@pytest.mark.parametrize("engine", ["reference", "batched"])
def test_what_a_method_forgot_to_return_is_named(method, returned, engine, monkeypatch):
    problem = random_problem(named("error_hebbian"))
    kind = type(get_objective("cross-entropy"))
    monkeypatch.setattr(kind, method, lambda self, output, target: returned)
    with pytest.raises(
        UserError, match=rf"{method}\(\) of the objective cross-entropy must"
    ) as caught:
        get_engine(engine).run(problem)
    assert_is_one_sentence(caught.value)
    assert f"check what CrossEntropy.{method} returns" in str(caught.value)


def test_an_optimizer_names_an_error_that_was_not_returned(monkeypatch):
    model = nn.Sequential(nn.Linear(3, 2, bias=False))
    rule = Rule(named("error_hebbian"), ((0.1,),), "fixed", {"objective": "mse"})
    optimizer = RuleOptimizer(model, rule)
    model(torch.zeros(3))
    monkeypatch.setattr(type(get_objective("mse")), "error", lambda self, output, target: None)
    with pytest.raises(UserError, match=r"got None; check what MeanSquaredError\.error"):
        optimizer.step(torch.zeros(2))


def test_an_objective_without_a_lowest_score_is_refused_at_once(monkeypatch):
    class Endless(type(get_objective("mse"))):
        name = "endless"
        least_score = Objective.least_score

    monkeypatch.setattr(
        "metaplast.systems.objective.all_objectives", lambda: {"endless": Endless()}
    )
    with pytest.raises(UserError, match=r"endless .* must define least_score\(\)") as caught:
        get_objective("endless")
    assert_is_one_sentence(caught.value)
