"""Functions of signals and powers of the weights: formulas, printing, files and every engine."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import (
    BACKWARD,
    assert_close,
    assert_is_one_sentence,
    named,
    random_problem,
    random_synapses,
    refusal,
)
from test_algebra import plain_update

from metaplast.base.errors import UserError
from metaplast.base.plain_data import DataError
from metaplast.engines import get_engine
from metaplast.engines.fused import functions, program
from metaplast.engines.fused.engine import FusedEngine, Settings
from metaplast.rules.rule import Rule
from metaplast.terms.algebra import (
    B,
    W,
    dot,
    magnitude,
    outer,
    post,
    pre,
    rectified,
    sign,
    total,
)
from metaplast.terms.compiled import change, compile_terms
from metaplast.terms.formula_data import formula_data, read_formula
from metaplast.terms.functions import FUNCTIONS
from metaplast.terms.library import choose_terms
from metaplast.terms.notation import ASCII, LATEX, TEXT, equation
from metaplast.terms.term import Term, full_update

# Together six different rows, so that the fused engine takes each matrix twice.
FUNCTIONS_OF_SIGNALS = {
    "fixed_threshold": outer(post.activity**2, pre.activity)
    - 0.1 * outer(post.activity, pre.activity),
    "product": outer(post.activity * post.error, pre.activity**3),
    "signs": -outer(sign(post.error), rectified(pre.error)),
    "sizes": outer(magnitude(post.error), pre.one) + outer(post.one, pre.activity * pre.error),
    "carried": outer(post.error**2 * post.activity, W.T @ post.error),
    "gate": dot(post.activity**2, post.one) * outer(post.error, pre.activity),
    "sum": -(total(pre.activity * pre.error) * W),
}
BACKWARD_FUNCTIONS = {
    "b_product": outer(pre.activity * pre.error, post.error**2),
    "b_signs": outer(sign(pre.activity), B.T @ pre.error),
}
POWERS = {
    "soft": -(W * outer(post.activity, pre.activity)),
    "squared": W * W,
    "cubed": W * (W * (W * outer(post.error, pre.activity**2))),
    "mixed": outer(post.error, pre.activity) - W * (dot(post.error, post.error) * W),
}
ALL = {**FUNCTIONS_OF_SIGNALS, **BACKWARD_FUNCTIONS, **POWERS}


def terms_of(formulas):
    return tuple(Term(name, formula, "made up") for name, formula in formulas.items())


FORWARD_TERMS = terms_of(FUNCTIONS_OF_SIGNALS)
BOTH = (*FORWARD_TERMS, *terms_of(BACKWARD_FUNCTIONS), *BACKWARD[:1])
EVERYTHING = (*FORWARD_TERMS, *terms_of(POWERS))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(("occurrences", "weight"), [(1, 1.0), (3, 0.3)])
def test_a_formula_is_what_it_says_synapse_by_synapse(name, occurrences, weight):
    formula = ALL[name]
    ends = random_synapses(formula.matrix, seed=4, occurrences=occurrences, weight=weight)
    expected, term = plain_update(formula, ends), Term(name, formula, "made up")
    assert_close(full_update(term, ends), expected)
    theta = ends.operator.tensor.new_ones(len(expected), 1)
    applied = change(compile_terms([term], formula.matrix), theta, ends)
    assert_close(applied.apply(ends.operator.tensor) - ends.operator.tensor, expected)


def test_every_function_is_silent_where_its_signal_is():
    zeros = torch.zeros(3, dtype=torch.float64)
    for function in FUNCTIONS.values():
        assert torch.equal(function.apply(zeros).abs(), zeros)


ENGINES = [
    ("fixed", FORWARD_TERMS), ("symmetric", FORWARD_TERMS), ("direct", FORWARD_TERMS),
    ("plastic", BOTH), ("fixed", named("error_hebbian") + FORWARD_TERMS[:1]),
]  # fmt: skip


@pytest.mark.parametrize(("feedback", "terms"), ENGINES)
@pytest.mark.parametrize(("activation", "per_layer"), [("softplus:10", True), ("tanh", False)])
def test_engines_agree(feedback, terms, activation, per_layer):
    problem = random_problem(
        terms, feedback=feedback, activation=activation, per_layer=per_layer, steps=4, size=0.02
    )
    wanted = get_engine("reference").run(problem)
    for name in ("batched", "fused"):
        found = get_engine(name).run(problem)
        assert_close(found.loss, wanted.loss, 1e-10)
        assert_close(found.theta_gradient, wanted.theta_gradient, 1e-9)
        for key, matrix in wanted.final.matrices.items():
            assert_close(found.final.matrices[key], matrix, 1e-10)


@pytest.mark.parametrize("engine", ["batched", "fused"])
def test_a_gradient_is_that_of_finite_differences(engine):
    problem = random_problem(FORWARD_TERMS, steps=5, size=0.02)
    gradient = get_engine(engine).run(problem).theta_gradient
    step = 1e-6
    for k in range(len(FORWARD_TERMS)):
        losses = []
        for shift in (step, -step):
            theta = problem.theta.clone()
            theta[k] += shift
            moved = replace(problem, theta=theta)
            losses.append(get_engine(engine).run(moved, gradient=False).loss)
        numeric = (losses[0] - losses[1]) / (2 * step)
        assert_close(gradient[:, k], numeric, 1e-6)


def test_powers_of_the_weights_agree_and_fused_names_them():
    problem = random_problem(EVERYTHING, steps=5, size=0.02)
    wanted, found = (get_engine(name).run(problem) for name in ("reference", "batched"))
    assert_close(found.loss, wanted.loss, 1e-10)
    assert_close(found.theta_gradient, wanted.theta_gradient, 1e-9)
    message = FusedEngine().refusal(problem.learner, torch.device("cpu"))
    assert "powers of the weights, used by soft, squared, cubed, mixed" in message


@pytest.mark.parametrize("formulas", [["fixed_threshold"], ["product", "signs"], ["sizes"]])
def test_dropping_pixels_changes_nothing(formulas):
    terms = named("error_hebbian") + tuple(t for t in FORWARD_TERMS if t.name in formulas)
    problem = random_problem(terms, widths=(40, 5, 4, 3), steps=6)
    images = problem.episodes.support_x, problem.episodes.query_x
    for image in images:
        image[..., 7:30] = 0
    found = [FusedEngine(Settings(drop_pixels=drop)).run(problem) for drop in (True, False)]
    assert_close(found[0].theta_gradient, found[1].theta_gradient, 1e-12)
    assert_close(found[0].final.weights[0], found[1].final.weights[0], 1e-12)


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=lambda f: f.name)
def test_the_kernel_computes_what_torch_does_even_where_numbers_are_not_finite(function):
    x = torch.tensor([-math.inf, -2.0, -0.0, 0.0, 0.5, math.inf, math.nan], dtype=torch.float64)
    x.requires_grad_()
    function.apply(x).sum().backward()
    code, one = program._FUNCTIONS[function.name], np.float64(1)
    numbers = x.detach().numpy()
    value, slope = (
        torch.tensor([each(code, number, one) for number in numbers])
        for each in (functions.value.py_func, functions.slope.py_func)
    )
    assert torch.allclose(value, function.apply(x.detach()), equal_nan=True)
    finite = x.detach().isfinite()
    assert torch.equal(slope[finite], x.grad[finite])


SPELLED = {
    "fixed_threshold": (
        "ΔWₗ = yₗ² yₗ₋₁ᵀ − 0.1 yₗ yₗ₋₁ᵀ",
        "y_l^2 y_{l-1}^T",
        r"y_{\ell}^{2}\, y_{\ell-1}^{\top}",
    ),
    "product": (
        "ΔWₗ = (yₗ ⊙ eₗ) (yₗ₋₁³)ᵀ",
        "(y_l * e_l) (y_{l-1}^3)^T",
        r"(y_{\ell} \odot e_{\ell})",
    ),
    "signs": (
        "ΔWₗ = −sign(eₗ) ([eₗ₋₁]₊)ᵀ",
        "-sign(e_l) ([e_{l-1}]_+)^T",
        r"\operatorname{sign}(e_{\ell})",
    ),
    "soft": ("ΔWₗ = −Wₗ ⊙ yₗ yₗ₋₁ᵀ", "-W_l * y_l y_{l-1}^T", r"-W_{\ell} \odot y_{\ell}"),
    "squared": ("ΔWₗ = Wₗ²", "W_l^2", r"W_{\ell}^{2}"),
}


@pytest.mark.parametrize("name", SPELLED)
def test_equations(name):
    text, plain, latex = SPELLED[name]
    assert equation(ALL[name], TEXT) == text
    assert plain in equation(ALL[name], ASCII)
    assert latex in equation(ALL[name], LATEX)


@pytest.mark.parametrize("name", ALL)
def test_files_hold_functions_and_powers(name, tmp_path):
    data = json.loads(json.dumps(formula_data(ALL[name])))
    assert read_formula(data, name) == ALL[name]
    rule = Rule.of((Term(name, ALL[name], "made up"),), torch.tensor([0.5]), "plastic", {})
    rule.save(tmp_path / "rule.json")
    assert Rule.load(tmp_path / "rule.json").terms[0].formula == ALL[name]


FAULTS = {
    "unknown function": lambda m: m["row"][0].update(function="exp"),
    "no function": lambda m: m["row"][0].pop("function"),
    "no factors": lambda m: m["row"].clear(),
    "three factors": lambda m: m["row"].append(dict(m["row"][0], kind="drive")),
    "twice the same": lambda m: m["row"][1].update(m["row"][0]),
    "two populations": lambda m: m["row"][1].update(population="pre"),
    "of ones": lambda m: m["row"][0].update(kind="one"),
    "negative power": lambda m: m.update(power=-1),
    "high power": lambda m: m.update(power=4),
    "power of a wrong type": lambda m: m.update(power="2"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_file_is_refused(fault):
    data = json.loads(json.dumps(formula_data(ALL["product"])))
    FAULTS[fault](data["monomials"][0])
    with pytest.raises(DataError):
        read_formula(data, "product")


def test_products_merge_into_powers_in_one_order():
    y, e = post.activity, post.error
    assert y * y == y**2
    assert y * y**2 == y**3
    assert e * y == y * e
    assert (y * e) * y == y**2 * e


@pytest.mark.parametrize("degree", [2, 3])
def test_monomials_are_local_and_no_two_are_alike(degree):
    terms = choose_terms(f"monomials:{degree}").terms
    ends = random_synapses(W, episodes=60, seed=1)
    updates = torch.stack([full_update(term, ends).flatten() for term in terms])
    updates /= updates.norm(dim=1, keepdim=True)
    alike = (updates @ updates.T).abs() - torch.eye(len(terms), dtype=updates.dtype)
    assert alike.max() < 1 - 1e-3
    assert all(term.is_local for term in terms)
    # Five variables: (degree + 5 choose 5) monomials.
    assert len(terms) == {2: 21, 3: 56}[degree]
    assert {"decay", "error_hebbian", "error_error"} < {term.name for term in terms}


def test_an_unknown_degree_is_refused():
    with pytest.raises(UserError, match="monomials:3") as caught:
        choose_terms("monomials:4")
    assert_is_one_sentence(caught.value)


def test_a_function_of_what_a_system_lacks_is_refused():
    term = Term("odd", outer(post.signal("drive") ** 2, pre.activity), "made up")
    assert "post.drive" in refusal(random_problem, (term,))
