"""Rules of a fixed-point network as programs and documents."""

import ast
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import named, normal, refusal

from metaplast import Rule
from metaplast.base.notices import collected
from metaplast.export import all_exporters, export_rule, network_of
from metaplast.export.network_choice import Wanted
from metaplast.systems.fixed_point import FixedPoint
from metaplast.terms.algebra import W, outer, post, pre, rectified, scalar, sign, total
from metaplast.terms.term import Term

FUNCTIONS = Term(
    "functions",
    outer(post.activity**2, pre.activity * pre.error)
    - W * outer(sign(post.error), rectified(pre.activity)),
    "made up",
)
ALL = named("error_hebbian", "oja", "reparameterised", "reparameterised_ungated", "decay")
ODD = Term(
    "odd",
    0.5 * W
    - total(post.one) * W
    + outer(post.one, pre.one)
    - outer(post.error, W.T @ post.signal("linearised_error"))
    + outer(post.activity, pre.error),
    "made up",
)


def found(terms, size=0.03, widths=(3, 5, 2), per_layer=False, **options):
    """Return a rule as a discovery in a fixed-point network gives it."""
    system = FixedPoint(widths, **options)
    shape = (1, len(terms)) if per_layer else (len(terms),)
    return Rule.of(tuple(terms), size * normal(*shape), "implicit", system.spec())


RULES = {
    "all terms": found(ALL),
    "per matrix, gmres, batches": found(ALL, per_layer=True, solver="gmres", batch=3),
    "softplus": found(named("error_hebbian", "decay"), activation="softplus:3", gain=0.4),
    "relu, direct drive": found(ALL, activation="relu", drive="direct", widths=(4, 5, 3)),
    "linear, direct": found(
        named("reparameterised"), activation="linear", drive="direct", readout="direct",
        widths=(5, 5, 4), objective_name="mse",
    ),
    "direct readout": found(named("reparameterised_ungated"), readout="direct"),
    "odd": found((ODD,), size=0.01),
    "functions": found((FUNCTIONS,), size=0.01),
    "activity only": found(named("oja")),
    "no terms": found(()),
    "a wide output": found(named("error_hebbian"), widths=(3, 4, 5)),
    # No input settles within five steps of a very exact relaxation: only the decay acts.
    "unsettled": found(ALL, steps=5, tolerance=1e-12),
}  # fmt: skip


@pytest.mark.parametrize("exporter", ["numpy", "torch"])
@pytest.mark.parametrize("name", RULES)
def test_programs_do_what_the_engine_does(name, exporter, in_process):
    rule = RULES[name]
    with collected():
        export = export_rule(rule, network_of(rule), exporter)
    assert export.check.difference <= 1e-12
    ast.parse(export.text)
    assert "metaplast" not in [line.partition("import ")[2] for line in export.text.splitlines()]


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("g[:, None] * W.T", "g[None] * W.T"),
        ("local - W @ (g * local)", "local - W @ local"),
        ("inner - g * (W.T @ inner)", "inner - W.T @ (g * inner)"),
        ("return target", "return r"),
    ],
)
def test_a_program_that_errs_is_not_written(right, wrong, in_process, monkeypatch):
    rule, exporter = RULES["all terms"], all_exporters()["numpy"]
    write = type(exporter).write
    assert right in write(exporter, rule, network_of(rule))

    def written(self, *given):
        return write(self, *given).replace(right, wrong)

    monkeypatch.setattr(type(exporter), "write", written)
    assert "differ from the engine's" in refusal(export_rule, rule, network_of(rule), exporter)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["numpy", "torch"])
def test_a_program_stands_alone(exporter, alone):
    """It is compared with the engine in a process of its own, and learns without metaplast."""
    rule = RULES["all terms"]
    program = alone(export_rule(rule, network_of(rule), exporter).text)
    ones = {"numpy": np, "torch": torch}[exporter].ones((3,))
    given = program.draw(*([np.random.default_rng(0)] if exporter == "numpy" else []))
    found = program.outputs(program.step(*given, ones, 1), given[1], ones)
    assert np.isfinite(np.asarray(found)).all()


def test_documents_describe_the_network():
    for name in ("all terms", "linear, direct"):
        rule = RULES[name]
        network = network_of(rule)
        for exporter in ("latex", "markdown"):
            text = export_rule(rule, network, exporter).text
            assert "fixed point" in text
            assert "Layer" not in text
        data = json.loads(export_rule(rule, network, "json").text)
        assert data["network"]["system"] == "fixed-point"
        assert Rule.from_json(data) == rule


def test_the_network_is_the_one_of_the_rule():
    rule = RULES["per matrix, gmres, batches"]
    network = network_of(rule)
    assert network == FixedPoint((3, 5, 2))
    assert network_of(rule, Wanted((5, 6, 2), "relu")) == FixedPoint((5, 6, 2), "relu")
    assert "leave --init out" in refusal(network_of, rule, Wanted(init="xavier"))
    assert "784,100,10" in refusal(network_of, rule, Wanted((5, 6)))
    bare = {k: v for k, v in rule.provenance.items() if k != "rate"}
    assert "does not describe" in refusal(network_of, replace(rule, provenance=bare))


def test_what_has_no_program_is_refused():
    rule = RULES["all terms"]
    told = refusal(export_rule, rule, network_of(rule), "jax")
    assert "jax has no program for the system fixed-point; export the rule as numpy, torch" in told
    rewarded = found((Term("rewarded", scalar("reward") * W, "made up"),))
    assert "reads" in refusal(export_rule, rewarded, network_of(rewarded), "numpy")
