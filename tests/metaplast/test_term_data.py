"""A rule's file holds the meaning of its terms; wrong content is refused."""

import itertools
import json
from dataclasses import replace

import pytest
import torch
from support import (
    TERMS,
    assert_is_one_sentence,
    named,
    paths_in,
    refusal,
    with_value,
    without,
)

from metaplast import B, DenseFormula, Rule, Term, W, dot, outer, post, pre, scalar, total
from metaplast.base.errors import UserError
from metaplast.terms.formula_data import formula_data, is_same_formula, read_formula
from metaplast.terms.term_data import read_term, term_data

MINE = Term(
    "mine",
    0.1234567 * (total(post.error) * (dot(W.T @ post.activity, pre.error) * W))
    - 2 * (dot(pre.activity, W.T @ post.error) * outer(post.one, W.T @ post.activity))
    + outer(post.error, pre.activity),
    "a notebook", summary="a test", aliases=("M1",), initial=0.5, nonnegative=True, in_pool=False,
)  # fmt: skip
BACK = Term("back", outer(pre.activity, post.error) - 0.5 * B, "a notebook")
DRIVEN = Term(
    "driven", dot(post.error, post.signal("drive")) * outer(post.signal("drive"), pre.activity),
    "a notebook",
)  # fmt: skip
REWARDED = Term(
    "rewarded",
    scalar("reward") * (dot(post.error, post.error) * outer(post.activity, pre.activity))
    + 0.5 * (scalar("surprise") * (scalar("reward") * -W)),
    "a notebook",
)  # fmt: skip
DENSE = Term(
    "dense",
    DenseFormula(
        W, lambda s: torch.einsum("ei,ej->eij", s.post_error, s.pre_activity**2),
        frozenset((post.error, pre.activity)), True, "eₗ (yₗ₋₁²)ᵀ", r"e_\ell (y_{\ell-1}^2)^{\top}",
    ),
    "here",
)  # fmt: skip


def written(*terms):
    """Return the rule's file as data."""
    return json.loads(json.dumps(Rule.of(terms, torch.ones(len(terms)), "plastic").to_json()))


def put(tmp_path, data):
    path = tmp_path / "rule.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.mark.parametrize("term", [*TERMS, MINE, BACK, DRIVEN, REWARDED], ids=lambda term: term.name)
def test_a_term_comes_back_whole(term):
    assert read_term(term.name, json.loads(json.dumps(term_data(term)))) == term


def test_a_term_of_one_s_own_loads_where_it_was_never_registered(tmp_path):
    given = Rule((MINE, *named("oja"), BACK), ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), "plastic")
    given.save(tmp_path / "rule.json")
    loaded = Rule.load(tmp_path / "rule.json")
    assert loaded == given
    assert str(loaded) == str(given)
    assert loaded.terms[1] is named("oja")[0], "the registered one, where it means the same"


def test_the_same_sum_in_another_order_is_the_registered_term(tmp_path):
    data = written(*named("oja"))
    data["terms"]["oja"]["monomials"].reverse()
    data["terms"]["oja"]["formula"] = "−yₗ yₗᵀ Wₗ + yₗ yₗ₋₁ᵀ"
    assert Rule.load(put(tmp_path, data)).terms == named("oja")


def test_formulas_are_compared_as_sums():
    oja = named("oja")[0].formula
    assert is_same_formula(oja, 0.5 * oja + 0.5 * oja)
    assert not is_same_formula(oja, 1.0000001 * oja), "their texts are the same"
    assert is_same_formula(
        scalar("reward") * (scalar("surprise") * W), scalar("surprise") * (scalar("reward") * W)
    )
    assert not is_same_formula(scalar("reward") * W, scalar("surprise") * W)
    assert not is_same_formula(scalar("reward") * W, 1 * W)
    gate = dot(post.error, post.activity)
    assert is_same_formula(gate * W, dot(post.activity, post.error) * W)


def test_a_name_that_means_something_else_is_the_file_s_and_said(tmp_path):
    other = Term("oja", outer(post.error, pre.error), "another library")
    Rule.of((other,), torch.tensor([0.5]), "fixed").save(tmp_path / "rule.json")
    with pytest.warns(UserWarning, match="as its file says") as warned:
        loaded = Rule.load(tmp_path / "rule.json")
    assert loaded.terms == (other,)
    assert len(warned) == 1


def test_a_term_that_is_given_must_be_the_file_s(tmp_path):
    Rule.of((MINE,), torch.tensor([0.5]), "fixed").save(tmp_path / "rule.json")
    assert Rule.load(tmp_path / "rule.json", [MINE]).terms == (MINE,)
    nearly = replace(MINE, formula=1.0000001 * MINE.formula)
    with pytest.raises(UserError, match="was written when mine meant") as caught:
        Rule.load(tmp_path / "rule.json", [nearly])
    assert_is_one_sentence(caught.value)


def test_a_torch_function_must_be_given(tmp_path):
    path = tmp_path / "rule.json"
    Rule.of((DENSE,), torch.tensor([0.5]), "fixed").save(path)
    with pytest.raises(UserError, match=r"terms=\[dense\]") as caught:
        Rule.load(path)
    assert_is_one_sentence(caught.value)
    assert Rule.load(path, [DENSE]).terms == (DENSE,)
    other = replace(DENSE, formula=replace(DENSE.formula, update=lambda s: s.operator.tensor))
    with pytest.raises(UserError, match="gives other values") as caught:
        Rule.load(path, [other])
    assert_is_one_sentence(caught.value)
    shown = Rule.load(path, to_print=True)
    assert str(shown) == "ΔWₗ = 0.5 eₗ (yₗ₋₁²)ᵀ"
    with pytest.raises(UserError, match="torch function"):
        shown.terms[0].formula.update(None)


def test_a_torch_function_s_scalars_are_in_its_file(tmp_path):
    update = lambda s: s.scalars["reward"][:, None, None] * s.operator.tensor  # noqa: E731
    formula = DenseFormula(W, update, frozenset(), True, "reward Wₗ", "f", {"reward"})
    term, path = Term("dense", formula, "here"), tmp_path / "rule.json"
    Rule.of((term,), torch.tensor([0.5]), "fixed").save(path)
    assert Rule.load(path, [term]).terms == (term,)
    (shown,) = Rule.load(path, to_print=True).terms
    assert shown.scalars == {"reward"}
    assert shown.locality == term.locality == "local + broadcast scalar"
    other = replace(term, formula=replace(formula, update=lambda s: s.operator.tensor))
    assert "gives other values" in refusal(Rule.load, path, [other])
    wrong = with_value(written(term), ("terms", "dense", "function", "scalars"), ["my reward"])
    assert "lower-case identifier" in refusal(Rule.load, put(tmp_path, wrong), to_print=True)


WRONG = (None, True, -1, 10**400, "text", [], [[]], {}, {"kind": "error"}, ["post", "pre"])


SMALL = Term(
    "small",
    dot(W.T @ post.error, pre.error) * (scalar("reward") * outer(post.one, pre.activity)),
    "here",
)


def test_every_malformed_piece_is_refused_in_a_sentence_that_names_the_file(tmp_path):
    data = written(SMALL)
    refused = []
    for path, value in itertools.product(paths_in(data), WRONG):
        if path[0] in ("provenance", "equation") or path[-1] == "locality":
            continue
        try:
            file = put(tmp_path, with_value(data, path, value))
        except ValueError:  # too many digits for Python itself
            continue
        try:
            Rule.load(file)
        except UserError as error:
            refused.append((file, error))
    assert len(refused) > 200
    for file, error in refused:
        assert_is_one_sentence(error)
        assert str(file) in str(error)


def test_pieces_that_lack_are_refused(tmp_path):
    data = written(SMALL)
    whole = Rule.load(put(tmp_path, data))
    optional = {"locality", "summary", "aliases", "initial", "nonnegative", "in_pool"}
    for path in paths_in(data):
        if not isinstance(path[-1], str) or path[0] == "equation":
            continue
        file = put(tmp_path, without(data, path))
        if path[-1] in optional:
            assert Rule.load(file) == whole, path
        elif path == ("theta", "small"):
            assert Rule.load(file).terms == (), "a term without a coefficient has no part in a rule"
        else:
            assert "rule.json" in refusal(Rule.load, file), path


def test_sizes_are_bounded(tmp_path):
    data = written(SMALL)
    small = data["terms"]["small"]
    gate = small["monomials"][0]["gates"][0]
    many = with_value(data, ("terms", "small", "monomials"), small["monomials"] * 1001)
    gates = with_value(data, ("terms", "small", "monomials", 0, "gates"), [gate] * 17)
    layers = with_value(data, ("theta", "small"), [1.0] * 10_001)
    for spoiled in (many, gates, layers):
        with pytest.raises(UserError, match="is damaged") as caught:
            Rule.load(put(tmp_path, spoiled))
        assert_is_one_sentence(caught.value)


def test_a_projection_goes_through_the_term_s_own_matrix():
    data = formula_data(SMALL.formula)
    data["matrix"] = "B"
    with pytest.raises(ValueError, match="through transposed B"):
        read_formula(data, "it")
