"""Exported programs refuse invalid input in a sentence; a trained model stays ordinary."""

import copy
import gc
import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support import assert_is_one_sentence, seeded
from test_code_exports import BIO, CASES, CODE, network, rule
from torch import nn

from metaplast import Rule, UserError
from metaplast.export import all_exporters, export_rule

X = np.linspace(0.0, 1.0, 6)
LOSS = nn.functional.cross_entropy(torch.zeros(3, requires_grad=True), torch.tensor(1))
NO_LABELS = {
    "negative": -1, "too large": 3, "huge": 2**40, "beyond 64 bits": 10**30, "a bool": True,
    "a bool of NumPy": np.True_, "bools": [True], "a float": 1.0, "not a number": float("nan"),
    "a loss": LOSS, "none": None, "text": "1", "complex": 1j, "too many": [1, 2],
    "ragged": [[1, 2], [3]], "no probabilities": [0.5, 0.6, 0.5], "negative ones": [-0.5, 0.5, 1.0],
    "two rows": [[0, 1, 0], [0, 1, 0]], "a function of nothing": dict,
}  # fmt: skip
LABELS = {
    "an int": 1, "of NumPy": np.uint8(1), "an array": np.array([1]), "of torch": torch.tensor(1),
    "probabilities": [0.0, 1.0, 0.0], "one-hot": [0, 1, 0],
}  # fmt: skip


def program(exporter, case):
    """Return an exported program as a module."""
    pytest.importorskip(CODE[exporter].package)
    namespace = {"__name__": "exported"}
    exec(CODE[exporter].write(*CASES[case]), namespace)
    return SimpleNamespace(**namespace)


def sentence(caught):
    """Check that a program's error is one line of reasonable length."""
    text = str(caught.value)
    assert "\n" not in text
    assert 20 < len(text) < 1000


class Numeric:
    """A NumPy or JAX program, and matrices for it."""

    def __init__(self, exporter, case):
        self.code = program(exporter, case)
        widths = list(self.code.LAYERS.values())
        if exporter == "numpy":
            drawn = self.code.draw(np.random.default_rng(0), widths)
        else:
            drawn = self.code.draw(sys.modules["jax"].random.key(0), widths)
        self.weights, self.feedback = drawn if isinstance(drawn, tuple) else (drawn, None)

    def step(self, x=X, label=0, weights=None, feedback=None, name="step"):
        """Return the weights after a step, or what the function of this name returns."""
        given = [self.weights if weights is None else weights]
        given += [] if self.feedback is None else [feedback or self.feedback]
        result = getattr(self.code, name)(*given, x, label)
        return result[0] if isinstance(result, tuple) else result


@pytest.fixture(scope="module", params=["numpy", "jax"])
def numeric(request):
    return Numeric(request.param, "feedback fixed")


@pytest.mark.parametrize("label", NO_LABELS.values(), ids=NO_LABELS)
def test_a_step_refuses_what_is_no_label(numeric, label):
    with pytest.raises(ValueError, match="a label must be a class") as caught:
        numeric.step(label=label)
    sentence(caught)


@pytest.mark.slow
@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_a_step_takes_labels_of_any_kind(numeric, label):
    for got, expected in zip(numeric.step(label=label), numeric.step(label=1), strict=True):
        assert np.array_equal(got, expected)


def test_an_empty_rule_refuses_labels_and_shapes_too():
    empty = Numeric("numpy", "no terms")
    assert all(map(np.array_equal, empty.step(label=2), empty.weights))
    with pytest.raises(ValueError, match="a label must be"):
        empty.step(label=-1)
    with pytest.raises(ValueError, match="an example must have shape"):
        empty.step(x=X[:5])


def test_matrices_and_examples_that_do_not_fit_are_refused(numeric):
    w, b = numeric.weights, numeric.feedback
    for wrong, words in {
        "no weights": ({"weights": []}, "W₁ … W_L"),
        "a batch": ({"weights": [m[None] for m in w]}, "W₁ … W_L"),
        "another order": ({"weights": w[::-1]}, "as wide as the layer below"),
        "transposed": ({"weights": [m.T for m in w]}, "as wide as the layer below"),
        "too little feedback": ({"feedback": b[:2]}, "feedback must have shapes"),
        "transposed feedback": ({"feedback": [m.T for m in b]}, "feedback must have shapes"),
        "a short example": ({"x": X[:5]}, "an example must have shape"),
        "two examples": ({"x": np.stack([X, X])}, "an example must have shape"),
    }.values():
        with pytest.raises(ValueError, match=words) as caught:
            numeric.step(**wrong)
        sentence(caught)


def test_a_rule_for_each_layer_refuses_another_depth():
    numeric = Numeric("numpy", "per layer")
    with pytest.raises(ValueError, match="for 3 layers, got 2"):
        numeric.step(x=X[:5], weights=numeric.weights[1:], feedback=numeric.feedback[1:])


# --- JAX: labels without values ---


@pytest.mark.slow
def test_jax_learn_refuses_labels_that_do_not_fit_the_images():
    numeric = Numeric("jax", "feedback symmetric")
    images = np.stack([X, X])
    for labels in ([0], [0, 1, 2], [0, -1], [0, 3], [0.0, 1.0], 0, None):
        with pytest.raises(ValueError, match="a label must be a class"):
            numeric.step(images, labels, name="learn")
    one_hot = numeric.step(images, np.eye(3)[[0, 2]], name="learn")
    for got, expected in zip(numeric.step(images, [0, 2], name="learn"), one_hot, strict=True):
        assert np.array_equal(got, expected)


@pytest.mark.slow
def test_jax_code_works_under_jit_and_vmap_where_a_wrong_label_makes_nan():
    numeric = Numeric("jax", "feedback symmetric")
    jax = sys.modules["jax"]
    labels = jax.numpy.array([1, -1, 3])
    right = numeric.step(label=1)[0]
    mapped = jax.vmap(numeric.code.step, (None, None, 0))(numeric.weights, X, labels)[0]
    assert np.allclose(mapped[0], right, atol=1e-6)
    assert np.isnan(mapped[1:]).all()
    assert np.array_equal(jax.jit(numeric.code.step)(numeric.weights, X, 1)[0], right)
    assert np.isnan(jax.jit(numeric.code.step)(numeric.weights, X, -1)[0]).all()
    with pytest.raises(ValueError, match="a label must be a class"):
        jax.jit(numeric.code.step)(numeric.weights, X, 1.0)
    with pytest.raises(ValueError, match="an example must have shape"):
        jax.jit(numeric.code.step)(numeric.weights, X[:5], 1)


# --- PyTorch ---


@pytest.fixture(scope="module")
def torch_code():
    return program("torch", "all terms")


def trained(code, model, *labels, seed=0, inputs=(0.5,)):
    """Train a model on constant images; return the optimizer."""
    optimizer = code.PlasticityRule(model, seeded(seed))
    for x, label in zip(inputs, labels, strict=True):
        model(torch.full((6,), x))
        optimizer.step(label)
    return optimizer


def weights_of(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def linear(columns, rows):
    return nn.Linear(columns, rows, bias=False)


def softplus():
    return nn.Softplus(beta=10)


class Doubled(nn.Linear):
    def forward(self, x):
        return 2 * super().forward(x)


def tied():
    layer = linear(6, 6)
    return nn.Sequential(layer, softplus(), layer, softplus(), linear(6, 3))


MODELS = {
    "another activation": lambda: nn.Sequential(linear(6, 4), nn.Tanh(), linear(4, 3)),
    "another β": lambda: nn.Sequential(linear(6, 4), nn.Softplus(beta=1), linear(4, 3)),
    "a low threshold": lambda: nn.Sequential(linear(6, 4), nn.Softplus(10, 0.1), linear(4, 3)),
    "biases": lambda: nn.Sequential(nn.Linear(6, 4), softplus(), linear(4, 3)),
    "biases within": lambda: nn.Sequential(
        nn.Sequential(nn.Linear(6, 4)), softplus(), linear(4, 3)
    ),
    "dropout": lambda: nn.Sequential(linear(6, 4), softplus(), nn.Dropout(), linear(4, 3)),
    "a convolution": lambda: nn.Sequential(nn.Conv1d(1, 1, 3), softplus(), linear(4, 3)),
    "softmax": lambda: nn.Sequential(linear(6, 3), nn.Softmax(-1)),
    "no activation": lambda: nn.Sequential(linear(6, 4), linear(4, 3)),
    "widths that differ": lambda: nn.Sequential(linear(6, 4), softplus(), linear(5, 3)),
    "a layer of one's own": lambda: nn.Sequential(Doubled(6, 3, bias=False)),
    "a lazy layer": lambda: nn.Sequential(nn.LazyLinear(3, bias=False)),
    "computed weights": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(linear(6, 3))),
    "a layer twice": tied,
    "no layers": nn.Sequential,
    "a layer": lambda: linear(6, 3),
    "no model": lambda: None,
}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_torch_code_refuses_models_that_it_is_not_for(torch_code, make):
    with pytest.raises(ValueError, match=r"the rule is for an nn.Sequential of Linear") as caught:
        torch_code.PlasticityRule(make())
    sentence(caught)


def test_torch_code_for_each_layer_refuses_another_depth():
    code = program("torch", "per layer")
    with pytest.raises(ValueError, match="for 3 layers, got 1"):
        code.PlasticityRule(nn.Sequential(linear(6, 3)))


def test_nested_and_flattened_models_are_trained_whole(torch_code):
    plain = torch_code.make_model(seeded(1))
    a, act, b, _, c = copy.deepcopy(plain)
    nested = nn.Sequential(nn.Sequential(nn.Flatten(0), a, act), nn.Sequential(b, act), c)
    trained(torch_code, plain, 1, 2, inputs=(0.3, 0.6))
    trained(torch_code, nested, 1, 2, inputs=(0.3, 0.6))
    assert same(plain.parameters(), nested.parameters())


@pytest.mark.parametrize("label", NO_LABELS.values(), ids=NO_LABELS)
def test_a_torch_step_refuses_what_is_no_label(torch_code, label):
    model = torch_code.make_model()
    optimizer, before = torch_code.PlasticityRule(model), weights_of(model)
    model(torch.zeros(6))
    with pytest.raises(ValueError, match=r"a label must be a class|call the model") as caught:
        optimizer.step(label)
    sentence(caught)
    assert same(before, model.parameters())


@pytest.mark.parametrize("label", LABELS.values(), ids=LABELS)
def test_a_torch_step_takes_labels_of_any_kind(torch_code, label):
    one, other = (torch_code.make_model(seeded(1)) for _ in range(2))
    trained(torch_code, one, 1)
    trained(torch_code, other, label)
    assert same(one.parameters(), other.parameters())


def test_only_the_models_own_training_call_is_learned(torch_code):
    one, other = (torch_code.make_model(seeded(1)) for _ in range(2))
    trained(torch_code, one, 1)
    optimizer = torch_code.PlasticityRule(other, seeded())
    x = torch.full((6,), 0.5)
    other(x)
    x.zero_()
    copy.deepcopy(other)(x)
    other[0](x)
    other.eval()
    other(x)
    other.train()
    optimizer.step(1)
    assert same(one.parameters(), other.parameters())
    with pytest.raises(ValueError, match="call the model"):
        optimizer.step(1)


def test_other_weights_and_compiled_models_are_not_learned(torch_code):
    model = torch_code.make_model()
    optimizer = torch_code.PlasticityRule(model)
    zeros = {name: torch.zeros_like(w) for name, w in model.named_parameters()}
    model(torch.ones(6))
    torch.func.functional_call(model, zeros, (torch.ones(6),))
    with pytest.raises(ValueError, match="call the model"):
        optimizer.step(1)
    model[0] = linear(6, 5)
    model(torch.ones(6))
    with pytest.raises(ValueError, match="layers were replaced"):
        optimizer.step(1)


@pytest.mark.slow
def test_nothing_stays_on_the_model_or_in_torch(torch_code):
    hooks = nn.modules.module._global_forward_hooks
    gc.collect()
    before = len(hooks)
    model = torch_code.make_model()
    optimizer = trained(torch_code, model, 1)
    assert len(hooks) == before + 1
    torch.save(model, io.BytesIO())
    assert not any(module._forward_hooks for module in model.modules())
    del optimizer
    gc.collect()
    assert len(hooks) == before


def test_a_copy_of_the_optimizer_trains_its_own_model(torch_code):
    model = torch_code.make_model()
    optimizer = trained(torch_code, model, 1)
    before, twin = weights_of(model), copy.deepcopy(optimizer)
    twin.model(torch.ones(6))
    twin.step(2)
    assert same(before, model.parameters())
    assert not same(before, twin.model.parameters())
    with pytest.raises(ValueError, match="call the model"):
        optimizer.step(2)


def test_frozen_layers_keep_weights_and_feedback(torch_code):
    model = torch_code.make_model()
    model[0].weight.requires_grad_(False)
    frozen = model[0].weight
    optimizer = torch_code.PlasticityRule(model)
    before, feedback = weights_of(model), optimizer.state[frozen]["feedback"].clone()
    model(torch.ones(6))
    optimizer.step(1)
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert moved == [False, True, True]
    assert torch.equal(optimizer.state[frozen]["feedback"], feedback)


def test_several_examples_change_the_weights_by_the_mean(torch_code):
    model = torch_code.make_model(seeded(1)).double()
    images, labels = torch.rand(3, 6, dtype=torch.float64), [0, 2, 1]
    singles = []
    for x, label in zip(images, labels, strict=True):
        one = copy.deepcopy(model)
        optimizer = torch_code.PlasticityRule(one, seeded())
        one(x)
        optimizer.step(label)
        singles.append(weights_of(one))
    optimizer = torch_code.PlasticityRule(model, seeded())
    assert optimizer.step(lambda: (model(images), labels)[1]) == labels
    for k, weight in enumerate(model.parameters()):
        mean = sum(weights[k] for weights in singles) / 3
        assert torch.allclose(weight, mean, atol=1e-12, rtol=0)
    for wrong in (images[None], images[:0]):
        model(wrong)
        with pytest.raises(ValueError, match=r"one example, .input., or several"):
            optimizer.step(labels)


def test_lr_is_a_factor_that_schedulers_turn(torch_code):
    one, other = (torch_code.make_model().double() for _ in range(2))
    other.load_state_dict(one.state_dict())
    before = weights_of(one)
    for model, lr in ((one, 1.0), (other, 0.5)):
        optimizer = torch_code.PlasticityRule(model, seeded(), lr=1.0)
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _, lr=lr: lr)
        model(torch.ones(6, dtype=torch.float64))
        optimizer.step(1)
    for start, full, half in zip(before, one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(2 * (half - start), full - start, atol=1e-12)
    for lr in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="lr must be a finite number"):
            torch_code.PlasticityRule(one, lr=lr)


def test_states_of_another_rule_and_more_parameters_are_refused(torch_code):
    optimizer = torch_code.PlasticityRule(torch_code.make_model())
    with pytest.raises(ValueError, match="one model"):
        optimizer.add_param_group({"params": [nn.Parameter(torch.zeros(2))]})
    state = optimizer.state_dict()
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    twin = torch_code.PlasticityRule(torch_code.make_model())
    twin.load_state_dict(torch.load(buffer, weights_only=True))
    for a, b in zip(optimizer.state.values(), twin.state.values(), strict=True):
        assert torch.equal(a["feedback"], b["feedback"])
    other = program("torch", "feedback plastic")
    with pytest.raises(ValueError, match="is from another rule"):
        other.PlasticityRule(other.make_model()).load_state_dict(state)


def test_a_step_follows_the_models_dtype_and_ignores_autocast(torch_code):
    model = torch_code.make_model()
    optimizer = trained(torch_code, model, 1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.ones(6))
        optimizer.step(1)
    assert model[0].weight.dtype == torch.float32
    model.double()
    model(torch.ones(6, dtype=torch.float64))
    optimizer.step(1)
    assert {s["feedback"].dtype for s in optimizer.state.values()} == {torch.float64}


# --- what comes from a file or from Python ---


def test_provenance_too_deep_for_a_program_is_refused():
    nest = {"a": 1}
    for _ in range(80):
        nest = {"a": [nest]}
    for name in all_exporters():
        with pytest.raises(UserError, match="nested more than") as caught:
            export_rule(rule(BIO, deep=nest), network(), name)
        assert_is_one_sentence(caught.value)


def test_numbers_of_numpy_are_written_as_pythons(tmp_path):
    theta = (tuple(np.float64(v) for v in (0.25, -0.5, 0.125)),)
    provenance = {"seed": np.int64(3), "losses": np.array([0.5, 1.0]), "flag": np.bool_(True)}
    given = Rule(BIO, theta, "fixed", provenance)
    for name in ("numpy", "torch"):
        text = CODE[name].write(given, network())
        assert "np.float64" not in text
        assert '"error_hebbian": 0.25' in text
    data = json.loads(export_rule(given, network(), "json").text)
    assert data["provenance"] == {"seed": 3, "losses": [0.5, 1.0], "flag": True}


def test_half_a_character_does_not_end_an_export():
    given = rule(BIO, note="half \ud800 of one", **{"\udfff": 1})
    for name in ("json", "latex", "markdown", "numpy"):
        text = export_rule(given, network(), name).text
        text.encode()
        if name == "json":
            assert json.loads(text)["provenance"]["note"] == "half \ud800 of one"


def test_an_unknown_format_is_refused_by_name():
    with pytest.raises(UserError, match="did you mean 'numpy'"):
        export_rule(rule(BIO), network(), "nunpy")
