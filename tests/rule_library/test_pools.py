"""Pools of candidate terms: sizes, names, what generated terms do, and engines that run them."""

import re

import numpy as np
import pytest
import torch
from support import TERMS, assert_close, named, random_problem, random_synapses, refusal

from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run_config import config_digest
from metaplast.engines import get_engine
from metaplast.rules.rule import Rule
from metaplast.systems.system import Group
from metaplast.terms import library
from metaplast.terms.algebra import B, Formula, W, dot, outer, post, pre
from metaplast.terms.generated import gates, shape
from metaplast.terms.library import all_terms, choose_terms, get_term, pools
from metaplast.terms.pool import Pool
from metaplast.terms.term import Term, full_update

SIZES = {"all": 16, "all+backward": 22, "products": 16, "products+backward": 32}
# Fifteen products and decay, alone and times 5 gates of row signals and 14 of column vectors.
SIZES |= {"monomials:2": 21, "monomials:3": 56}
SIZES["products*gates"] = 16 * (1 + 5 + 14)
GENERATED = ["products", "products+backward", "products*gates"]
MADE = {t.name: t for name in GENERATED for t in pools()[name].terms() if t not in TERMS}


def terms_of(name):
    return pools()[name].terms()


def test_every_pool_has_a_size_here():
    assert set(pools()) == set(SIZES)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_and_names(name):
    terms = terms_of(name)
    assert len(terms) == len({term.name for term in terms}) == SIZES[name]
    assert terms == terms_of(name)
    assert choose_terms(name).terms == choose_terms(name.upper()).terms == terms
    assert all(get_term(term.name) is term for term in terms)


@pytest.mark.parametrize("name", GENERATED)
@pytest.mark.parametrize("seed", range(3))
def test_no_term_of_a_generated_pool_is_a_multiple_of_another(name, seed):
    for matrix in (W, B):
        synapses = random_synapses(matrix, episodes=30, seed=seed)
        terms = [term for term in terms_of(name) if term.matrix == matrix]
        if not terms:
            continue
        updates = torch.stack([full_update(term, synapses).flatten() for term in terms])
        updates /= updates.norm(dim=1, keepdim=True)
        alike = (updates @ updates.T).abs() - torch.eye(len(terms), dtype=updates.dtype)
        assert alike.max() < 1 - 1e-3


@pytest.mark.parametrize("matrix", [W, B], ids="WB")
def test_every_gate_of_the_algebra_occurs_once(matrix):
    row = post if matrix == W else pre
    column = pre if matrix == W else post
    sides = [
        [row.activity, row.error, row.one],
        [column.activity, column.error, column.one, matrix.T @ row.activity, matrix.T @ row.error],
    ]
    found = {frozenset((gate.left, gate.right)) for gate in gates(matrix)}
    assert len(found) == len(gates(matrix)) == 19
    expected = {frozenset((u, v)) for side in sides for u in side for v in side}
    assert expected - found == {frozenset({post.one}), frozenset({pre.one})}


# --- what they do ---


def plain(name, synapses):
    """Return the update that a name stands for, synapse by synapse, for one episode."""
    matrix = synapses.operator.tensor[0].numpy()
    row, column = ("pre", "post") if name.startswith("b_") else ("post", "pre")
    signals = {(s.population, s.kind): v[0, 0].numpy() for s, v in synapses.signals.items()}
    for side, length in zip((row, column), matrix.shape, strict=True):
        signals[side, "one"] = np.ones(length)

    def vector(letters, side):
        kind = {"y": "activity", "e": "error", "one": "one"}[letters.removeprefix(through)]
        if letters.startswith(through):
            return [
                sum(matrix[i, j] * signals[row, kind][i] for i in range(matrix.shape[0]))
                for j in range(matrix.shape[1])
            ]
        return signals[side, kind]

    through = "bt" if name.startswith("b_") else "wt"
    product, _, gate = name.removeprefix("b_").partition("_by_")
    factor = 1.0
    if gate:
        side, left, right = gate.split("_")
        factor = sum(a * b for a, b in zip(vector(left, side), vector(right, side), strict=True))
    update = np.empty_like(matrix)
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            if product == "decay":
                update[i, j] = -factor * matrix[i, j]
            else:
                first, second = product.split("_")
                update[i, j] = factor * vector(first, row)[i] * vector(second, column)[j]
    return update


@pytest.mark.parametrize("matrix", [W, B], ids="WB")
def test_a_generated_term_is_what_its_name_says(matrix):
    synapses = random_synapses(matrix, episodes=1)
    terms = [term for term in MADE.values() if term.matrix == matrix]
    assert len(terms) == {"W": 11 + 304 - 4, "B": 12}[matrix.name]
    for term in terms:
        expected = plain(term.name, synapses)
        assert_close(full_update(term, synapses)[0], torch.from_numpy(expected), 1e-12)


def test_library_terms_stand_for_their_products():
    start = next(term for term in terms_of("products") if term.name == "error_hebbian")
    assert start.initial == 1e-3
    everywhere = {term for name in GENERATED for term in terms_of(name)}
    single = {term for term in TERMS if isinstance(term.formula, Formula) and shape(term.formula)}
    assert single <= everywhere
    assert not {shape(term.formula) for term in MADE.values()} & {shape(t.formula) for t in single}


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_a_library_term_also_has_the_name_of_its_product(term):
    names = [alias for alias in term.aliases if re.fullmatch(r"(b_)?(y|e|one)_.*", alias)]
    if shape(term.formula) is None or "decay" in term.name:
        assert not names
        return
    (name,) = names
    synapses = random_synapses(term.matrix, episodes=1)
    update = full_update(term, synapses)[0]
    # The published signs are negative.
    assert_close(update, torch.from_numpy(-plain(name, synapses)), 1e-12)
    assert get_term(name) is term


def test_only_a_decay_with_a_squared_norm_keeps_its_sign():
    kept = {name for name, term in MADE.items() if term.nonnegative}
    sides = ["post_y", "post_e", "pre_y", "pre_e", "pre_wty", "pre_wte"]
    assert kept == {f"decay_by_{side}_{side.split('_')[1]}" for side in sides}


# --- choosing ---


def test_generated_terms_are_chosen_by_name():
    choice = choose_terms("e_wty,F0")
    assert [term.name for term in choice.terms] == ["e_wty", "error_hebbian"]
    assert choose_terms("E_WTY").terms == (get_term("e_wty"),)
    assert not {"e_wty", "one_one"} & set(all_terms())
    assert "did you mean 'e_wty'" in refusal(choose_terms, "e_wtyy")
    assert "one_wty" not in refusal(get_term, "qqqqqq")


@pytest.mark.parametrize("name", SIZES)
def test_the_local_filter_keeps_the_local_terms(name):
    choice = choose_terms(name).limited("local")
    assert choice.terms == tuple(term for term in terms_of(name) if term.is_local) != ()
    assert choose_terms(name).limited("any").terms == terms_of(name)
    assert choose_terms(name).limited("local").choose_feedback(None) in ("fixed", "plastic")


def test_named_terms_are_not_filtered():
    assert choose_terms("F0,F2").limited("local").terms == named("error_hebbian", "error_error")
    told = refusal(choose_terms("bio").limited, "local")
    assert told.startswith("--only local selects from a pool, but --terms bio names oja")


def test_a_pool_offers_what_a_system_can_serve():
    group = Group("W", W, 0, frozenset({post.activity, pre.activity}))
    served = choose_terms("products").usable(group.serves)
    assert {term.name for term in served.terms} == {
        "y_y", "y_one", "y_wty", "one_y", "one_one", "one_wty", "decay",
    }  # fmt: skip
    assert choose_terms("F0").usable(group.serves).terms == named("error_hebbian")


def test_a_configuration_keeps_the_filter():
    config = DiscoveryConfig(terms="products", only="local")
    assert len(config.choice.terms) == 10
    assert DiscoveryConfig.from_json(config.to_json()) == config
    assert "--only must be any or local" in refusal(DiscoveryConfig, only="global")


def test_a_configuration_without_a_filter_is_that_of_version_1():
    config = DiscoveryConfig(terms="products")
    data = config.to_json()
    assert "only" not in data
    assert DiscoveryConfig.from_json(data) == config
    assert config_digest(config) != config_digest(DiscoveryConfig(terms="products", only="local"))


# --- engines ---


def outcomes(name, engines, **options):
    terms = terms_of(name)
    feedback = "plastic" if name.endswith("backward") else "fixed"
    problem = random_problem(terms, feedback=feedback, steps=5, **options)
    return [get_engine(engine).run(problem) for engine in engines]


def assert_same(actual, expected):
    assert_close(actual.loss, expected.loss)
    assert_close(actual.theta_gradient, expected.theta_gradient)


@pytest.mark.slow
@pytest.mark.parametrize("per_layer", [False, True], ids=["shared", "per-layer"])
@pytest.mark.parametrize("name", ["products", "products+backward"])
def test_engines_agree_on_all_products(name, per_layer):
    engines = ("reference", "batched", "fused")
    reference, *others = outcomes(name, engines, size=0.01, per_layer=per_layer)
    assert reference.theta_gradient.abs().min() > 0
    for other in others:
        assert_same(other, reference)


def test_engines_agree_on_hundreds_of_terms():
    batched, fused = outcomes("products*gates", ("batched", "fused"), size=5e-4)
    assert batched.theta_gradient.abs().min() > 0
    assert_same(fused, batched)


# --- rules ---


def test_a_rule_of_generated_terms_is_saved_and_read(tmp_path):
    rule = Rule((get_term("e_wty"), get_term("b_y_bte")), ((0.25, -0.5),), "plastic")
    rule.save(tmp_path / "rule.json")
    assert Rule.load(tmp_path / "rule.json") == rule


def printed(names, theta, **options):
    return Rule(tuple(map(get_term, names)), (tuple(theta),), "plastic", **options).equation()


OJA = Rule(named("oja"), ((0.02,),), "fixed").equation()


def test_products_that_make_oja_are_printed_as_oja():
    assert printed(["y_y", "y_wty"], [0.02, -0.02]) == OJA
    assert printed(["y_wty", "y_y"], [-0.02 * (1 + 1e-7), 0.02]) == OJA
    mixed = printed(["e_y", "y_wty", "decay", "y_y"], [0.1, 0.02, 0.3, -0.02])
    assert mixed == printed(["error_hebbian", "oja", "decay"], [0.1, -0.02, 0.3])


def test_backward_and_error_products_are_printed_alike():
    backward = Rule(named("backward_oja"), ((0.5,),), "plastic").equation()
    assert printed(["b_y_bty", "b_y_y"], [-0.5, 0.5]) == backward
    # −e⊗e stands for e⊗e.
    assert printed(["error_error", "e_wte"], [-0.5, -0.5]) == "ΔWₗ = 0.5 (eₗ eₗ₋₁ᵀ − eₗ eₗᵀ Wₗ)"


@pytest.mark.parametrize("theta", [[0.02, -0.03], [0.02, 0.02], [0.0, 0.0], [0.02, -0.02002]])
def test_other_coefficients_are_printed_as_they_are(theta):
    assert "(" not in printed(["y_y", "y_wty"], theta)


def test_products_that_differ_are_printed_apart():
    assert "(" not in printed(["y_y", "e_wty"], [0.02, -0.02])
    assert "(" not in printed(["y_e", "y_wty"], [0.02, 0.02])
    assert "(" not in printed(["y_y", "y_wty"], [0.02, -0.02], per_layer=True)
    gate = dot(post.activity, post.activity)
    gated = Term("mine", gate * outer(post.activity, pre.activity), "made up")
    assert ") + " not in Rule((gated, get_term("y_wty")), ((0.1, -0.1),), "fixed").equation()


def test_the_rule_itself_keeps_its_products():
    rule = Rule((get_term("y_y"), get_term("y_wty")), ((0.02, -0.02),), "fixed")
    assert list(rule.to_json()["theta"]) == ["y_y", "y_wty"]


@pytest.mark.parametrize(
    ("given", "words"),
    [((), "got none"), (["F0"], "got 'F0'"), (3, "failed .TypeError"), (None, "failed .TypeError")],
)
def test_a_pool_without_terms_is_refused(given, words, monkeypatch):
    class Strange(Pool):
        name = "strange"
        summary = "returns anything"

        def terms(self):
            return given

    monkeypatch.setattr(library, "pools", lambda: {"strange": Strange()})
    for ask in (choose_terms, get_term):
        assert re.search(f"the pool 'strange' must return .*{words}", refusal(ask, "strange"))


def test_gated_and_faded_terms_wait_until_no_other_helps():
    plain = {term.name for term in terms_of("products")}
    assert choose_terms("products").waiting == frozenset()
    choice = choose_terms("products*gates")
    assert choice.waiting == {term.name for term in choice.terms} - plain
    faded = choose_terms("products*fading:250")
    assert faded.waiting == {f"{term.name}_fading_250" for term in choose_terms("products").terms}
    both = choose_terms("products*gates*fading:250")
    assert choice.waiting < both.waiting == {term.name for term in both.terms} - plain
    growth = DiscoveryConfig(terms="products*gates").growth
    assert growth.waiting == choice.waiting


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["error_hebbian", "nothing"], "terms of its own that wait, got 'nothing'"),
        (3, "failed .TypeError"),
    ],
)
def test_a_pool_may_only_name_its_own_terms_to_wait(given, words, monkeypatch):
    class Strange(Pool):
        name = "strange"
        summary = "names anything"

        def terms(self):
            return named("error_hebbian")

        def waiting(self):
            return given

    monkeypatch.setattr(library, "pools", lambda: {"strange": Strange()})
    assert re.search(f"the pool 'strange' must name .*{words}", refusal(choose_terms, "strange"))
