"""Rules go to a file and back unharmed, refuse what is not theirs, and print as equations."""

import json
import math

import numpy as np
import pytest
import torch
from support import TERMS, assert_is_one_sentence, named

from metaplast.base.errors import UserError
from metaplast.rules.rule import Rule
from metaplast.terms.notation import LATEX

BIO = named("error_hebbian", "error_error", "oja")
LOCAL = named("error_hebbian", "decay", "backward_hebbian", "backward_decay")
RULES = {
    "shared": Rule(BIO, ((1e-3, -0.25, 0.1),), "fixed"),
    "per layer": Rule(BIO, ((1e-3, -0.25, 0.1), (0.0, 1 / 3, -1e-12)), "direct"),
    "backward": Rule(LOCAL, ((0.1, 0.2, 0.3, 0.4),), "plastic"),
    "all terms": Rule(TERMS, (tuple(0.1 * k for k in range(len(TERMS))),), "plastic"),
    "no terms": Rule((), ((),), "symmetric"),
    "one term": Rule(named("oja"), ((math.pi,),), "symmetric"),
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())
def test_a_rule_loads_back_equal(rule, tmp_path):
    path = tmp_path / "rule.json"
    rule.save(path)
    assert Rule.load(path) == rule


def test_provenance_comes_back_but_is_not_part_of_equality(tmp_path):
    provenance = {"dataset": "somewhere", "widths": [3, 2], "versions": {"torch": "2"}}
    rule = Rule(BIO, ((1.0, 2.0, 3.0),), "fixed", provenance)
    rule.save(tmp_path / "rule.json")
    assert Rule.load(tmp_path / "rule.json").provenance == provenance
    assert rule == Rule(BIO, ((1.0, 2.0, 3.0),), "fixed")


@pytest.mark.parametrize("shape", [(3,), (4, 3)], ids=["shared", "per-layer"])
def test_theta_goes_through_a_rule_unchanged(shape, tmp_path):
    theta = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    Rule.of(BIO, theta, "fixed").save(tmp_path / "rule.json")
    assert torch.equal(Rule.load(tmp_path / "rule.json").tensor(), theta)


def test_coefficients_are_keyed_by_name_whatever_the_order(tmp_path):
    path = tmp_path / "rule.json"
    RULES["shared"].save(path)
    data = json.loads(path.read_text())
    data["theta"] = dict(reversed(data["theta"].items()))
    path.write_text(json.dumps(data))
    assert Rule.load(path).coefficients == RULES["shared"].coefficients


def change(**fields):
    return lambda data: json.dumps({**data, **fields})


def without(field):
    return lambda data: json.dumps({k: v for k, v in data.items() if k != field})


def with_theta(**theta):
    return lambda data: json.dumps({**data, "theta": {**data["theta"], **theta}})


def with_formula(formula):
    def write(data):
        data["terms"]["oja"]["formula"] = formula
        return json.dumps(data)

    return write


def with_old_formula(formula):
    """Write a term as earlier versions did, by its text only."""

    def write(data):
        data["terms"]["oja"] = {"formula": formula, "locality": "local", "citation": "Oja 1982"}
        return json.dumps(data)

    return write


SPOILED = {
    "empty": (lambda _: "", "is not JSON"),
    "cut short": (lambda data: json.dumps(data)[:100], "is not JSON"),
    "a list": (lambda _: "[1, 2]", "is not a metaplast rule"),
    "another program's": (lambda _: '{"name": "x"}', "is not a metaplast rule"),
    "future version": (change(version=2), "reads version 1; install a newer"),
    "no version": (without("version"), "version None"),
    "no theta": (without("theta"), "damaged"),
    "no terms": (without("terms"), "damaged"),
    "no feedback": (without("feedback"), "damaged"),
    "no provenance": (without("provenance"), "damaged"),
    "theta a list": (change(theta=[1, 2, 3]), "damaged"),
    "theta a number": (change(theta=3), "damaged"),
    "provenance a number": (change(provenance=3), "damaged"),
    "a text as coefficient": (with_theta(oja="large"), "damaged"),
    "a truth value as coefficient": (with_theta(oja=True), "damaged"),
    "null as coefficient": (with_theta(oja=None), "damaged"),
    "uneven layers": (with_theta(oja=[1.0, 2.0]), "damaged"),
    "one coefficient of a layer's own": (with_theta(oja=[1.0]), "damaged"),
    "an endless integer": (with_theta(oja=10**400), "whole number of 401 digits"),
    "NaN": (with_theta(oja=math.nan), "NaN, which is not a number"),
    "infinity": (with_theta(oja=math.inf), "Infinity, which is not a number"),
    "unknown feedback": (change(feedback="fixd"), "did you mean 'fixed'"),
    "unknown term": (with_theta(ojja=1.0), "did you mean 'oja'"),
    "changed formula": (with_old_formula("yₗ yₗ₋₁ᵀ"), "was written when oja meant"),
    "changed text of a formula": (with_formula("yₗ yₗ₋₁ᵀ"), "but its monomials mean"),
    "a formula that is no text": (with_formula(3), "'formula' of the term oja has the wrong type"),
}


@pytest.mark.parametrize(("spoil", "sentence"), SPOILED.values(), ids=SPOILED.keys())
def test_a_spoiled_file_is_refused(spoil, sentence, tmp_path):
    path = tmp_path / "rule.json"
    RULES["shared"].save(path)
    path.write_text(spoil(json.loads(path.read_text())), encoding="utf-8")
    with pytest.raises(UserError, match=sentence) as caught:
        Rule.load(path)
    assert_is_one_sentence(caught.value)


def test_a_missing_file_and_a_binary_one_are_refused(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        Rule.load(tmp_path / "rule.json")
    (tmp_path / "rule.json").write_bytes(b"\x80\x81\xff")
    with pytest.raises(UserError, match="is not UTF-8"):
        Rule.load(tmp_path / "rule.json")


BAD_RULES = {
    "too few coefficients": (BIO, ((1.0,),), "fixed"),
    "too many coefficients": (BIO, ((1.0,) * 4,), "fixed"),
    "uneven rows": (BIO, ((1.0,) * 3, (1.0,) * 2), "fixed"),
    "no row": (BIO, (), "fixed"),
    "NaN": (BIO, ((1.0, math.nan, 1.0),), "fixed"),
    "infinity": (BIO, ((1.0, 1.0, -math.inf),), "fixed"),
    "a term twice": (named("oja", "oja"), ((1.0, 2.0),), "fixed"),
    "unknown feedback": (BIO, ((1.0,) * 3,), "nowhere"),
    "no feedback": (BIO, ((1.0,) * 3,), None),
    "truths": (BIO, ((True, 1.0, 1.0),), "fixed"),
    "texts": (BIO, (("1", 1.0, 1.0),), "fixed"),
    "a text": (BIO, "123", "fixed"),
    "a number": (BIO, 1.0, "fixed"),
    "three axes": (BIO, torch.zeros(1, 1, 3), "fixed"),
    "a tensor without numbers": (BIO, torch.zeros(3, device="meta"), "fixed"),
    "a sparse tensor": (BIO, torch.ones(3).to_sparse(), "fixed"),
    "an endless integer": (BIO, ((10**400, 1.0, 1.0),), "fixed"),
    "a row and a number": (BIO, ((1.0, 1.0, 1.0), 1.0), "fixed"),
    "names for terms": (("oja",), ((1.0,),), "fixed"),
    "a term without a tuple": (BIO[0], ((1.0,),), "fixed"),
    "a text as provenance": (BIO, ((1.0,) * 3,), "fixed", "here"),
}


@pytest.mark.parametrize("parts", BAD_RULES.values(), ids=BAD_RULES.keys())
def test_a_rule_that_makes_no_sense_is_refused(parts):
    with pytest.raises(UserError) as caught:
        Rule(*parts)
    assert_is_one_sentence(caught.value)


# --- equations ---

EQUATIONS = {
    "a minus of the term": (BIO[:1], (0.5,), "ΔWₗ = −0.5 eₗ yₗ₋₁ᵀ"),
    "two minuses make a plus": (BIO[:1], (-0.5,), "ΔWₗ = 0.5 eₗ yₗ₋₁ᵀ"),
    "a sum is bracketed": (BIO[2:], (0.5,), "ΔWₗ = 0.5 (yₗ yₗ₋₁ᵀ − yₗ yₗᵀ Wₗ)"),
    "a negative sum": (BIO[2:], (-0.5,), "ΔWₗ = −0.5 (yₗ yₗ₋₁ᵀ − yₗ yₗᵀ Wₗ)"),
    "the published rule": (
        BIO,
        (0.02, -0.1, 0.0031416),
        "ΔWₗ = −0.02 eₗ yₗ₋₁ᵀ + 0.1 eₗ eₗ₋₁ᵀ + 0.003142 (yₗ yₗ₋₁ᵀ − yₗ yₗᵀ Wₗ)",
    ),
    "forward and backward": (
        LOCAL,
        (0.1, 0.2, 0.3, -0.4),
        "ΔWₗ = −0.1 eₗ yₗ₋₁ᵀ − 0.2 Wₗ\nΔBₗ = −0.3 yₗ₋₁ eₗᵀ + 0.4 Bₗ",
    ),
    "a gated term": (
        named("summed_error_hebbian"),
        (-2.0,),
        "ΔWₗ = 2 (1ᵀ yₗ) eₗ yₗ₋₁ᵀ",
    ),
    "nothing": ((), (), "ΔWₗ = 0"),
}


@pytest.mark.parametrize(("terms", "theta", "text"), EQUATIONS.values(), ids=EQUATIONS.keys())
def test_signs_are_merged_in_the_equation(terms, theta, text):
    rule = Rule(terms, (theta,), "plastic")
    assert rule.equation() == text
    assert str(rule) == text


def test_latex():
    assert Rule(BIO[:2], ((0.5, -1.0),), "fixed").equation(LATEX) == (
        r"\Delta W_{\ell} = -0.5\, e_{\ell}\, y_{\ell-1}^{\top} + 1\, e_{\ell}\, e_{\ell-1}^{\top}"
    )


def test_per_layer_coefficients_are_printed_below():
    rule = Rule(BIO[:2], ((0.5, -1.0), (0.25, 0.0)), "fixed")
    assert str(rule).splitlines() == [
        "ΔWₗ = −θₗ[error_hebbian] eₗ yₗ₋₁ᵀ − θₗ[error_error] eₗ eₗ₋₁ᵀ",
        "with, for layers 1 … L:",
        "  θₗ[error_hebbian] = [0.5, 0.25]",
        "  θₗ[error_error] = [-1, 0]",
    ]
    assert rule.coefficients == {"error_hebbian": [0.5, 0.25], "error_error": [-1.0, 0.0]}
    assert tuple(rule.tensor().shape) == (2, 2)


@pytest.mark.parametrize("shape", [(3,), (1, 3), (2, 3)], ids=str)
def test_a_rule_keeps_whether_it_is_per_layer_even_of_one_layer(shape, tmp_path):
    rule = Rule.of(BIO, torch.ones(shape), "fixed")
    rule.save(tmp_path / "rule.json")
    loaded = Rule.load(tmp_path / "rule.json")
    assert loaded == rule
    assert loaded.is_per_layer == (len(shape) == 2)
    assert tuple(loaded.tensor().shape) == shape
    assert Rule.of(BIO, loaded.tensor(), "fixed") == rule
    assert isinstance(loaded.coefficients["oja"], list) == (len(shape) == 2)


def test_a_shared_rule_is_another_than_a_per_layer_one_of_one_layer():
    shared, own = (Rule.of(BIO, torch.ones(shape), "fixed") for shape in ((3,), (1, 3)))
    assert shared != own
    assert Rule(BIO, ((1, 1, 1),), "fixed", per_layer=True) == own


WRITTEN = {
    "lists": [[1e-3, -0.25, 0.5]],
    "one list": [1e-3, -0.25, 0.5],
    "numpy numbers": (np.float64(1e-3), np.float32(-0.25), np.float16(0.5)),
    "an array": np.array([1e-3, -0.25, 0.5]),
    "a tensor": torch.tensor([1e-3, -0.25, 0.5], dtype=torch.float64, requires_grad=True),
    "tensors": [torch.tensor(x, dtype=torch.float64) for x in (1e-3, -0.25, 0.5)],
}


@pytest.mark.parametrize("theta", WRITTEN.values(), ids=WRITTEN.keys())
def test_coefficients_compare_and_save_as_numbers_whatever_they_are_written_in(theta, tmp_path):
    rule = Rule(list(BIO), theta, "fixed")
    assert rule == Rule(BIO, ((1e-3, -0.25, 0.5),), "fixed")
    assert hash(rule) == hash(Rule(BIO, ((1e-3, -0.25, 0.5),), "fixed"))
    rule.save(tmp_path / "rule.json")
    assert Rule.load(tmp_path / "rule.json") == rule


def test_a_per_layer_rule_without_terms(tmp_path):
    rule = Rule.of((), torch.zeros(4, 0), "fixed")
    rule.save(tmp_path / "rule.json")
    assert Rule.load(tmp_path / "rule.json") == rule
    assert str(rule) == "ΔWₗ = 0"
