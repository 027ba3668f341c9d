"""Monomials: names, candidates, and one meaning in the algebra, the kernel and printed text."""

import pytest
from recorded import planted, problem_of
from support import refusal

from metaplast.recordings.fit import fit
from metaplast.recordings.monomial import (
    MonomialTerm,
    candidates,
    equation,
    monomial,
    taylor,
    up_to,
)
from metaplast.rules.rule import Rule

EVERY = taylor(reward=True)


@pytest.mark.parametrize("term", EVERY, ids=lambda t: t.name)
def test_a_name_and_a_label_read_back_as_the_monomial(term):
    assert monomial(term.name) == term
    assert monomial(term.label) == term
    assert monomial(term.name.upper()) == term


def test_the_pools():
    assert len(set(taylor())) == 27
    assert len(set(EVERY)) == 81
    assert len(up_to(2)) == 10
    assert len(candidates("monomials:3")) == 20
    assert len(candidates("monomials:2,reward")) == 20
    assert candidates("taylor") == taylor()
    assert candidates("xy, y2W") == (MonomialTerm(1, 1), MonomialTerm(0, 2, 1))
    assert candidates("one") == (MonomialTerm(),)


WRONG = {
    "taylr": "did you mean 'taylor'",
    "monomials:4": "D = 2 or 3, got '4'",
    "xy,xy": "each term may occur once",
    "xy,q": "unknown monomial 'q'",
    "yx": "unknown pool or monomial 'yx'",
    "xy,,w": "empty entry",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_names_are_one_sentence(text):
    assert WRONG[text] in refusal(candidates, text)


def test_exponents_are_small_whole_numbers():
    assert "from 0 to 3" in refusal(MonomialTerm, 4)


# One of each exponent on each factor: a swap of two of them would show.
ALONE = ("x", "y", "w", "r", "x2", "y2", "w2", "r2", "x2y", "y2w", "w2r", "x2r", "xw2", "yr2")


@pytest.mark.parametrize("name", ALONE)
def test_a_planted_term_is_read_back_by_its_name(name):
    """The simulation goes through the algebra, the fit through the kernel."""
    found = planted(f"{name}=-0.1", inputs=6, trials=20, steps=10, eta=0.5, reward=True)
    theta = fit(problem_of(found.arrays, eta=0.5), EVERY).theta
    truth = [-0.1 if term.name == name else 0.0 for term in EVERY]
    assert theta == pytest.approx(truth, abs=1e-5)


@pytest.mark.parametrize("term", EVERY, ids=lambda t: t.name)
def test_the_formula_says_what_the_name_says(term):
    text = term.to_term().spell()
    for letter, power in zip(("yₗ₋₁", "yₗ", "Wₗ"), term.exponents, strict=False):
        plain = text.replace("yₗ₋₁", "·") if letter == "yₗ" else text
        assert (letter in plain) == (power > 0)


def test_a_rule_file_holds_the_terms(tmp_path):
    terms = tuple(map(monomial, ("xy", "y2w", "x2yr2")))
    rule = Rule(tuple(t.to_term() for t in terms), ((1.0, -1.0, 0.5),), "symmetric")
    rule.save(tmp_path / "rule.json")
    assert Rule.load(tmp_path / "rule.json") == rule


def test_the_equation_in_one_line():
    terms = tuple(map(monomial, ("xy", "y2w", "one")))
    assert equation(terms, (1.0234, -0.98, 0.5)) == "ΔW = 1.02 x y − 0.98 y² W + 0.5"
    assert equation(terms[:1], (-2.0,)) == "ΔW = −2 x y"
    assert equation((), ()) == "ΔW = 0"
