"""Programs project the weights as the engine does; a rule brings its constraint along."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from support import assert_close, assert_is_one_sentence, named, normal
from torch import nn

import metaplast.rules.differentiable
from metaplast import Rule, RuleOptimizer, UserError
from metaplast.export import all_exporters, export_rule, network_of
from metaplast.systems.constrained import constrained
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.timing import Timing

higher = metaplast.rules.differentiable.higher
TERMS = named("error_hebbian", "oja", "decay")


def found(system, weights="dale", terms=TERMS, size=0.4):
    """Return a rule that was found in a system under a constraint; large enough to cut weights."""
    theta = torch.tensor([-size, size / 4, size / 20][: len(terms)])
    spec = {k: v for k, v in constrained(system, weights).spec().items() if k != "feedback"}
    return Rule.of(terms, theta, system.feedback_name, spec)


STACK = FullyConnected((5, 4, 4, 3), feedback_name="fixed")
PLASTIC = FullyConnected((5, 4, 3), feedback_name="plastic")
RULES = {
    "stack": found(STACK),
    "stack, non-negative": found(STACK, "nonnegative"),
    "stack, bounds": found(STACK, "bounds:-0.1,inf"),
    "stack, plastic": found(
        PLASTIC, "dale:fraction=0.5,inputs=free", named("error_hebbian", "backward_hebbian")
    ),
    "stack, only B": found(PLASTIC, "dale", named("backward_hebbian")),
    "stack, bcm": found(STACK, "dale", named("error_hebbian", "bcm")),
    "recurrent": found(Recurrent((3, 5, 2), Timing(1, 2, 4))),
    "fixed point": found(FixedPoint((3, 5, 2)), terms=named("error_hebbian"), size=0.3),
}


def exporters(name):
    """Return the formats that are tried; JAX, which compiles for seconds, once."""
    more = {"stack": ("torch", "jax"), "stack, bcm": ()}
    return ("numpy", *more.get(name, ("torch",)))


@pytest.mark.parametrize(
    ("name", "exporter"), [(name, exporter) for name in RULES for exporter in exporters(name)]
)
def test_programs_do_what_the_engine_does(name, exporter, in_process):
    rule = RULES[name]
    export = export_rule(rule, network_of(rule), exporter)
    assert export.check.difference <= 1e-12
    assert "within_limits" in export.text


@pytest.mark.parametrize("name", ["stack", "recurrent", "fixed point"])
def test_a_program_that_forgets_the_projection_is_not_written(name, in_process, monkeypatch):
    rule, exporter = RULES[name], all_exporters()["numpy"]
    write = type(exporter).write

    def forgetful(self, *given):
        text = write(self, *given)
        start = text.index("def within_limits")
        return text[:start] + text[start:].replace('"""\n', '"""\n    return W\n', 2)

    monkeypatch.setattr(type(exporter), "write", forgetful)
    with pytest.raises(UserError, match="differ from the engine's"):
        export_rule(rule, network_of(rule), exporter)


def test_programs_draw_within_the_limits(in_process):
    text = export_rule(RULES["stack"], network_of(RULES["stack"]), "numpy").text
    made = {"__name__": "exported"}
    exec(text, made)
    weights, _ = made["draw"](made["np"].random.default_rng(0), [5, 4, 4, 3])
    assert (weights[0] > 0).all()
    for matrix in weights[1:]:
        assert (matrix[:, :3] > 0).all()
        assert (matrix[:, 3:] < 0).all()


def test_documents_and_data_name_the_constraint():
    rule = RULES["stack"]
    for exporter in ("latex", "markdown"):
        text = export_rule(rule, network_of(rule), exporter).text
        assert "weights have the sign of their presynaptic neuron" in text
    data = json.loads(export_rule(rule, network_of(rule), "json").text)
    assert data["network"]["weights"] == data["provenance"]["weights"] == "dale"
    assert Rule.from_json(data).weights == "dale"
    free = replace(rule, provenance={"widths": [5, 4, 3]})
    assert "within_limits" not in export_rule(free, network_of(free), "markdown").text


def test_a_constraint_that_is_not_installed_is_named():
    rule = replace(RULES["stack"], provenance={**RULES["stack"].provenance, "weights": "no-such"})
    with pytest.raises(UserError, match="unknown constraint on weights 'no-such'") as caught:
        export_rule(rule, network_of(rule), "markdown")
    assert_is_one_sentence(caught.value)


# --- Rule.step and RuleOptimizer ---


def model_of(rule):
    model = nn.Sequential(
        nn.Linear(5, 4, bias=False), nn.Softplus(beta=10, threshold=40),
        nn.Linear(4, 3, bias=False),
    ).double()  # fmt: skip
    return model, RuleOptimizer(model, rule)


@pytest.mark.parametrize("weights", [None, "none", "nonnegative"])
def test_the_optimizer_takes_the_constraint_of_the_rule_or_another(weights):
    rule = found(FullyConnected((5, 4, 3), feedback_name="symmetric"))
    model, _ = model_of(rule)
    optimizer = RuleOptimizer(model, rule, weights=weights)
    before = [p.detach().clone() for p in model.parameters()]
    x = normal(5).abs()
    model(x)
    optimizer.step(1)
    after = list(model.parameters())
    plain = rule.step(before, x, 1, constraint=weights)
    for parameter, matrix in zip(after, plain.weights, strict=True):
        assert_close(parameter.detach(), matrix, 1e-14)
    signs = {
        None: (after[0] >= 0).all() and (after[1][:, 3:] <= 0).all(),
        "none": (after[0] < 0).any(),
        "nonnegative": all((p >= 0).all() for p in after),
    }
    assert signs[weights]


def test_a_state_belongs_to_its_constraint():
    rule = found(FullyConnected((5, 4, 3), feedback_name="symmetric"))
    _, optimizer = model_of(rule)
    saved = copy.deepcopy(optimizer.state_dict())
    _, free = model_of(replace(rule, provenance={}))
    with pytest.raises(UserError) as caught:
        free.load_state_dict(saved)
    assert_is_one_sentence(caught.value)
    optimizer.load_state_dict(saved)


def test_the_twin_projects_and_its_gradient_stops_at_cut_weights():
    rule = found(FullyConnected((5, 4, 3), feedback_name="symmetric"), terms=named("decay"))
    model, optimizer = model_of(rule)
    theta = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    x = normal(5).abs()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()  # W − 3 W has the wrong sign, so that every excitatory weight is cut.
    with higher.innerloop_ctx(model, optimizer, override={"theta": [theta]}) as (fmodel, twin):
        loss = nn.functional.cross_entropy(fmodel(x)[None], torch.tensor([1]))
        twin.step(loss)
        first, second = fmodel.parameters()
        assert not first.any()
        assert not second[:, :3].any()
        (gradient,) = torch.autograd.grad(first.sum() + second[:, :3].sum(), theta)
    assert gradient == 0
