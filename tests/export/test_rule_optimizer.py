"""RuleOptimizer does what the engine does; its twin's gradient is the reference engine's."""

import copy
from itertools import pairwise

import pytest
import torch
from support import FEEDBACKS, assert_close, assert_is_one_sentence, named, normal, random_problem
from torch import nn
from torch.nn.utils import prune

import metaplast.rules.differentiable
from metaplast import Rule, RuleOptimizer, UserError
from metaplast.engines import get_engine
from metaplast.rules.model_description import describe
from metaplast.rules.optimizer import FEEDBACK

higher = metaplast.rules.differentiable.higher

TERMS = named("error_hebbian", "error_error", "decay", "gated_error_hebbian", "oja")
PLASTIC = (*TERMS, *named("backward_hebbian", "backward_oja"))
ACTIVATIONS = {
    "softplus:10": lambda: nn.Softplus(beta=10, threshold=40),
    "softplus:2.5": lambda: nn.Softplus(beta=2.5, threshold=40),
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


def sequential(widths, activation, dtype=torch.float64):
    modules = []
    for fan_in, fan_out in pairwise(widths):
        modules += [nn.Linear(fan_in, fan_out, bias=False), ACTIVATIONS[activation]()]
    return nn.Sequential(*modules[:-1]).to(dtype)


def put(state, model, optimizer):
    """Start a model and the optimizer's feedback where an engine starts."""
    parameters = list(model.parameters())
    for parameter, matrix in zip(parameters, state.weights, strict=True):
        parameter.data.copy_(matrix[0])
    for parameter, matrix in zip(parameters, state.backward, strict=False):
        optimizer.state[parameter][FEEDBACK].copy_(matrix[0])


def examples(problem):
    return zip(problem.episodes.support_x[0], problem.episodes.support_y[0], strict=True)


CASES = {
    **{name: {"feedback": name} for name in FEEDBACKS},
    **{name: {"activation": name} for name in ACTIVATIONS},
    "per layer": {"per_layer": True},
    "one layer": {"widths": (5, 3)},
    "seven layers": {"widths": (6, 5, 4, 5, 4, 5, 4, 3)},
}


def problem_of(**options):
    options = {"activation": "softplus:10", "feedback": "fixed", **options}
    terms = PLASTIC if options["feedback"] == "plastic" else TERMS
    return random_problem(terms, episodes=1, seed=3, **options)


def optimizer_of(problem):
    """Return a model and its optimizer, which begin where an engine does."""
    own = problem.learner.network
    model = sequential(own.widths, own.activation)
    found = {"objective": own.objective_name}
    rule = Rule.of(problem.learner.terms, problem.theta, own.feedback_name, found)
    optimizer = RuleOptimizer(model, rule, activation=own.activation)
    put(problem.state, model, optimizer)
    return model, optimizer


@pytest.mark.slow
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_the_optimizer_does_what_the_engine_does(options):
    problem = problem_of(**options)
    model, optimizer = optimizer_of(problem)
    for x, label in examples(problem):
        model(x)
        optimizer.step(label)
    final = get_engine("reference").run(problem, gradient=False).final
    for parameter, matrix in zip(model.parameters(), final.weights, strict=True):
        assert_close(parameter.detach(), matrix[0], 1e-12)
    for parameter, matrix in zip(model.parameters(), final.backward, strict=False):
        assert_close(optimizer.state[parameter][FEEDBACK], matrix[0], 1e-12)


# The twin is given a loss of one output; strict needs the error at others.
TWINS = CASES | {"predictive-coding": {"feedback": "predictive-coding:fixed,eta=0.5,n=4"}}


@pytest.mark.slow
@pytest.mark.parametrize("options", TWINS.values(), ids=TWINS)
def test_the_twins_gradient_is_the_reference_engines(options):
    problem = problem_of(**options)
    model, optimizer = optimizer_of(problem)
    theta = problem.theta.clone().requires_grad_()
    cross_entropy = nn.functional.cross_entropy
    with higher.innerloop_ctx(model, optimizer, override={"theta": [theta]}) as (fmodel, diffopt):
        for x, label in examples(problem):
            diffopt.step(cross_entropy(fmodel(x[None]), label[None]))
        loss = cross_entropy(fmodel(problem.episodes.query_x[0]), problem.episodes.query_y[0])
    (gradient,) = torch.autograd.grad(loss, theta)
    expected = get_engine("reference").run(problem)
    assert_close(loss.detach(), expected.loss[0], 1e-12)
    assert_close(gradient, expected.theta_gradient[0], 1e-10)
    assert float(gradient.abs().max()) > 0


def test_the_twin_refuses_strict_predictive_coding():
    problem = problem_of(feedback="predictive-coding:strict,n=2")
    model, optimizer = optimizer_of(problem)
    x, label = next(iter(examples(problem)))
    with higher.innerloop_ctx(model, optimizer) as (fmodel, diffopt):
        loss = nn.functional.cross_entropy(fmodel(x[None]), label[None])
        with pytest.raises(UserError, match="for one output only") as caught:
            diffopt.step(loss)
    assert_is_one_sentence(caught.value)


def test_the_twin_without_gradients_ends_where_the_engine_does():
    problem = problem_of(feedback="plastic")
    model, optimizer = optimizer_of(problem)
    context = higher.innerloop_ctx(model, optimizer, track_higher_grads=False)
    with context as (fmodel, diffopt):
        for x, label in examples(problem):
            diffopt.step(nn.functional.cross_entropy(fmodel(x), label))
        final = get_engine("reference").run(problem, gradient=False).final
        for parameter, matrix in zip(fmodel.parameters(), final.weights, strict=True):
            assert_close(parameter.detach(), matrix[0], 1e-12)
    # The model itself stays as it was.
    for parameter, matrix in zip(model.parameters(), problem.state.weights, strict=True):
        assert torch.equal(parameter.detach(), matrix[0])


def test_the_feedback_is_saved_with_the_optimizer():
    problem = problem_of()
    model, optimizer = optimizer_of(problem)
    other = RuleOptimizer(
        model, Rule.of(TERMS, problem.theta, "fixed"), generator=torch.Generator().manual_seed(9)
    )
    first = next(model.parameters())
    assert not torch.equal(other.state[first][FEEDBACK], optimizer.state[first][FEEDBACK])
    other.load_state_dict(optimizer.state_dict())
    assert torch.equal(other.state[first][FEEDBACK], optimizer.state[first][FEEDBACK])


def test_flattened_images_and_nested_stacks_are_served():
    model = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(nn.Linear(6, 5, bias=False), nn.Tanh()),
        nn.Identity(),
        nn.Linear(5, 3, bias=False),
    )
    assert describe(model).widths == (6, 5, 3)
    optimizer = RuleOptimizer(model, Rule(TERMS[:1], ((0.1,),), "direct"))
    before = [p.clone() for p in model.parameters()]
    model(torch.rand(1, 2, 3))
    optimizer.step(2)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_a_single_precision_model_keeps_its_precision():
    model = sequential((6, 5, 3), "relu", torch.float32)
    optimizer = RuleOptimizer(model, Rule(TERMS[:1], ((0.1,),), "fixed"))
    model(torch.rand(6))
    optimizer.step(0)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def linear(*widths):
    return nn.Linear(*widths, bias=False)


class Doubled(nn.Sequential):
    def forward(self, x):
        return 2 * super().forward(x)


MODELS = {
    "not a Sequential": lambda: linear(3, 2),
    "with biases": lambda: nn.Sequential(nn.Linear(3, 2)),
    "an activation last": lambda: nn.Sequential(linear(3, 2), nn.ReLU()),
    "an activation first": lambda: nn.Sequential(nn.ReLU(), linear(3, 2)),
    "two Linear layers in a row": lambda: nn.Sequential(linear(3, 2), linear(2, 2), linear(2, 2)),
    "an unknown activation": lambda: nn.Sequential(linear(3, 2), nn.GELU(), linear(2, 2)),
    "two activations": lambda: nn.Sequential(
        linear(3, 2), nn.Tanh(), linear(2, 2), nn.ReLU(), linear(2, 2)
    ),
    "empty": nn.Sequential,
    "dropout": lambda: nn.Sequential(linear(3, 2), nn.Tanh(), nn.Dropout(), linear(2, 2)),
    "a convolution": lambda: nn.Sequential(nn.Conv2d(1, 1, 1), nn.Tanh(), linear(3, 2)),
    "a Linear used twice": lambda: nn.Sequential(*[linear(3, 3), nn.Tanh()] * 2)[:3],
    "a weight used twice": lambda: tied(linear(3, 3), linear(3, 3)),
    "a forward of its own": lambda: Doubled(linear(3, 2)),
    "a nested forward of its own": lambda: nn.Sequential(Doubled(linear(3, 2))),
    "a forward put on it": lambda: patched(nn.Sequential(linear(3, 2))),
    "a weight computed": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(linear(3, 2))),
    "a weight pruned": lambda: nn.Sequential(
        prune.random_unstructured(linear(3, 2), "weight", 0.5)
    ),
    "a layer without weights yet": lambda: nn.Sequential(nn.LazyLinear(2, bias=False)),
    "a bent Softplus": lambda: nn.Sequential(
        linear(3, 2), nn.Softplus(10, threshold=1), linear(2, 2)
    ),
    "two dtypes": lambda: nn.Sequential(linear(3, 2).double(), nn.Tanh(), linear(2, 2)),
    "no numbers": lambda: nn.Sequential(linear(3, 2)).to("meta"),
    "in a wrapper": lambda: nn.DataParallel(nn.Sequential(linear(3, 2))),
}


def tied(first, second):
    second.weight = first.weight
    return nn.Sequential(first, nn.Tanh(), second)


def patched(model):
    model.forward = lambda x: x
    return model


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_model_of_another_kind_is_refused(make):
    with pytest.raises(UserError) as caught:
        RuleOptimizer(make(), Rule(TERMS[:1], ((0.1,),), "fixed"))
    assert_is_one_sentence(caught.value)


def test_a_rule_of_another_depth_is_refused():
    with pytest.raises(UserError, match="coefficients for 3 layers, the model has 2") as caught:
        RuleOptimizer(
            sequential((4, 3, 2), "tanh"), Rule(TERMS[:1], ((0.1,), (0.2,), (0.3,)), "fixed")
        )
    assert_is_one_sentence(caught.value)


def test_coefficients_of_another_systems_matrices_are_refused():
    own = {"system": "recurrent"}
    rule = Rule(TERMS[:1], ((0.1,), (0.2,), (0.3,)), "fixed", own, per_layer=True)
    model = sequential((4, 3, 3, 2), "tanh")
    weights = [weight.detach() for weight in model.parameters()]
    for use in (
        lambda: RuleOptimizer(model, rule),
        lambda: rule.step(weights, torch.ones(4).double(), 1, [w.T for w in weights]),
    ):
        with pytest.raises(UserError, match="of the system recurrent") as caught:
            use()
        assert_is_one_sentence(caught.value)


def loss(model):
    return nn.functional.cross_entropy(model(normal(4)), torch.tensor(0))


def replaced(name, new):
    return lambda module: setattr(module, name, new)


MISUSE = {
    "no call": (lambda model: None, 0, "call the model first"),
    "one label for several": (lambda model: model(normal(2, 4)), 0, "of shape .2,."),
    "several labels for one": (lambda model: model(normal(4)), [0, 1, 1], "a whole number from 0"),
    "no examples": (lambda model: model(normal(0, 4)), [], "at least one example"),
    "two axes of examples": (lambda model: model(normal(2, 3, 4)), [0], "flatten the inputs"),
    "a loss": (loss, torch.tensor(0.7), "not a loss"),
    "a float": (loss, 1.0, "not a loss"),
    "a bool": (loss, True, "a whole number from 0 to 1"),
    "a negative class": (loss, -1, "from 0 to 1"),
    "too large a class": (loss, 2, "from 0 to 1"),
    "no label": (loss, None, "a whole number from 0 to 1"),
    "a string": (loss, "0", "a whole number from 0 to 1"),
    "a closure that gives the loss": (lambda model: None, loss, "not a loss"),
    "a closure without a call": (loss, lambda model: 0, "call the model first"),
    "a layer's own call": (lambda model: model[0](normal(4)), 0, "call the model first"),
    "a call in evaluation mode": (lambda model: model.eval()(normal(4)), 0, "model.train"),
    "a copy's call": (lambda model: copy.deepcopy(model)(normal(4)), 0, "call the model first"),
    "a call with other weights": (
        lambda model: torch.func.functional_call(
            model, {name: 2 * weight for name, weight in model.named_parameters()}, normal(4)
        ), 0, "with its own weights",
    ),
    "a replaced layer": (replaced("0", linear(4, 3).double()), 0, "were replaced"),
    "a replaced activation": (replaced("1", nn.ReLU()), 0, "were replaced"),
    "a replaced weight": (
        lambda model: replaced("weight", nn.Parameter(normal(2, 3)))(model[2]), 0, "were replaced",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("call", "label", "sentence"), MISUSE.values(), ids=MISUSE)
def test_misuse_is_explained(call, label, sentence):
    model = sequential((4, 3, 2), "tanh")
    optimizer = RuleOptimizer(model, Rule(TERMS[:1], ((0.1,),), "fixed"))
    call(model)
    before = [weight.clone() for weight in model.parameters()]
    with pytest.raises(UserError, match=sentence) as caught:
        optimizer.step((lambda: label(model)) if callable(label) else label)
    assert_is_one_sentence(caught.value)
    assert all(map(torch.equal, before, model.parameters()))


def test_the_twin_refuses_a_loss_of_something_else():
    model = sequential((4, 3, 2), "tanh")
    optimizer = RuleOptimizer(model, Rule(TERMS[:1], ((0.1,),), "fixed"))
    with higher.innerloop_ctx(model, optimizer) as (fmodel, diffopt):
        fmodel(normal(4))
        with pytest.raises(UserError, match="loss of the model's last output") as caught:
            diffopt.step(torch.zeros((), requires_grad=True) * 2)
    assert_is_one_sentence(caught.value)
