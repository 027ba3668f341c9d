"""Rules of a recurrent network as programs and documents."""

import ast
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import FORWARD, named, normal, refusal

from metaplast import Rule
from metaplast.export import all_exporters, export_rule, network_of
from metaplast.export.network_choice import Wanted
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.timing import Timing
from metaplast.terms.algebra import W, outer, post, pre, rectified, scalar, sign, total
from metaplast.terms.term import Term

FUNCTIONS = Term(
    "functions",
    outer(post.activity**2, pre.activity * pre.error)
    - W * outer(sign(post.error), rectified(pre.activity)),
    "made up",
)
BIO = named("error_hebbian", "error_error", "oja", "drive_oja", "decay")
BACKWARD = named("error_hebbian", "backward_hebbian", "backward_decay")
ODD = Term(
    "odd",
    0.5 * W
    - total(post.one) * W
    + outer(post.one, pre.one)
    - outer(post.signal("potential"), W.T @ post.signal("potential")),
    "made up",
)
LAST, EACH = Timing(1, 2, 4), Timing(3, 1, 4, each=True)


def found(
    terms,
    feedback="fixed",
    timing=LAST,
    sites=None,
    objective="cross-entropy",
    size=0.03,
    **options,
):
    """Return a rule as a discovery in a recurrent network gives it."""
    shape = (sites, len(terms)) if sites else (len(terms),)
    system = Recurrent(
        (3, 4, 2), timing, feedback_name=feedback, objective_name=objective, **options
    )
    return Rule.of(tuple(terms), size * normal(*shape), feedback, system.spec())


RULES = {
    "fixed": found(BIO),
    "all terms, per matrix": found((*FORWARD, *named("potential_oja", "drive_oja")), sites=3),
    "symmetric, each": found(BIO, "symmetric", EACH, activation="softplus:10", size=0.003),
    "plastic": found(BACKWARD, "plastic", activation="relu", init="normal:0.3"),
    "sign-symmetric, numbers": found(BIO, "sign-symmetric", objective="mse"),
    "numbers at each step": found(named("error_hebbian", "oja"), timing=EACH, objective="mse"),
    "odd": found((ODD,)),
    "functions": found((FUNCTIONS,)),
    "no terms": found(()),
}


@pytest.mark.parametrize("exporter", ["numpy", "torch"])
@pytest.mark.parametrize("name", RULES)
def test_programs_do_what_the_engine_does(name, exporter, in_process):
    rule = RULES[name]
    export = export_rule(rule, network_of(rule), exporter)
    assert export.check.difference <= 1e-12
    ast.parse(export.text)
    assert "metaplast" not in [line.partition("import ")[2] for line in export.text.splitlines()]


def test_a_program_that_errs_is_not_written(in_process, monkeypatch):
    rule, exporter = RULES["fixed"], all_exporters()["numpy"]
    write = type(exporter).write

    def written(self, *given):
        return write(self, *given).replace("y[:-1]", "y[1:]")

    monkeypatch.setattr(type(exporter), "write", written)
    assert "differ from the engine's" in refusal(export_rule, rule, network_of(rule), exporter)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["numpy", "torch"])
def test_a_program_stands_alone(exporter, alone):
    """It is compared with the engine in a process of its own, and learns without metaplast."""
    rule = RULES["all terms, per matrix"]
    program = alone(export_rule(rule, network_of(rule), exporter).text)
    ones = {"numpy": np, "torch": torch}[exporter].ones((1, 3))
    given = program.draw(*([np.random.default_rng(0)] if exporter == "numpy" else []))
    found = program.outputs(program.step(*given, ones, 1), ones)
    assert np.isfinite(np.asarray(found)).all()


@pytest.mark.parametrize("name", ["fixed", "numbers at each step", "all terms, per matrix"])
def test_documents_describe_the_network(name):
    rule = RULES[name]
    network = network_of(rule)
    for exporter in ("latex", "markdown"):
        text = export_rule(rule, network, exporter).text
        assert "W_h" in text
        assert "Layer" not in text
        assert ("At each step" in text) == network.timing.each
    data = json.loads(export_rule(rule, network, "json").text)
    assert data["network"]["time"] == 4
    assert Rule.from_json(data) == rule


def test_the_network_is_the_one_of_the_rule():
    rule = RULES["symmetric, each"]
    network = network_of(rule)
    assert (network.widths, network.timing, network.activation) == ((3, 4, 2), EACH, "softplus:10")
    assert network_of(rule, Wanted((5, 6, 2), "tanh")).widths == (5, 6, 2)
    for name, value in (("time", "4"), ("readout", "never"), ("init", None), ("frames", True)):
        bad = replace(rule, provenance={**rule.provenance, name: value})
        assert "does not describe" in refusal(network_of, bad)


def test_what_has_no_program_is_refused():
    def exported(rule, exporter="numpy"):
        return refusal(export_rule, rule, network_of(rule), exporter)

    assert "jax has no program for the system recurrent" in exported(RULES["fixed"], "jax")
    truncated = found(BIO, "truncated:2")
    assert "cannot be exported as code" in exported(truncated)
    assert "as latex, markdown or json" in exported(truncated, "jax")
    assert "as numpy, torch, latex" in exported(RULES["fixed"], "jax")
    assert "W_h" in export_rule(truncated, network_of(truncated), "markdown").text
    rewarded = Term("rewarded", scalar("reward") * W, "made up")
    assert "reads" in exported(found((rewarded,)))
    assert "--widths with 4 numbers" not in exported(found(BIO, sites=2))
