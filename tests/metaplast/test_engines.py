"""All engines give one answer, and it is the true one."""

import pickle
import shutil
import warnings
from dataclasses import replace

import pytest
import torch
from finite_differences import finite_differences
from hypothesis import given, settings
from hypothesis import strategies as st
from live_memory import LiveMatrices
from support import (
    FEEDBACKS,
    FORWARD,
    TERMS,
    assert_close,
    assert_is_one_sentence,
    matrices_of,
    named,
    random_problem,
)

from metaplast.base.errors import UserError
from metaplast.engines import ENGINES, get_engine, unroll
from metaplast.engines.batched import CompiledEngine
from metaplast.engines.way_back import WayBack
from metaplast.systems.state import State
from metaplast.terms.algebra import B, W, post, pre
from metaplast.terms.compiled import LowRankUpdate
from metaplast.terms.library import get_term
from metaplast.terms.term import DenseFormula, Term

ACTIVATIONS = ["softplus:10", "softplus:2", "tanh", "relu"]
FORWARD_NAMES = [term.name for term in FORWARD]
NAMES = [term.name for term in TERMS]

SOFT_BOUND = Term(
    "soft_bound",
    DenseFormula(
        matrix=W,
        update=lambda s: (
            (1 - s.operator.tensor.square())
            * torch.einsum("er,ec->erc", s.post_error, s.pre_activity)
        ),
        vectors=frozenset({post.error, pre.activity}),
        is_local=True,
        text="(1 − Wₗ²) ⊙ eₗ yₗ₋₁ᵀ",
        latex=r"(1 - W_{\ell}^2) \odot e_{\ell}\, y_{\ell-1}^{\top}",
    ),
    citation="made up",
)
BACKWARD_BOUND = Term(
    "backward_bound",
    DenseFormula(
        matrix=B,
        update=lambda s: torch.tanh(s.operator.tensor) * s.pre_error[:, :, None],
        vectors=frozenset({pre.error}),
        is_local=True,
        text="tanh(Bₗ) ⊙ eₗ₋₁ 1ᵀ",
        latex=r"\tanh(B_{\ell}) \odot e_{\ell-1}\, \mathbf{1}^{\top}",
    ),
    citation="made up",
)


def assert_agree(actual, expected, tolerance=1e-9):
    """Check loss, accuracy, gradient and learned weights."""
    assert_close(actual.loss, expected.loss, tolerance)
    assert torch.equal(actual.score, expected.score)
    assert_close(actual.theta_gradient, expected.theta_gradient, tolerance)
    for a, b in zip(matrices_of(actual.final), matrices_of(expected.final), strict=True):
        assert_close(a, b, tolerance)


@st.composite
def problems(draw):
    """Any rule, feedback, depth, width, activation, number of steps and episodes.

    Up to eight steps make two segments of different lengths. The reference takes each step of each
    episode alone, so more of them would only take longer.
    """
    feedback = draw(st.sampled_from(list(FEEDBACKS)))
    names = NAMES if feedback == "plastic" else FORWARD_NAMES
    chosen = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    hidden = draw(st.lists(st.integers(1, 6), max_size=3))
    widths = (draw(st.integers(1, 6)), *hidden, draw(st.integers(2, 5)))
    return random_problem(
        named(*chosen),
        feedback=feedback,
        widths=widths,
        activation=draw(st.sampled_from(ACTIVATIONS)),
        per_layer=draw(st.booleans()),
        steps=draw(st.integers(1, 8)),
        episodes=draw(st.integers(1, 2)),
        queries=draw(st.integers(1, 4)),
        size=0.02,
        seed=draw(st.integers(0, 1000)),
    )


@pytest.mark.slow
@given(problem=problems())
@settings(max_examples=60, deadline=None)
def test_reference_and_batched_agree(problem):
    expected = get_engine("reference").run(problem)
    assert_agree(get_engine("batched").run(problem), expected)


@pytest.mark.slow
@pytest.mark.parametrize("per_layer", [False, True], ids=["shared", "per-layer"])
@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_engines_agree_on_all_terms_together(feedback, per_layer):
    terms = TERMS if feedback == "plastic" else FORWARD
    problem = random_problem(terms, feedback=feedback, per_layer=per_layer, steps=9)
    expected = get_engine("reference").run(problem)
    assert expected.theta_gradient.abs().min() > 0
    assert_agree(get_engine("batched").run(problem), expected)


# Detached feedback has, on purpose, another gradient than the loss's own. Any two choices of
# feedback, activation and coefficients occur together.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("feedback", "activation", "per_layer"),
    [
        (feedback, activation, (index + turn) % 2 == 1)
        for index, feedback in enumerate(f for f in FEEDBACKS if f != "symmetric-detached")
        for turn, activation in enumerate(("softplus:10", "tanh"))
    ],
)
def test_gradient_is_that_of_finite_differences(feedback, activation, per_layer):
    terms = TERMS if feedback == "plastic" else FORWARD
    problem = random_problem(
        terms, feedback=feedback, activation=activation, per_layer=per_layer, steps=5
    )
    gradient = get_engine("batched").run(problem).theta_gradient
    differences = finite_differences(problem, 1e-5)
    for found, expected in zip(gradient.flatten(1).T, differences.flatten(1).T, strict=True):
        assert_close(found, expected, 2e-7)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["reference", "batched"])
def test_episodes_run_apart_as_together(engine):
    problem = random_problem(TERMS, feedback="plastic", episodes=4, per_layer=True)
    together = get_engine(engine).run(problem)
    for index in range(4):
        alone = get_engine(engine).run(problem.select(slice(index, index + 1)))
        assert_close(together.loss[index : index + 1], alone.loss, 1e-12)
        assert_close(together.theta_gradient[index : index + 1], alone.theta_gradient, 1e-12)


@pytest.mark.parametrize("engine", ["reference", "batched"])
def test_a_diverging_episode_leaves_the_others_alone(engine):
    problem = random_problem(FORWARD, episodes=3)
    expected = get_engine(engine).run(problem)
    problem.episodes.support_x[1] *= 1e200
    outcome = get_engine(engine).run(problem)
    assert outcome.finite.tolist() == [True, False, True]
    kept = torch.tensor([0, 2])
    assert_close(outcome.loss[kept], expected.loss[kept], 1e-12)
    assert_close(outcome.theta_gradient[kept], expected.theta_gradient[kept], 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("per_layer", [False, True], ids=["shared", "per-layer"])
@pytest.mark.parametrize(
    ("feedback", "terms"),
    [
        ("fixed", (SOFT_BOUND,)),
        ("symmetric", (*named("error_hebbian", "oja", "decay"), SOFT_BOUND)),
        ("symmetric-detached", (*named("oja"), SOFT_BOUND)),
        ("plastic", (*named("oja", "backward_decay"), SOFT_BOUND, BACKWARD_BOUND)),
        ("plastic", (BACKWARD_BOUND, *named("error_hebbian"))),
        ("sign-symmetric", (*named("error_error"), SOFT_BOUND)),
    ],
    ids=["alone", "symmetric", "detached", "plastic", "backward", "sign-symmetric"],
)
def test_terms_outside_the_algebra_run_on_both_engines(feedback, terms, per_layer):
    problem = random_problem(terms, feedback=feedback, per_layer=per_layer, size=0.1)
    expected = get_engine("reference").run(problem)
    index = terms.index(SOFT_BOUND if SOFT_BOUND in terms else BACKWARD_BOUND)
    assert expected.theta_gradient[..., index].abs().max() > 1e-6
    assert_agree(get_engine("batched").run(problem), expected)


@pytest.mark.parametrize("engine", ["reference", "batched"])
def test_detaching_symmetric_feedback_changes_the_gradient_alone(engine):
    problems = [
        random_problem(FORWARD, feedback=name) for name in ("symmetric", "symmetric-detached")
    ]
    true, detached = (get_engine(engine).run(problem) for problem in problems)
    assert_close(detached.loss, true.loss, 1e-14)
    difference = (detached.theta_gradient - true.theta_gradient).abs().max()
    assert difference > 1e-4 * true.theta_gradient.abs().max()


@pytest.mark.parametrize("engine", ["reference", "batched"])
def test_without_gradient_the_loss_is_the_same(engine):
    problem = random_problem(TERMS, feedback="plastic")
    full, plain = (get_engine(engine).run(problem, gradient=g) for g in (True, False))
    assert plain.theta_gradient is None
    assert torch.equal(plain.loss, full.loss)
    assert torch.equal(plain.score, full.score)
    assert plain.finite.all()


@pytest.mark.parametrize("engine", ["reference", "batched"])
def test_inputs_are_left_as_they_were(engine):
    problem = random_problem(TERMS, feedback="plastic")
    before = [m.clone() for m in problem.state.matrices.values()]
    outcome = get_engine(engine).run(problem)
    assert all(
        torch.equal(a, b) for a, b in zip(before, problem.state.matrices.values(), strict=True)
    )
    assert not any(
        torch.equal(a, b) for a, b in zip(before, matrices_of(outcome.final), strict=True)
    )
    assert not outcome.loss.requires_grad
    assert not outcome.theta_gradient.requires_grad


@pytest.mark.parametrize("per_layer", [False, True], ids=["shared", "per-layer"])
@pytest.mark.parametrize("engine", ["reference", "batched"])
def test_a_rule_without_terms_learns_nothing(engine, per_layer):
    problem = random_problem((), per_layer=per_layer)
    outcome = get_engine(engine).run(problem)
    loss, accuracy = problem.learner.query(problem.state, problem.episodes.query)
    assert_close(outcome.loss, loss, 1e-14)
    assert torch.equal(outcome.score, accuracy)
    assert tuple(outcome.theta_gradient.shape) == (2, *problem.theta.shape)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["reference", "batched"])
@pytest.mark.parametrize("feedback", ["fixed", "symmetric"])
def test_single_precision_is_close_to_double(feedback, engine):
    options = {"feedback": feedback, "widths": (30, 20, 15, 10, 5), "steps": 25, "size": 0.01}
    double = get_engine(engine).run(random_problem(FORWARD, **options))
    single = get_engine(engine).run(random_problem(FORWARD, **options, dtype=torch.float32))
    assert single.loss.dtype == single.theta_gradient.dtype == torch.float32
    assert_close(single.loss.double(), double.loss, 1e-4)
    scale = double.theta_gradient.abs().max()
    assert_close(single.theta_gradient / scale, (double.theta_gradient / scale).float(), 1e-4)


def test_final_state_is_that_of_repeated_steps():
    problem = random_problem(TERMS, feedback="plastic", steps=4)
    state = problem.state
    for t in range(4):
        state = problem.learner.step(state, problem.episode_theta, problem.episodes.example(t))
    final = get_engine("batched").run(problem).final
    for a, b in zip(matrices_of(final), matrices_of(state), strict=True):
        assert_close(a, b, 1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("feedback", ["fixed", "plastic"])
def test_memory_grows_with_the_square_root_of_the_steps(feedback):
    names = ("error_hebbian", "error_error", "oja", "decay")
    names += ("backward_hebbian",) if feedback == "plastic" else ()

    def states_alive(steps):
        problem = random_problem(
            named(*names), feedback=feedback, widths=(24, 24, 24), steps=steps, size=1e-3
        )
        state = problem.state
        matrices = matrices_of(state) if feedback == "plastic" else state.weights
        state = sum(m.numel() * m.element_size() for m in matrices)
        with LiveMatrices(least=2 * 24 * 24) as live:
            get_engine("batched").run(problem)
        return live.peak / state

    few, many = states_alive(9), states_alive(144)
    # √T/2 segment starts, and a few for the state that is undone, the adjoint and temporaries.
    assert few <= 1.5 + 8
    assert 6 <= many <= 6 + 8


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.2, 0.999, 1.0])
def test_steps_that_cannot_be_undone_are_kept_instead(decay, monkeypatch):
    # With growth −decay, undoing 5 steps multiplies roundings by (1 − decay)⁻⁵; by 0/0 at the end.
    problem = random_problem(named("error_hebbian", "decay", "oja"), steps=25, size=0.05)
    theta = problem.theta.clone()
    theta[..., 1] = decay
    problem = replace(problem, theta=theta)
    kept = []
    original = WayBack._kept
    monkeypatch.setattr(WayBack, "_kept", lambda self, *a: kept.append(1) or original(self, *a))
    outcome = get_engine("batched").run(problem)
    assert bool(kept) == (decay > 0.9)
    expected = get_engine("reference").run(problem)
    assert_close(outcome.theta_gradient, expected.theta_gradient, 1e-9)


def test_a_change_is_undone_exactly():
    generator = torch.Generator().manual_seed(0)
    before = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
    rows, columns = (torch.randn(2, 2, n, generator=generator, dtype=torch.float64) for n in (4, 3))
    change = LowRankUpdate(torch.tensor([-0.1, 0.2], dtype=torch.float64), rows, columns, None)
    after = change.apply(before)
    assert (after - before).abs().max() > 0.1
    change.undo(after)
    assert_close(after, before, 1e-14)
    with pytest.raises(ValueError, match="dense"):
        LowRankUpdate(None, None, None, before).undo(after)


def test_the_memory_meter_sees_plain_autodiff():
    problem = random_problem(named("error_hebbian"), widths=(24, 24, 24), steps=32, size=1e-3)
    with LiveMatrices(least=24 * 24) as live:
        get_engine("reference").run(problem.select(slice(1)))
    assert live.peak > 32 * 2 * 24 * 24 * 8


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("c++") is None, reason="torch compiles with a C++ compiler")
def test_the_compiled_engine_agrees():
    # A term that fades: its system is wrapped, and nothing in it has been evaluated before.
    terms = (*named("error_hebbian", "oja"), get_term("decay_fading_3"))
    problem = random_problem(terms, widths=(4, 3, 3), per_layer=True, steps=5)
    expected = get_engine("batched").run(problem)
    with warnings.catch_warnings():
        # Warnings of torch's compiler about itself cannot be mended here.
        warnings.simplefilter("ignore")
        assert_agree(get_engine("compiled").run(problem), expected)


# --- the one call ---


def test_unroll_takes_an_engine_by_name():
    problem = random_problem(FORWARD)
    outcomes = [
        unroll(problem.learner, problem.theta, problem.state, problem.episodes, engine=name)
        for name in ("auto", "batched", "reference")
    ]
    for outcome in outcomes[1:]:
        assert_agree(outcome, outcomes[0])


def test_each_name_is_that_of_an_engine_of_its_own():
    found = [get_engine(name) for name in ENGINES]
    assert [engine.name for engine in found] == list(ENGINES)
    assert len({type(engine) for engine in found}) == len(ENGINES)
    assert len({engine.summary for engine in found}) == len(ENGINES)


def test_unknown_engine_suggests_the_nearest():
    with pytest.raises(UserError, match="did you mean 'reference'"):
        get_engine("refrence")


MISFITS = {
    "theta too short": lambda p: replace(p, theta=p.theta[1:]),
    "theta of too few layers": lambda p: replace(p, theta=p.theta.expand(2, -1)),
    "images too small": lambda p: replace(
        p, episodes=replace(p.episodes, support_x=p.episodes.support_x[..., 1:])
    ),
    "query images too small": lambda p: replace(
        p, episodes=replace(p.episodes, query_x=p.episodes.query_x[..., 1:])
    ),
    "mixed dtypes": lambda p: replace(p, theta=p.theta.float()),
    "weights of fewer episodes": lambda p: replace(p, state=p.state.select(slice(1))),
    "no backward weights": lambda p: replace(p, state=State.stack(p.state.weights, ())),
    "weights of another network": lambda p: replace(
        p, state=State.stack(p.state.weights[::-1], p.state.backward)
    ),
    "a label beyond the last class": lambda p: replace(
        p, episodes=replace(p.episodes, support_y=p.episodes.support_y + 9)
    ),
    "a negative label": lambda p: replace(
        p, episodes=replace(p.episodes, query_y=p.episodes.query_y - 9)
    ),
    "no step": lambda p: replace(
        p,
        episodes=replace(
            p.episodes,
            support_x=p.episodes.support_x[:, :0],
            support_y=p.episodes.support_y[:, :0],
        ),
    ),
}


@pytest.mark.parametrize("spoil", MISFITS.values(), ids=MISFITS.keys())
def test_parts_that_do_not_fit_are_refused_before_anything_runs(spoil):
    problem = random_problem(FORWARD)
    with pytest.raises(UserError) as caught:
        spoil(problem)
    assert_is_one_sentence(caught.value)


@pytest.mark.parametrize(
    ("misfit", "found"),
    [("weights of another network", "of shape"), ("no backward weights", "absent;")],
)
def test_a_matrix_that_does_not_fit_is_named(misfit, found):
    message = rf"^[WB]\d in the network's state must be of shape \(.*\), but it is {found}"
    with pytest.raises(UserError, match=message):
        MISFITS[misfit](random_problem(FORWARD))


def test_each_compiled_learner_has_code_of_its_own(monkeypatch):
    """torch keeps what it compiled with the code: a second learner would get the first one's."""
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    problems = [random_problem(named("oja"), activation=name) for name in ("tanh", "relu")]
    engine = CompiledEngine()
    first, second = (engine.stepper(problem) for problem in problems)
    assert first.take.__code__ is not second.take.__code__
    assert first._pull.__code__ is not second._pull.__code__
    for problem in problems:
        assert_agree(engine.run(problem), get_engine("batched").run(problem), 0)


def test_the_compiler_meets_no_cached_property_that_is_still_to_be_computed(monkeypatch):
    """torch cannot trace the lock that Python takes for its computation."""
    problem = random_problem(named("oja"))
    fresh = replace(problem, learner=pickle.loads(pickle.dumps(problem.learner)))
    assert "nonlinearity" not in vars(fresh.learner.system)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    CompiledEngine().stepper(fresh)
    assert {"nonlinearity", "objective", "shapes"} <= set(vars(fresh.learner.system))


@pytest.mark.slow
def test_a_step_that_torch_cannot_compile_is_refused_in_one_sentence(monkeypatch):
    from torch._dynamo.exc import TorchDynamoException  # Its compiler takes seconds to load.

    def refuse(*_):
        raise TorchDynamoException("Unsupported: a lock.\n  Hint: none. See the manual.")

    monkeypatch.setattr(torch, "compile", lambda function, **_: refuse)
    with pytest.raises(UserError, match="--engine batched") as caught:
        CompiledEngine().run(random_problem(named("oja")))
    assert_is_one_sentence(caught.value)
