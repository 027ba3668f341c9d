"""Formulas mean what they say: synapse by synapse, in plain Python, against every evaluation."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    BACKWARD,
    FORWARD,
    SCALARS,
    TERMS,
    assert_close,
    assert_is_one_sentence,
    random_problem,
    random_synapses,
)

from metaplast.base.errors import UserError
from metaplast.engines import get_engine
from metaplast.terms.algebra import (
    B,
    Formula,
    FormulaError,
    Mapped,
    Projection,
    Scalar,
    W,
    dot,
    magnitude,
    outer,
    post,
    pre,
    rectified,
    scalar,
    sign,
    total,
)
from metaplast.terms.compiled import change, compile_terms
from metaplast.terms.notation import ASCII, LATEX, TEXT, equation
from metaplast.terms.term import DenseFormula, Term, full_update

by_name = pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
# A dense term has no declared formula to compare it with.
DECLARED = [term for term in TERMS if isinstance(term.formula, Formula)]
PLAIN = {
    "same": lambda x: x,
    "square": lambda x: x * x,
    "cube": lambda x: x * x * x,
    "sign": lambda x: (x > 0) - (x < 0),
    "rectified": lambda x: max(x, 0),
    "magnitude": abs,
}


def plain_vector(vector, ends, episode, k):
    """Return a signal or projection at occurrence k as a list of numbers."""
    if isinstance(vector, Mapped):
        factors = [
            [PLAIN[name](x) for x in plain_vector(signal, ends, episode, k)]
            for signal, name in vector.factors
        ]
        return [math.prod(numbers) for numbers in zip(*factors, strict=True)]
    if isinstance(vector, Projection):
        matrix = ends.operator.tensor[episode].tolist()
        rows = plain_vector(vector.signal, ends, episode, k)
        return [
            sum(matrix[i][j] * rows[i] for i in range(len(rows))) for j in range(len(matrix[0]))
        ]
    activity, error = {
        "post": (ends.post_activity, ends.post_error),
        "pre": (ends.pre_activity, ends.pre_error),
    }[vector.population]
    values = {"activity": activity, "error": error, "one": torch.ones_like(activity)}
    return values[vector.kind][episode, k].tolist()


def plain_synapse(monomial, ends, episode, k, i, j):
    """Return what one monomial adds to the synapse (i, j) at occurrence k."""
    value = monomial.coefficient
    for gate in monomial.gates:
        if isinstance(gate, Scalar):
            value *= ends.scalars[gate.name][episode, k].item()
            continue
        left = plain_vector(gate.left, ends, episode, k)
        right = plain_vector(gate.right, ends, episode, k)
        value *= sum(a * b for a, b in zip(left, right, strict=True))
    if monomial.row is None:
        return value * ends.operator.tensor[episode, i, j].item()
    row = plain_vector(monomial.row, ends, episode, k)
    value *= ends.operator.tensor[episode, i, j].item() ** monomial.power
    return value * row[i] * plain_vector(monomial.column, ends, episode, k)[j]


def plain_update(formula, ends):
    """Return ΔM of a formula, one synapse at a time: a weighted sum over occurrences.

    A multiple of the matrix without gates acts once per example, for any number of occurrences.
    """
    update = torch.zeros_like(ends.operator.tensor)
    occurrences = range(ends.post_activity.shape[1])
    for episode, i, j in torch.cartesian_prod(*map(torch.arange, update.shape)).tolist():
        for m in formula.monomials:
            if m.row is None and not m.gates:
                update[episode, i, j] += plain_synapse(m, ends, episode, 0, i, j)
                continue
            update[episode, i, j] += ends.weight * sum(
                plain_synapse(m, ends, episode, k, i, j) for k in occurrences
            )
    return update


def compiled_update(terms, theta, ends):
    """Return ΔM as the fast engines compute it, θ [term] the same for all episodes."""
    matrix = ends.operator.tensor
    rows = theta.expand(len(matrix), -1)
    return change(compile_terms(terms, terms[0].matrix), rows, ends).apply(matrix) - matrix


@pytest.mark.parametrize("term", DECLARED, ids=lambda term: term.name)
@pytest.mark.parametrize(
    ("seed", "occurrences", "weight"), [(0, 1, 1.0), (10, 3, 1.0), (5, 2, 0.3)]
)
def test_a_term_is_its_formula_synapse_by_synapse(term, seed, occurrences, weight):
    ends = random_synapses(term.matrix, seed=seed, occurrences=occurrences, weight=weight)
    expected = plain_update(term.formula, ends)
    assert_close(full_update(term, ends), expected)
    assert_close(compiled_update([term], torch.ones(1).double(), ends), expected)


@pytest.mark.parametrize("terms", [FORWARD, BACKWARD], ids=["forward", "backward"])
def test_a_rule_is_the_weighted_sum_of_its_terms(terms):
    ends = random_synapses(terms[0].matrix, seed=3)
    theta = torch.linspace(-1, 1, len(terms)).double()
    expected = sum(t * full_update(term, ends) for t, term in zip(theta, terms, strict=True))
    assert_close(compiled_update(terms, theta, ends), expected)


def test_each_episode_is_changed_by_its_own_coefficients():
    ends = random_synapses(W)
    theta = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).double()
    updates = [full_update(term, ends) for term in FORWARD[:2]]
    applied = change(compile_terms(FORWARD[:2], W), theta, ends).apply(ends.operator.tensor)
    moved = applied - ends.operator.tensor
    assert_close(moved[0], updates[0][0])
    assert_close(moved[1], 2 * updates[1][1])


# --- random formulas ---

COEFFICIENTS = st.sampled_from([-2.0, -1.0, -0.5, 0.5, 1.0, 3.0])
SIDES = {"post": post, "pre": pre}


def signals(population):
    side = SIDES[population]
    return st.sampled_from([side.activity, side.error, side.one])


def columns(matrix):
    """Vectors on the column side of a matrix, projections included."""
    return signals(matrix.columns) | signals(matrix.rows).map(lambda s: matrix.T @ s)


def gates(matrix, scalars):
    dots = st.builds(dot, columns(matrix), columns(matrix)) | st.builds(
        dot, signals(matrix.rows), signals(matrix.rows)
    )
    return dots | st.sampled_from(scalars).map(scalar) if scalars else dots


@st.composite
def monomials(draw, matrix, scalars):
    body = draw(st.just(1.0 * matrix) | st.builds(outer, signals(matrix.rows), columns(matrix)))
    for gate in draw(st.lists(gates(matrix, scalars), max_size=3)):
        body = gate * body
    return draw(COEFFICIENTS) * body


@st.composite
def formulas(draw, matrix, scalars):
    parts = draw(st.lists(monomials(matrix, scalars), min_size=1, max_size=3))
    return sum(parts[1:], start=parts[0])


@st.composite
def term_lists(draw, matrix, most=3, scalars=()):
    drawn = draw(st.lists(formulas(matrix, scalars), min_size=1, max_size=most))
    return [Term(f"term{k}", formula, "made up") for k, formula in enumerate(drawn)]


@pytest.mark.slow
@pytest.mark.parametrize("matrix", [W, B], ids=["W", "B"])
@given(data=st.data(), occurrences=st.sampled_from([1, 3]))
@settings(max_examples=60, deadline=None)
def test_any_formula_of_the_algebra_is_evaluated_as_declared(matrix, data, occurrences):
    terms = data.draw(term_lists(matrix, scalars=SCALARS))
    ends = random_synapses(matrix, seed=5, occurrences=occurrences, weight=1 / occurrences)
    expected = [plain_update(term.formula, ends) for term in terms]
    for term, update in zip(terms, expected, strict=True):
        assert_close(full_update(term, ends), update)
    theta = torch.linspace(0.5, 1.5, len(terms)).double()
    total_update = sum(t * u for t, u in zip(theta, expected, strict=True))
    assert_close(compiled_update(terms, theta, ends), total_update)


@pytest.mark.slow
@given(forward=term_lists(W, most=2), backward=term_lists(B, most=2), per_layer=st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_formula_has_the_gradient_that_autograd_gives(forward, backward, per_layer):
    renamed = [Term(f"back{k}", t.formula, "made up") for k, t in enumerate(backward)]
    problem = random_problem(
        [*forward, *renamed], feedback="plastic", per_layer=per_layer, steps=3, size=1e-3,
        activation="tanh",
    )  # fmt: skip
    expected = get_engine("reference").run(problem)
    actual = get_engine("batched").run(problem)
    assert_close(actual.loss, expected.loss)
    assert_close(actual.theta_gradient, expected.theta_gradient)


# --- locality ---


def others_matter(term):
    """Whether any synapse's change depends on a neuron or a weight that is not its own."""
    before = random_synapses(term.matrix, episodes=1)
    reference = full_update(term, before)[0]
    places = {
        "post_activity": "post", "post_error": "post",
        "pre_activity": "pre", "pre_error": "pre",
    }  # fmt: skip
    for name, population in places.items():
        for neuron in range(getattr(before, name).shape[-1]):
            after = random_synapses(term.matrix, episodes=1)
            getattr(after, name)[0, 0, neuron] += 1
            moved = full_update(term, after)[0] != reference
            axis = 0 if term.matrix.rows == population else 1
            moved.select(axis, neuron).zero_()
            if moved.any():
                return True
    for i, j in torch.cartesian_prod(*map(torch.arange, reference.shape)).tolist():
        after = random_synapses(term.matrix, episodes=1)
        after.operator.tensor[0, i, j] += 1
        moved = full_update(term, after)[0] != reference
        moved[i, j] = False
        if moved.any():
            return True
    return False


@by_name
def test_the_locality_label_is_what_perturbing_other_neurons_shows(term):
    assert term.is_local == (not others_matter(term))
    assert term.locality == ("local" if term.is_local else "non-local")


def one_dense(*, local):
    formula = DenseFormula(
        W, lambda s: s.scalars["reward"][:, None, None] * s.operator.tensor,
        frozenset(), local, "reward Wₗ", "f", {"reward"},
    )  # fmt: skip
    return formula


BROADCAST = {
    "an outer product": scalar("reward") * outer(post.activity, pre.activity),
    "a decay": scalar("reward") * (scalar("surprise") * -W),
    "a torch function": one_dense(local=True),
}
NON_LOCAL = {
    "a gate too": scalar("reward") * (total(post.error) * outer(post.activity, pre.activity)),
    "another monomial": scalar("reward") * -W + outer(post.error, W.T @ post.error),
    "a torch function": one_dense(local=False),
}


@pytest.mark.parametrize("formula", BROADCAST.values(), ids=BROADCAST)
def test_a_scalar_is_neither_local_nor_non_local(formula):
    term = Term("three_factor", formula, "made up")
    assert not others_matter(term)
    assert term.locality == "local + broadcast scalar"
    assert not term.is_local


@pytest.mark.parametrize("formula", NON_LOCAL.values(), ids=NON_LOCAL)
def test_a_scalar_does_not_hide_that_a_term_is_non_local(formula):
    term = Term("three_factor", formula, "made up")
    assert term.locality == "non-local"
    assert not term.is_local


# --- what is refused ---

REFUSED = {
    "outer within one population": lambda: outer(post.error, post.activity),
    "outer from a projection": lambda: outer(W.T @ post.error, post.activity),
    "outer with its own projection": lambda: outer(pre.error, W.T @ post.error),
    "dot of two populations": lambda: dot(post.error, pre.error),
    "dot of a projection and its source": lambda: dot(W.T @ post.error, post.error),
    "W.T on a pre signal": lambda: W.T @ pre.error,
    "B.T on a post signal": lambda: B.T @ post.error,
    "W.T on a projection": lambda: W.T @ (W.T @ post.error),
    "W and B added": lambda: outer(post.error, pre.activity) + outer(pre.error, post.activity),
    "W and B subtracted": lambda: -W - B,
}


@pytest.mark.parametrize("write", REFUSED.values(), ids=REFUSED.keys())
def test_a_formula_of_another_shape_is_refused_where_it_is_written(write):
    with pytest.raises(FormulaError):
        write()


@pytest.mark.parametrize("name", ["", "Oja", "my term", "9th", "a-b"])
def test_a_term_needs_a_name_fit_for_files_and_code(name):
    with pytest.raises(UserError, match="lower-case identifier"):
        Term(name, -W, "made up")


FORMULA = outer(post.activity, pre.activity)
GATE = dot(post.error, post.error)
NOT_IN_THE_ALGEBRA = {
    "fourth power": lambda: post.activity**4,
    "root": lambda: post.activity**0.5,
    "power by a truth": lambda: post.activity**True,
    "power of a power": lambda: (post.activity**2) ** 2,
    "product beyond the third power": lambda: post.activity**2 * post.activity**2,
    "power of a projection": lambda: (W.T @ post.error) ** 2,
    "projection of a power": lambda: W.T @ post.error**2,
    "product with ones": lambda: post.one * post.error,
    "square of ones": lambda: post.one**2,
    "sign of a number": lambda: sign(2),
    "sign of a power": lambda: sign(post.error**2),
    "rectified projection": lambda: rectified(W.T @ post.error),
    "magnitude of ones": lambda: magnitude(pre.one),
    "product of three signals": lambda: post.activity * post.error * post.signal("drive"),
    "product with a projection": lambda: pre.activity * (W.T @ post.error),
    "product of signs": lambda: sign(post.error) * sign(post.error),
    "function as formula part": lambda: Term("t", post.activity**2, "here"),
    "weights times another matrix's formula": lambda: B * FORMULA,
    "fourth power of the weights": lambda: W * (W * (W * (W * FORMULA))),
    "product of signals": lambda: post.activity * pre.activity,
    "sum of signals": lambda: post.activity + pre.activity,
    "difference of signals": lambda: post.activity - pre.activity,
    "negative signal": lambda: -post.activity,
    "number times signal": lambda: 2 * post.activity,
    "signal over a number": lambda: post.activity / 2,
    "element": lambda: post.activity[0],
    "comparison": lambda: post.activity > 0,
    "truth": lambda: bool(post.activity),
    "torch's function": lambda: torch.tanh(post.activity),
    "numpy's function": lambda: np.tanh(post.activity),
    "number plus formula": lambda: 1 + FORMULA,
    "formula minus number": lambda: FORMULA - 1,
    "square of a formula": lambda: FORMULA**2,
    "product of formulas": lambda: FORMULA * FORMULA,
    "formula over formula": lambda: FORMULA / FORMULA,
    "formula over nothing": lambda: FORMULA / 0,
    "number over formula": lambda: 1 / FORMULA,
    "formula times truth": lambda: True * FORMULA,
    "formula times NaN": lambda: float("nan") * FORMULA,
    "formula times a huge number": lambda: 1e200 * (1e200 * FORMULA),
    "formula times text": lambda: "2" * FORMULA,
    "formula times tensor": lambda: torch.tensor(2.0) * FORMULA,
    "formula times array": lambda: np.ones(3) * FORMULA,
    "product of gates": lambda: GATE * GATE,
    "number times gate": lambda: 2 * GATE,
    "product of scalars": lambda: scalar("reward") * scalar("reward"),
    "scalar times gate": lambda: scalar("reward") * GATE,
    "scalar times signal": lambda: scalar("reward") * post.activity,
    "signal times scalar": lambda: post.activity * scalar("reward"),
    "scalar alone": lambda: Term("t", scalar("reward"), "here"),
    "scalar of a number": lambda: scalar(1),
    "scalar of no identifier": lambda: scalar("my reward"),
    "scalar in capitals": lambda: scalar("Reward"),
    "dense that reads no scalar": lambda: DenseFormula(
        W, abs, frozenset(), True, "f", "f", {"my reward"}
    ),
    "dense with text as scalars": lambda: DenseFormula(
        W, abs, frozenset(), True, "f", "f", "reward"
    ),
    "matrix times signal": lambda: W @ pre.activity,
    "square of the weights": lambda: W**2,
    "product of two matrices": lambda: W * B,
    "transposed as formula": lambda: W.T * 2,
    "transposed on a number": lambda: W.T @ 2,
    "outer of populations": lambda: outer(post, pre),
    "outer of a number": lambda: outer(post.activity, 2),
    "dot of numbers": lambda: dot(1, 2),
    "total of a number": lambda: total(3),
    "a gate carried through another matrix": lambda: dot(W.T @ post.error, pre.error) * B,
    "function as formula": lambda: Term("t", lambda s: s, "here"),
    "signal as formula": lambda: Term("t", post.activity, "here"),
    "no formula": lambda: Term("t", None, "here"),
    "dense without function": lambda: DenseFormula(W, None, frozenset(), True, "f", "f"),
    "dense of no matrix": lambda: DenseFormula("W", abs, frozenset(), True, "f", "f"),
    "dense that reads numbers": lambda: DenseFormula(W, abs, {1}, True, "f", "f"),
    "dense without text": lambda: DenseFormula(W, abs, frozenset(), True, "", "f"),
}


@pytest.mark.parametrize("write", NOT_IN_THE_ALGEBRA.values(), ids=NOT_IN_THE_ALGEBRA.keys())
def test_what_the_algebra_does_not_have_is_refused_with_what_works(write):
    with pytest.raises(FormulaError) as caught:
        write()
    assert_is_one_sentence(caught.value)


def test_a_signal_that_no_population_has_is_told():
    with pytest.raises(AttributeError, match="activity, error and one"):
        post.voltage  # noqa: B018


MEANT = {
    "number behind": (lambda: FORMULA * 2, lambda: 2 * FORMULA),
    "numpy's number": (lambda: np.float64(2) * FORMULA, lambda: 2 * FORMULA),
    "numpy's integer": (lambda: FORMULA * np.int64(2), lambda: 2 * FORMULA),
    "over a number": (lambda: FORMULA / 2, lambda: 0.5 * FORMULA),
    "gate behind": (lambda: FORMULA * GATE, lambda: GATE * FORMULA),
    "scalar behind": (lambda: W * scalar("reward"), lambda: scalar("reward") * W),
    "matrix first": (lambda: W + FORMULA, lambda: 1 * W + FORMULA),
    "matrix times gate": (lambda: W * GATE, lambda: GATE * W),
    "plus sign": (lambda: +FORMULA, lambda: FORMULA),
    "sum": (lambda: sum([FORMULA, W]), lambda: FORMULA + W),
    "a matrix as formula": (lambda: Term("t", W, "here").formula, lambda: 1 * W),
}


@pytest.mark.parametrize(("written", "meant"), MEANT.values(), ids=MEANT.keys())
def test_what_has_a_clear_meaning_is_a_formula(written, meant):
    assert written() == meant()


BAD_FIELDS = {
    "no name": {"name": None},
    "a keyword as name": {"name": "lambda"},
    "no citation": {"citation": None},
    "a number as citation": {"citation": 2016},
    "a number as summary": {"summary": 1},
    "one name as aliases": {"aliases": "F0"},
    "an empty alias": {"aliases": ("",)},
    "text to start at": {"initial": "0.1"},
    "a truth to start at": {"initial": True},
    "NaN to start at": {"initial": float("nan")},
    "a decay that starts as growth": {"initial": -1.0, "nonnegative": True},
    "a number as truth": {"nonnegative": 1},
    "text as truth": {"in_pool": "no"},
}


@pytest.mark.parametrize("fields", BAD_FIELDS.values(), ids=BAD_FIELDS.keys())
def test_a_term_of_wrong_fields_is_refused(fields):
    with pytest.raises(UserError) as caught:
        Term(**{"name": "t", "formula": -W, "citation": "here", **fields})
    assert_is_one_sentence(caught.value)


def test_lists_and_numpy_numbers_make_equal_terms():
    term = Term("t", -W, "here", aliases=["a"], initial=np.float32(0.5), nonnegative=np.bool_(1))
    assert term == Term("t", -W, "here", aliases=("a",), initial=0.5, nonnegative=True)


RETURNED = {
    "nothing": lambda s: None,
    "a number": lambda s: 1.0,
    "another shape": lambda s: s.operator.tensor.mT,
    "no episodes": lambda s: s.operator.tensor[0],
    "another dtype": lambda s: s.operator.tensor.half(),
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["reference", "batched"])
@pytest.mark.parametrize("update", RETURNED.values(), ids=RETURNED.keys())
def test_a_dense_term_that_returns_no_update_is_named(update, engine):
    term = Term("mine", DenseFormula(W, update, frozenset(), True, "f", "f"), "here")
    problem = random_problem((term,), widths=(4, 3), steps=2)
    with pytest.raises(UserError, match="mine") as caught:
        get_engine(engine).run(problem)
    assert_is_one_sentence(caught.value)


def test_a_dense_term_reads_the_signals_that_its_projections_carry():
    vectors = {W.T @ post.error, pre.activity}
    term = Term("mine", DenseFormula(W, lambda s: None, vectors, False, "f", "f"), "here")
    assert term.signals == {post.error, pre.activity}
    assert term.reads(post.error)


# --- notation ---

WRITTEN = {
    "error_hebbian": ("−eₗ yₗ₋₁ᵀ", r"-e_{\ell}\, y_{\ell-1}^{\top}"),
    "activity_error": ("−yₗ eₗ₋₁ᵀ", r"-y_{\ell}\, e_{\ell-1}^{\top}"),
    "error_error": ("−eₗ eₗ₋₁ᵀ", r"-e_{\ell}\, e_{\ell-1}^{\top}"),
    "decay": ("−Wₗ", r"-W_{\ell}"),
    "presynaptic_error": ("−1 eₗ₋₁ᵀ", r"-\mathbf{1}\, e_{\ell-1}^{\top}"),
    "summed_error_hebbian": (
        "−(1ᵀ yₗ) eₗ yₗ₋₁ᵀ",
        r"-(\mathbf{1}^{\top}\, y_{\ell})\, e_{\ell}\, y_{\ell-1}^{\top}",
    ),
    "gated_activity_error": (
        "−(yₗᵀ Wₗ eₗ₋₁) yₗ eₗ₋₁ᵀ",
        r"-(y_{\ell}^{\top}\, W_{\ell}\, e_{\ell-1})\, y_{\ell}\, e_{\ell-1}^{\top}",
    ),
    "gated_error_hebbian": (
        "−(yₗᵀ Wₗ eₗ₋₁) eₗ yₗ₋₁ᵀ",
        r"-(y_{\ell}^{\top}\, W_{\ell}\, e_{\ell-1})\, e_{\ell}\, y_{\ell-1}^{\top}",
    ),
    "cross_gated_activity_error": (
        "−(eₗᵀ Wₗ yₗ₋₁) yₗ eₗ₋₁ᵀ",
        r"-(e_{\ell}^{\top}\, W_{\ell}\, y_{\ell-1})\, y_{\ell}\, e_{\ell-1}^{\top}",
    ),
    "oja": (
        "yₗ yₗ₋₁ᵀ − yₗ yₗᵀ Wₗ",
        r"y_{\ell}\, y_{\ell-1}^{\top} - y_{\ell}\, y_{\ell}^{\top}\, W_{\ell}",
    ),
    "backward_hebbian": ("−yₗ₋₁ eₗᵀ", r"-y_{\ell-1}\, e_{\ell}^{\top}"),
    "backward_decay": ("−Bₗ", r"-B_{\ell}"),
    "backward_oja": (
        "yₗ₋₁ yₗᵀ − yₗ₋₁ yₗ₋₁ᵀ Bₗ",
        r"y_{\ell-1}\, y_{\ell}^{\top} - y_{\ell-1}\, y_{\ell-1}^{\top}\, B_{\ell}",
    ),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_terms_are_written_as_in_print(name):
    term = next(term for term in TERMS if term.name == name)
    assert (term.spell(TEXT), term.spell(LATEX)) == WRITTEN[name]


@pytest.mark.parametrize("notation", [TEXT, LATEX], ids=["text", "latex"])
def test_no_two_terms_are_written_alike(notation):
    written = [term.spell(notation) for term in TERMS]
    assert len(set(written)) == len(TERMS)


def test_coefficients_and_gates_are_written():
    formula = 0.5 * (total(post.error) * (dot(pre.error, pre.activity) * -W)) + 2 * outer(
        post.one, W.T @ post.error
    )
    assert equation(formula) == "ΔWₗ = −0.5 (1ᵀ eₗ) (eₗ₋₁ᵀ yₗ₋₁) Wₗ + 2 1 eₗᵀ Wₗ"


def test_scalars_are_written_without_a_layer():
    formula = -2 * (scalar("mean_reward") * outer(post.signal("deviation"), pre.activity))
    assert [equation(formula, notation) for notation in (TEXT, ASCII, LATEX)] == [
        "ΔWₗ = −2 mean_reward deviationₗ yₗ₋₁ᵀ",
        "Delta W_l = -2 mean_reward deviation_l y_{l-1}^T",
        r"\Delta W_{\ell} = -2 \mathrm{mean\_reward}\, \mathrm{deviation}_{\ell}\, "
        r"y_{\ell-1}^{\top}",
    ]


def test_a_term_reads_its_signals_and_scalars():
    term = Term("t", scalar("reward") * (GATE * W) + scalar("surprise") * W, "made up")
    assert term.signals == {post.error}
    assert term.scalars == {"reward", "surprise"}


def test_algebra_of_signs():
    one, two = outer(post.error, pre.activity), outer(post.activity, pre.error)
    coefficients = [m.coefficient for m in (2 * (one - two) - one + -W).monomials]
    assert coefficients == [2, -2, -1, -1]
    negative = -one
    assert (-negative).monomials == one.monomials
