"""A model that a RuleOptimizer trains stays an ordinary model, and learns what it should."""

import copy
import gc
import io
import pickle
import threading

import numpy as np
import pytest
import torch
from support import assert_close, assert_is_one_sentence, named, normal, seeded
from torch import nn

import metaplast.rules.differentiable
from metaplast import Rule, RuleOptimizer, UserError
from metaplast.rules.model_signals import _hooks, _places
from metaplast.rules.optimizer import FEEDBACK

higher = metaplast.rules.differentiable.higher

RULE = Rule(
    named("error_hebbian", "oja", "backward_hebbian", "backward_oja"),
    ((0.1, 0.02, 0.1, 0.02),),
    "plastic",
)
X, LABELS = normal(6, 5).double(), torch.tensor([0, 2, 1, 1, 0, 2])


def model_of(*, seed=0, inplace=False):
    generator = seeded(seed)
    layers = [nn.Linear(a, b, bias=False) for a, b in ((5, 4), (4, 4), (4, 3))]
    for layer in layers:
        layer.weight.data.normal_(0, 0.5, generator=generator)
    activation = nn.ReLU(inplace=inplace)  # one module, used twice
    model = nn.Sequential(layers[0], activation, layers[1], activation, layers[2])
    return model.double()


def made(**options):
    model = model_of()
    return model, RuleOptimizer(model, RULE, **options)


def matrices(optimizer):
    """Return copies of the weights and of the feedback."""
    weights = optimizer.param_groups[0]["params"]
    feedback = [optimizer.state[weight][FEEDBACK] for weight in weights]
    return [matrix.detach().clone() for matrix in (*weights, *feedback)]


def assert_same(one, other):
    assert all(map(torch.equal, matrices(one), matrices(other)))


def learned(count=1):
    """Return an optimizer that learned the first examples, one after another."""
    model, optimizer = made()
    for x, label in zip(X[:count], LABELS, strict=False):
        model(x)
        optimizer.step(label)
    return optimizer


BETWEEN = {
    "a copy's call": lambda model, x: copy.deepcopy(model)(X[3]),
    "a layer's call": lambda model, x: model[0](X[3]),
    "a call in evaluation mode": lambda model, x: (model.eval()(X[3]), model.train()),
    "a change of the input": lambda model, x: x.zero_(),
    "saving": lambda model, x: torch.save(model, io.BytesIO()),
}


@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
def test_what_happens_between_call_and_step_is_not_learned(between):
    model, optimizer = made()
    x = X[0].clone()
    model(x)
    between(model, x)
    optimizer.step(0)
    assert_same(optimizer, learned())


def test_what_is_done_to_the_output_is_not_learned():
    model, optimizer = made()
    with torch.no_grad():
        model(X[0]).zero_()
    optimizer.step(0)
    assert_same(optimizer, learned())


def test_activations_in_place_are_learned_as_others():
    model = model_of(inplace=True)
    optimizer = RuleOptimizer(model, RULE)
    model(X[0])
    optimizer.step(0)
    assert_same(optimizer, learned())


def test_nothing_stays_on_the_model_or_in_torch():
    before = {name: dict(vars(module)) for name, module in model_of().named_modules()}
    model, optimizer = made()
    model(X[0])
    optimizer.step(0)
    for name, module in model.named_modules():
        assert vars(module).keys() == before[name].keys()
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    identities = {id(module) for module in (model, model[0], model[2], model[4])}
    assert identities <= _places.keys()
    assert len(_hooks) == 1
    del optimizer
    gc.collect()
    assert not identities & _places.keys()
    assert bool(_hooks) == bool(_places)


def test_a_saved_model_holds_nothing_of_metaplast():
    model, optimizer = made()
    model(X[0])
    optimizer.step(0)
    file = io.BytesIO()
    torch.save(model, file)
    assert b"metaplast" not in file.getvalue()
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert torch.equal(loaded(X[1]), model(X[1]))


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda pair: pickle.loads(pickle.dumps(pair))}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_model_and_its_optimizer_are_copied_together(copied):
    model, optimizer = made()
    other_model, other = copied((model, optimizer))
    assert other.model is other_model
    other_model(X[0])
    other.step(0)
    assert_same(other, learned())
    assert_same(optimizer, made()[1])


def test_two_optimizers_learn_the_same_call():
    model = model_of()
    half, other = RuleOptimizer(model, RULE, lr=0.5), RuleOptimizer(model, RULE, lr=0.5)
    model(X[0])
    half.step(0)
    other.step(0)
    assert not torch.equal(model[0].weight, model_of()[0].weight)
    with pytest.raises(UserError, match="since the last step"):
        half.step(0)


def test_each_thread_learns_its_own_call():
    model, optimizer = made()
    model(X[0])
    thread = threading.Thread(target=lambda: model(X[3]))
    thread.start()
    thread.join()
    optimizer.step(0)
    assert_same(optimizer, learned())


@pytest.mark.slow
def test_a_compiled_model_is_refused_and_stays_in_one_graph():
    model, optimizer = made()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    model(X[0])
    with pytest.warns(UserWarning, match="global hooks"):
        compiled(X[3])
    with pytest.raises(UserError, match="not compiled") as caught:
        optimizer.step(0)
    assert_is_one_sentence(caught.value)
    model.compile(backend="eager")
    with pytest.raises(UserError, match="not compiled"):
        optimizer.step(lambda: int(model(X[0]).argmax()))


def test_a_frozen_layer_keeps_its_weight_and_its_feedback():
    model, optimizer = made()
    model[2].weight.requires_grad_(False)
    before = matrices(optimizer)
    model(X[0])
    optimizer.step(0)
    kept = list(map(torch.equal, before, matrices(optimizer)))
    assert kept == [False, True, False] * 2


def test_examples_together_change_the_weights_by_the_mean():
    model, optimizer = made()
    model(X)
    optimizer.step(LABELS)
    expected = []
    for x, label in zip(X, LABELS, strict=True):
        single_model, single = made()
        single_model(x)
        single.step(label)
        expected.append(matrices(single))
    for matrix, singles in zip(matrices(optimizer), zip(*expected, strict=True), strict=True):
        assert_close(matrix, torch.stack(singles).mean(0), 1e-12)


ALIKE = {
    "a Python number": 2,
    "an unsigned NumPy number": np.uint8(2),
    "a tensor": torch.tensor([2]),
    "probabilities": torch.tensor([0.0, 0.0, 1.0]),
    "a row of probabilities": torch.tensor([[0.0, 0.0, 1.0]]),
    "a closure": None,
}


@pytest.mark.parametrize("label", ALIKE.values(), ids=ALIKE)
def test_labels_are_told_in_several_ways(label):
    model, optimizer = made()
    if label is None:
        label = lambda: (model(X[0]), 2)[1]  # noqa: E731
    else:
        model(X[:1])
    returned = optimizer.step(label)
    other_model, other = made()
    other_model(X[:1] if returned is None else X[0])
    other.step(closure=None, label=2)
    assert returned == (2 if callable(label) else None)
    assert_same(optimizer, other)


def test_a_scheduler_turns_lr_a_factor_on_theta():
    model, optimizer = made(lr=0.5)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    quarter = Rule(RULE.terms, (tuple(value / 4 for value in RULE.theta[0]),), "plastic")
    other_model = model_of()
    other = RuleOptimizer(other_model, quarter)
    model(X[0])
    optimizer.step(0)
    scheduler.step()
    other_model.load_state_dict(model.state_dict())
    for mine, its in zip(model.parameters(), other_model.parameters(), strict=True):
        other.state[its][FEEDBACK] = optimizer.state[mine][FEEDBACK].clone()
    for trained, trainer in ((model, optimizer), (other_model, other)):
        trained(X[1])
        trainer.step(2)
    assert_same(optimizer, other)


@pytest.mark.parametrize("lr", [-0.1, float("nan"), float("inf"), True, "1", None])
def test_an_invalid_factor_is_refused(lr):
    with pytest.raises(UserError, match="lr") as caught:
        made(lr=lr)
    assert_is_one_sentence(caught.value)
    model, optimizer = made()
    optimizer.param_groups[0]["lr"] = lr
    model(X[0])
    with pytest.raises(UserError, match="lr"):
        optimizer.step(0)


def not_a_number(model, optimizer):
    return X[0] * float("nan")


def an_infinite_input(model, optimizer):
    return X[0] * float("inf")


def a_large_factor(model, optimizer):
    optimizer.param_groups[0]["lr"] = 1e308
    return 1e3 * X[0]


def a_damaged_feedback(model, optimizer):
    optimizer.state[model[2].weight][FEEDBACK].fill_(float("nan"))
    return X[0]


SPOILERS = [not_a_number, an_infinite_input, a_large_factor, a_damaged_feedback]


@pytest.mark.parametrize("spoil", SPOILERS)
def test_a_step_that_would_leave_no_finite_weights_changes_nothing(spoil):
    model, optimizer = made()
    x = spoil(model, optimizer)
    before = matrices(optimizer)
    model(x)
    with pytest.raises(UserError, match="not finite numbers, so nothing was changed") as caught:
        optimizer.step(0)
    assert_is_one_sentence(caught.value)
    for matrix, old in zip(matrices(optimizer), before, strict=True):
        assert torch.equal(matrix.nan_to_num(7.0), old.nan_to_num(7.0))


def test_weights_that_overflow_only_in_the_models_own_precision_are_refused():
    model = model_of().half()
    with pytest.warns(UserWarning, match="lost in rounding"):
        optimizer = RuleOptimizer(model, RULE, lr=1e6)
    before = matrices(optimizer)
    model(10 * X[0].half())
    with pytest.raises(UserError, match="not finite numbers"):
        optimizer.step(0)
    assert all(map(torch.equal, matrices(optimizer), before))


CONTEXTS = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
}


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=CONTEXTS)
def test_a_step_in_a_context_is_the_same(context):
    model = model_of()
    with context():
        optimizer = RuleOptimizer(model, RULE)
        model(X[0])
        optimizer.step(0)
    assert_same(optimizer, learned(1))
    model(X[1])
    optimizer.step(2)
    assert_same(optimizer, learned(2))


def test_the_optimizer_follows_the_models_dtype():
    model, optimizer = made()
    model.float()
    model(X[0].float())
    optimizer.step(0)
    kept = matrices(optimizer)
    assert {matrix.dtype for matrix in kept} == {torch.float32}
    for matrix, exact in zip(kept, matrices(learned()), strict=True):
        assert_close(matrix.double(), exact, 1e-6)


def test_half_precision_is_warned_of_once():
    model = model_of().bfloat16()
    with pytest.warns(UserWarning, match="lost in rounding") as warned:
        optimizer = RuleOptimizer(model, RULE)
    model(X[0].bfloat16())
    optimizer.step(0)
    assert [warning.filename for warning in warned] == [__file__]
    assert {matrix.dtype for matrix in matrices(optimizer)} == {torch.bfloat16}


def test_half_precision_later_on_is_warned_of_where_the_step_is():
    model, optimizer = made()
    model.half()(X[0].half())
    with pytest.warns(UserWarning, match="lost in rounding") as warned:
        optimizer.step(0)
    assert [warning.filename for warning in warned] == [__file__]


def test_more_parameters_are_refused():
    with pytest.raises(UserError, match="trains only the weights of its model") as caught:
        made()[1].add_param_group({"params": [nn.Parameter(X)]})
    assert_is_one_sentence(caught.value)


def test_hooks_of_the_users_own_are_seen():
    model, optimizer = made()
    seen = []
    model[0].register_forward_hook(lambda *_: seen.append(1))
    model[2].register_forward_pre_hook(lambda _, inputs: (2 * inputs[0],))
    model(X[0])
    optimizer.step(0)
    assert seen == [1]
    assert not all(map(torch.equal, matrices(optimizer), matrices(learned())))


def test_a_state_goes_through_a_file():
    optimizer = learned(3)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    model, other = made(lr=0.5)
    model.load_state_dict(optimizer.model.state_dict())
    other.load_state_dict(torch.load(file, weights_only=True))
    assert_same(optimizer, other)
    assert other.param_groups[0]["lr"] == 1.0


def test_a_state_of_an_older_version_is_read():
    optimizer = learned(3)
    state = optimizer.state_dict()
    del state["param_groups"][0]["rule"], state["param_groups"][0]["lr"]
    state["param_groups"][0]["theta"] = state["param_groups"][0]["theta"].float()
    model, other = made()
    model.load_state_dict(optimizer.model.state_dict())
    other.load_state_dict(state)
    assert_same(optimizer, other)
    assert other.param_groups[0].keys() == optimizer.param_groups[0].keys()
    assert other.param_groups[0]["theta"].dtype == torch.float64


def other_rule(names, theta, feedback="plastic", model=None):
    rule = Rule(named(*names), (theta,), feedback)
    return RuleOptimizer(model or model_of(), rule).state_dict()


NAMES = tuple(term.name for term in RULE.terms)
STATES = {
    "other terms": (lambda: other_rule((*NAMES[:3], "decay"), RULE.theta[0]), "decay"),
    "another order": (lambda: other_rule(NAMES[::-1], RULE.theta[0][::-1]), "terms backward_oja"),
    "another θ": (lambda: other_rule(NAMES, (0.1, 0.02, 0.1, 0.03)), "θ"),
    "another feedback": (
        lambda: other_rule(NAMES[:2], RULE.theta[0][:2], "fixed"), "terms error_hebbian, oja",
    ),
    "another width": (
        lambda: other_rule(NAMES, RULE.theta[0], model=nn.Sequential(nn.Linear(5, 3, bias=False))),
        "widths",
    ),
    "another optimizer": (
        lambda: torch.optim.Adam([nn.Parameter(X)]).state_dict(), "not from a RuleOptimizer"
    ),
    "nothing": (lambda: None, "not from a RuleOptimizer"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "sentence"), STATES.values(), ids=STATES)
def test_the_state_of_another_rule_is_refused(make, sentence):
    optimizer = learned()
    before = matrices(optimizer)
    with pytest.raises(UserError, match=sentence) as caught:
        optimizer.load_state_dict(make())
    assert_is_one_sentence(caught.value)
    assert all(map(torch.equal, before, matrices(optimizer)))


def inner(model, optimizer, examples=2, **options):
    """Return the patched model and the twin after learning some examples."""
    with higher.innerloop_ctx(model, optimizer, **options) as (fmodel, diffopt):
        for x, label in zip(X[:examples], LABELS, strict=False):
            diffopt.step(nn.functional.cross_entropy(fmodel(x), label))
    return fmodel, diffopt


def test_what_the_twin_learned_is_taken_back():
    model, optimizer = made()
    _, diffopt = inner(model, optimizer)
    assert_same(optimizer, made()[1])
    diffopt.copy_to(optimizer)
    for matrix, expected in zip(matrices(optimizer), matrices(learned(2)), strict=True):
        assert_close(matrix, expected, 1e-12)
    model(X[2])
    optimizer.step(1)
    for matrix, expected in zip(matrices(optimizer), matrices(learned(3)), strict=True):
        assert_close(matrix, expected, 1e-12)


def test_the_twin_gives_nothing_to_another_network():
    other = RuleOptimizer(nn.Sequential(nn.Linear(5, 3, bias=False)), RULE)
    with pytest.raises(UserError, match="give an optimizer with the same") as caught:
        inner(*made())[1].copy_to(other)
    assert_is_one_sentence(caught.value)


def test_the_twins_layers_can_be_frozen():
    model, optimizer = made()
    model[2].weight.requires_grad_(False)
    _, diffopt = inner(model, optimizer)
    before = matrices(optimizer)
    diffopt.copy_to(optimizer)
    assert list(map(torch.equal, before, matrices(optimizer))) == [False, True, False] * 2


def test_lr_can_be_overridden_and_differentiated():
    model, optimizer = made()
    lr = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    theta = optimizer.param_groups[0]["theta"].clone().requires_grad_()
    fmodel, _ = inner(model, optimizer, 1, override={"lr": [lr], "theta": [theta]})
    gradients = torch.autograd.grad(fmodel(X[3]).square().sum(), (lr, theta))
    # After one step, weights are functions of lr · θ only.
    assert_close(gradients[0] * lr.detach(), gradients[1] @ theta.detach(), 1e-12)
    assert float(gradients[0].abs()) > 0


OVERRIDES = {
    "θ of length 1": ({"theta": [torch.tensor([0.1])]}, "shape .4."),
    "θ without a list": ({"theta": torch.tensor([0.1])}, "in a list of one"),
    "an unknown setting": ({"momentum": [0.9]}, "theta and lr"),
    "a negative lr": ({"lr": [-1.0]}, "not negative"),
}


@pytest.mark.parametrize(("override", "sentence"), OVERRIDES.values(), ids=OVERRIDES)
def test_a_wrong_override_is_refused(override, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        inner(*made(), override=override)
    assert_is_one_sentence(caught.value)


def test_the_twin_learns_a_call_once():
    model, optimizer = made()
    with higher.innerloop_ctx(model, optimizer) as (fmodel, diffopt):
        loss = nn.functional.cross_entropy(fmodel(X[0]), LABELS[0])
        diffopt.step(loss)
        with pytest.raises(UserError, match="call the model first") as caught:
            diffopt.step(loss)
    assert_is_one_sentence(caught.value)


def test_the_twin_learns_one_example_at_a_time():
    model, optimizer = made()
    with higher.innerloop_ctx(model, optimizer) as (fmodel, diffopt):
        loss = nn.functional.cross_entropy(fmodel(X), LABELS)
        with pytest.raises(UserError, match="one example at a time") as caught:
            diffopt.step(loss)
    assert_is_one_sentence(caught.value)
