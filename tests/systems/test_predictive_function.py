"""`metaplast.predictive_coding` on any Sequential, against the feedback and against plain loops."""

import copy
import itertools

import pytest
import torch
from support import assert_close, named, normal, random_problem, refusal, seeded
from torch import nn

import metaplast
from metaplast.systems.diagnostics import angle
from metaplast.systems.layer_difference import DIFFERENCES, Base
from metaplast.systems.system import Examples

predictive_coding = metaplast.predictive_coding
cross_entropy = nn.functional.cross_entropy
CASES = [
    ("strict", 0.1, 7), ("strict", 1.0, 3), ("fixed", 0.3, 5), ("fixed", 1.0, 3),
    ("exact", 0.1, 20),
]  # fmt: skip


def convolutional(dtype=torch.float64, seed=0):
    """Return a small network with everything that the published ones have."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(3, 2, 2), nn.ReLU(), nn.Flatten()),
        nn.Sequential(nn.Linear(8, 5), nn.Tanh()),
        nn.Linear(5, 3),
    ).to(dtype)


X = normal(4, 1, 8, 8, seed=1).abs()
Y = torch.tensor([0, 2, 1, 2])


def gradients(model):
    return [parameter.grad for parameter in model.parameters()]


def backprop(model, x=X, loss=cross_entropy):
    model = copy.deepcopy(model)
    loss(model(x), Y).backward()
    return gradients(model)


def plain(model, variant, eta, n, x=X):
    """Return the gradients, ε and v of predictive coding, v itself relaxing, layer by layer."""
    model = copy.deepcopy(model)
    layers = list(model)
    forward = [x]
    for layer in layers:
        forward.append(layer(forward[-1].clone()).detach())
    v, epsilon = list(forward), [None] * len(forward)

    def top(output):
        leaf = output.detach().requires_grad_()
        return torch.autograd.grad(cross_entropy(leaf, Y), leaf)[0]

    fixed = variant == "fixed"
    for _ in range(n):
        epsilon[-1] = top(forward[-1] if fixed else layers[-1](v[-2]))
        for k in range(len(layers) - 1, 0, -1):
            predicted = forward[k] if fixed else layers[k - 1](v[k - 1].clone()).detach()
            epsilon[k] = predicted - v[k]
            leaf = (forward if fixed else v)[k].clone().requires_grad_()
            (down,) = torch.autograd.grad(layers[k](leaf.clone()), leaf, epsilon[k + 1])
            v[k] = v[k] + eta * (epsilon[k] - down)
    for k, layer in enumerate(layers):
        layer((forward if fixed else v)[k].detach().clone()).backward(epsilon[k + 1])
    return gradients(model), epsilon[1:], v[1:-1]


@pytest.mark.parametrize(("variant", "eta", "n"), CASES[:4])
def test_a_convolutional_network_gets_the_plain_loops_gradients(variant, eta, n):
    model = convolutional()
    expected, epsilon, v = plain(model, variant, eta, n)
    found = predictive_coding(model, cross_entropy, X, Y, variant, eta, n)
    for a, b in zip(gradients(model), expected, strict=True):
        assert_close(a, b, 1e-11)
    for a, b in zip(found.errors, epsilon, strict=True):
        assert_close(a, b, 1e-11)
    for a, b in zip(found.activities[:-1], v, strict=True):
        assert_close(a, b, 1e-11)
    assert_close(found.output, model(X).detach(), 1e-14)
    assert float(found.loss) == pytest.approx(float(cross_entropy(model(X), Y).detach()))


@pytest.mark.parametrize("options", [("exact", 0.1, 20), ("fixed", 1.0, 4), ("fixed", 1.0, 9)])
def test_exact_and_fixed_with_eta_one_are_backpropagation(options):
    model = convolutional()
    predictive_coding(model, cross_entropy, X, Y, *options)
    for a, b in zip(gradients(model), backprop(model), strict=True):
        assert_close(a, b, 1e-14)


@pytest.mark.parametrize(("variant", "eta", "n"), CASES)
def test_the_function_is_the_feedback(variant, eta, n):
    """On a Sequential of Linear(bias=False) layers, −gradient is the change by error_hebbian."""
    numbers = "" if variant == "exact" else f",eta={eta},n={n}"
    problem = random_problem(
        named("error_hebbian"), episodes=1, feedback=f"predictive-coding:{variant}{numbers}"
    )
    widths = problem.learner.network.widths
    sizes = itertools.pairwise(widths)
    layers = [nn.Linear(a, b, bias=False, dtype=torch.float64) for a, b in sizes]
    for layer, weight in zip(layers, problem.state.weights, strict=True):
        layer.weight.data.copy_(weight[0])
    hidden = [nn.Sequential(layer, nn.Softplus(beta=10, threshold=40)) for layer in layers[:-1]]
    model = nn.Sequential(*hidden, layers[-1])
    x, label = problem.episodes.support_x[:, 0], problem.episodes.support_y[:, 0]
    predictive_coding(model, cross_entropy, x, label, variant, eta, n)
    theta = torch.ones(1, len(layers), 1, dtype=torch.float64)
    after = problem.learner.step(problem.state, theta, Examples(x, label))
    for layer, before, moved in zip(layers, problem.state.weights, after.weights, strict=True):
        assert_close(-layer.weight.grad, (moved - before)[0], 1e-12)


@pytest.mark.parametrize(("variant", "eta", "n"), CASES)
def test_single_precision_gives_the_angles_of_double(variant, eta, n):
    """Also with a loss so small that v̂ − v would be rounding."""
    single, double = convolutional(torch.float32), convolutional()
    double.load_state_dict({k: v.double() for k, v in single.state_dict().items()})
    for model, dtype in ((single, torch.float32), (double, torch.float64)):
        predictive_coding(
            model, lambda z, y: 1e-6 * cross_entropy(z, y), X.float().to(dtype), Y, variant, eta, n
        )
    for a, b in zip(gradients(single), gradients(double), strict=True):
        if b.any():  # Too few sweeps leave the lowest layer without errors.
            assert float(angle(a.double().flatten()[None], b.flatten()[None])) < 0.01
        else:
            assert not a.any()


SAMPLES = {
    nn.Linear: (nn.Linear(4, 3), (2, 4)),
    nn.Conv1d: (nn.Conv1d(2, 3, 2, padding=1, padding_mode="circular"), (2, 2, 5)),
    nn.Conv2d: (nn.Conv2d(2, 3, 2, stride=2), (2, 2, 5, 5)),
    nn.Conv3d: (nn.Conv3d(1, 2, 2), (1, 1, 3, 3, 3)),
    nn.Identity: (nn.Identity(), (2, 3)),
    nn.Flatten: (nn.Flatten(), (2, 3, 2)),
    nn.Unflatten: (nn.Unflatten(1, (3, 2)), (2, 6)),
    nn.AvgPool1d: (nn.AvgPool1d(2), (2, 1, 4)),
    nn.AvgPool2d: (nn.AvgPool2d(2), (2, 1, 4, 4)),
    nn.AvgPool3d: (nn.AvgPool3d(2), (1, 1, 2, 2, 2)),
    nn.ReLU: (nn.ReLU(inplace=True), (3, 40)),
    nn.Tanh: (nn.Tanh(), (3, 40)),
    nn.Sigmoid: (nn.Sigmoid(), (3, 40)),
    nn.Softplus: (nn.Softplus(beta=3), (3, 40)),
    nn.MaxPool2d: (nn.MaxPool2d(3, 2, padding=1, ceil_mode=True), (2, 2, 7, 7)),
}


@pytest.mark.parametrize("kind", DIFFERENCES, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("size", [1e-7, 1e-3, 2.0])
def test_the_change_of_a_layers_output_has_no_rounding_of_a_subtraction(kind, size):
    torch.manual_seed(3)
    module, shape = SAMPLES[kind]
    given, moved = normal(*shape, seed=4).float(), size * normal(*shape, seed=5).float()
    found = Base(module, given).change(moved)
    wide = copy.deepcopy(module).double()
    with torch.no_grad():
        expected = wide(given.double() + moved.double()) - wide(given.double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=2e-6 * size)


def test_any_other_layer_is_subtracted():
    given, moved = normal(2, 6), 0.1 * normal(2, 6, seed=2)
    module = nn.Sequential(nn.LayerNorm(6), nn.GELU()).double()
    with torch.no_grad():
        assert_close(Base(module, given).change(moved), module(given + moved) - module(given))


# --- as users call it ---


def test_gradients_are_added_and_frozen_parameters_have_none():
    model = convolutional()
    model[0].requires_grad_(False)
    predictive_coding(model, cross_entropy, X, Y)
    once = [g if g is None else g.clone() for g in gradients(model)]
    predictive_coding(model, cross_entropy, X, Y)
    for a, b in zip(gradients(model), once, strict=True):
        assert (a is None) == (b is None)
        if b is not None:
            assert_close(a, 2 * b, 1e-14)
    assert once[0] is None
    assert once[2] is not None


class Shifted(nn.Module):
    """Its parameters all have the error of its output as their gradient."""

    def __init__(self):
        super().__init__()
        self.first = nn.Parameter(torch.zeros(4, 3))
        self.second = nn.Parameter(torch.zeros(4, 3))
        self.scalars = nn.Parameter(torch.zeros(3))

    def forward(self, x):
        return x + self.first + self.second + self.scalars.sum()


@pytest.mark.parametrize("variant", ["strict", "fixed", "exact"])
def test_each_gradient_is_a_tensor_of_its_own_and_is_added_in_place(variant):
    model = nn.Sequential(nn.Linear(5, 3), Shifted())
    found = predictive_coding(model, cross_entropy, torch.ones(4, 5), Y, variant)
    before = [gradient.clone() for gradient in gradients(model)]
    errors = [error.clone() for error in found.errors]
    kept = gradients(model)
    predictive_coding(model, cross_entropy, torch.ones(4, 5), Y, variant)
    for gradient, once, same in zip(kept, before, gradients(model), strict=True):
        assert gradient is same
        assert_close(gradient, 2 * once, 1e-6)
    model[1].first.grad.zero_()
    assert model[1].second.grad.any()
    assert all(map(torch.equal, found.errors, errors))


@pytest.mark.parametrize("place", ["linear", "layer", "input"])
def test_strict_sees_what_the_hooks_of_a_module_do(place):
    class Doubled(nn.Module):
        def forward(self, x):
            return 2 * x

    model = convolutional()
    plainly = copy.deepcopy(model)
    if place == "input":
        model[2][0].register_forward_pre_hook(lambda module, given: (2 * given[0],))
        plainly[2].insert(0, Doubled())
    else:
        part = model[2] if place == "layer" else model[2][0]
        part.register_forward_hook(lambda module, given, output: 2 * output)
        plainly[2].insert(2 if place == "layer" else 1, Doubled())
    for each in (model, plainly):
        predictive_coding(each, cross_entropy, X, Y, "strict", 0.3, 5)
    for a, b in zip(gradients(model), gradients(plainly), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("variant", ["strict", "exact"])
def test_tensors_of_inference_mode_are_taken(variant):
    model, other = convolutional(), convolutional()
    with torch.inference_mode():
        predictive_coding(model, cross_entropy, X * 1, Y * 1, variant)
    predictive_coding(other, cross_entropy, X, Y, variant)
    assert all(map(torch.equal, gradients(model), gradients(other)))


@pytest.mark.parametrize("variant", ["strict", "fixed", "exact"])
def test_any_torch_optimizer_learns_from_it(variant):
    model = convolutional()
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    losses = []
    for _ in range(15):
        optimizer.zero_grad()
        found = predictive_coding(model, cross_entropy, X, Y, variant, 0.5, 6)
        losses.append(float(found.loss))
        optimizer.step()
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_works_where_gradients_are_off(context):
    model, expected = convolutional(), convolutional()
    predictive_coding(expected, cross_entropy, X, Y)
    with context():
        predictive_coding(model, cross_entropy, X + 0, Y)
    for a, b in zip(gradients(model), gradients(expected), strict=True):
        assert torch.equal(a, b)


def test_layers_without_parameters_and_inputs_without_gradient_are_layers_too():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(12, 3), nn.Identity())
    words = torch.tensor([[0, 1, 2], [3, 4, 0], [1, 1, 1], [2, 3, 4]])
    predictive_coding(model, cross_entropy, words, Y, "fixed", 1.0, 4)
    for a, b in zip(gradients(model), backprop(model, words), strict=True):
        assert_close(a, b, 1e-6)


@pytest.mark.parametrize("variant", ["fixed", "exact"])
def test_dropout_and_batch_norm_are_called_once_by_fixed_and_exact(variant):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6)), nn.Dropout(0.5), nn.Linear(6, 3)
    )
    x, other = torch.rand(4, 5, generator=seeded(1)), copy.deepcopy(model)
    torch.manual_seed(7)
    predictive_coding(model, cross_entropy, x, Y, variant, 1.0, 3)
    torch.manual_seed(7)
    cross_entropy(other(x), Y).backward()
    for a, b in zip(gradients(model), gradients(other), strict=True):
        assert_close(a, b, 1e-6)
    assert torch.equal(model[0][1].running_mean, other[0][1].running_mean)


# --- what is refused ---


class Rounded(nn.Module):
    def forward(self, x):
        return (x > 0).to(x.dtype)


class OneWay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x + 1

    # No backward.


class Undifferentiated(nn.Module):
    def forward(self, x):
        return OneWay.apply(x)


class Deaf(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.weight.expand(len(x), 3) * 1


class Backwards(nn.Sequential):
    def forward(self, x):
        for module in reversed(list(self)):
            x = module(x)
        return x


def of(*modules):
    return nn.Sequential(nn.Linear(5, 3), *modules, nn.Linear(3, 3))


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


def hooked(model):
    model.register_forward_hook(lambda module, given, output: 2 * output)
    return model


@torch.inference_mode()
def inference(make):
    return make()


FLAT = torch.ones(4, 5)


@pytest.mark.parametrize(
    ("model", "match"),
    [
        (
            nn.Linear(5, 3),
            "plain nn.Sequential, whose modules are the layers, got a Linear",
        ),
        (Backwards(nn.Linear(3, 3), nn.Linear(5, 3)), "got a Backwards"),
        (None, "got None"),
        (nn.Sequential(), "got an empty Sequential"),
        (nn.Sequential(nn.Flatten()), "parameters that require gradient"),
        (of(Rounded()), r"layer 2 \(Rounded\) cannot be differentiated: its output has no"),
        (of(Undifferentiated()), r"layer 2 \(Undifferentiated\) cannot be differentiated"),
        (of(Deaf()), r"layer 2 \(Deaf\) cannot be differentiated: its output has no gradient"),
        (of(nn.LSTM(3, 3)), r"layer 2 \(LSTM\) must return one floating-point tensor, got a tuple"),
        (of(nn.Sequential(nn.Dropout(0.1))), r"Dropout in layer 2 .* or use fixed or exact"),
        (of(nn.BatchNorm1d(3)), "BatchNorm1d in layer 2"),
        (of(nn.RReLU()), "RReLU in layer 2"),
        (of(Noisy()), r"layer 2 \(Noisy\) draws random numbers at each call"),
        (of(nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))), "SpectralNorm in layer 2"),
        (
            of(nn.utils.spectral_norm(nn.Linear(3, 3))),
            "Linear in layer 2 .* at each call in training",
        ),
        (of(nn.Linear(4, 3)), r"layer 2 \(Linear\) cannot be called with its input"),
        (of().double(), r"layer 1 \(Linear\) cannot be called .* must have the same dtype"),
        (hooked(of()), "whose hooks would not run"),
        (inference(of), "made in torch.inference_mode"),
    ],
)
def test_models_that_cannot_relax_are_refused(model, match):
    with pytest.raises(metaplast.UserError, match=match):
        predictive_coding(model, cross_entropy, FLAT, Y)
    assert refusal(predictive_coding, model, cross_entropy, FLAT, Y)


@pytest.mark.parametrize("module", [nn.Dropout(0.0), nn.Dropout(), nn.BatchNorm1d(3)])
def test_strict_takes_them_where_they_are_fixed(module):
    model = of(module)
    if not isinstance(module, nn.Dropout) or module.p:
        model.eval()
    predictive_coding(model, cross_entropy, FLAT, Y)
    found = gradients(model)
    assert all(torch.isfinite(g).all() and g.any() for g in found)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"eta": 0}, "eta of predictive coding must be a number above 0"),
        ({"eta": True}, "eta of predictive coding"),
        ({"eta": 2.5}, "at most 2"),
        ({"eta": 10**400}, "at most 2"),
        ({"y": Y + 1}, "the loss cannot be computed .* out of bounds"),
        ({"y": Y.float()}, "the loss cannot be computed"),
        ({"y": Y[:2]}, "the loss cannot be computed"),
        ({"loss": nn.CrossEntropyLoss}, "the loss cannot be computed"),
        ({"loss": lambda z, y: z.sum() + 0j}, "must be one number, got a complex tensor"),
        ({"x": FLAT[:, :4]}, r"layer 1 \(Linear\) cannot be called with its input"),
        ({"n": 0}, "whole number from 1"),
        ({"n": 2.0}, "whole number from 1"),
        ({"algorithm": "stric"}, "did you mean 'strict'"),
        ({"algorithm": None}, "unknown variant"),
        ({"x": [1.0]}, "x must be a torch tensor"),
        ({"loss": 3}, "the loss must be a function"),
        ({"loss": lambda z, y: z}, r"the loss must be one number, got a tensor of shape \[4, 3\]"),
        ({"loss": lambda z, y: 1.0}, "the loss must be one number, got a float"),
        ({"loss": lambda z, y: z.detach().sum()}, "must depend on the output"),
        ({"loss": lambda z, y: torch.ones(1, requires_grad=True).sum()}, "must depend on the out"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(changes, match):
    given = {"model": of(), "loss": cross_entropy, "x": FLAT, "y": Y} | changes
    with pytest.raises(metaplast.UserError, match=match):
        predictive_coding(**given)
    assert refusal(predictive_coding, **given)


def test_a_relaxation_that_diverges_leaves_gradients_that_are_not_finite():
    model = of()
    for parameter in model.parameters():
        parameter.data.mul_(100)
    predictive_coding(model, nn.functional.mse_loss, FLAT, torch.ones(4, 3), "strict", 2.0, 200)
    assert not torch.isfinite(model[0].weight.grad).all()
