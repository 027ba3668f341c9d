"""The fused engine gives the other engines' answer, in little memory, or says that it cannot."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import (
    BACKWARD,
    FORWARD,
    FUSED_FEEDBACKS,
    KERNEL,
    TERMS,
    assert_is_one_sentence,
    matrices_of,
    named,
    random_problem,
)

from metaplast.base.errors import UserError
from metaplast.engines import get_engine
from metaplast.engines.fused import FusedEngine, ReversalError, Settings
from metaplast.engines.fused.dropped import may_drop
from metaplast.engines.fused.program import build
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.terms.algebra import B, W, dot, outer, post, pre, trace
from metaplast.terms.compiled import compile_terms
from metaplast.terms.term import DenseFormula, Term

ACTIVATIONS = ["softplus:10", "softplus:2", "tanh", "relu"]
TOLERANCES = {torch.float64: 1e-9, torch.float32: 1e-4}
SIDES = {"W": (W, post, pre), "B": (B, pre, post)}


def assert_agree(actual, expected, tolerance):
    """Compare loss, accuracy, gradient, weights and traces, relative to the largest number."""
    learned = zip(matrices_of(actual.final), matrices_of(expected.final), strict=True)
    carried = [(actual.final.carry[key], vector) for key, vector in expected.final.carry.items()]
    pairs = [(actual.loss, expected.loss), *learned, *carried]
    if expected.theta_gradient is not None:
        pairs.append((actual.theta_gradient, expected.theta_gradient))
    for a, b in pairs:
        assert a.shape == b.shape
        worst, scale = (a - b).abs().max().item(), b.abs().max().item()
        # Where all cancels, rounding errors of numbers of size 1 are left.
        assert worst <= tolerance * max(scale, 1e-3), f"off by {worst:.3g}, {scale=:.3g}"
    assert torch.equal(actual.score, expected.score)


def assert_agrees_with_batched(problem, settings=None, tolerance=None):
    """Check the fused engine against the batched one; return its outcome."""
    expected = get_engine("batched").run(problem)
    actual = FusedEngine(settings).run(problem)
    assert expected.finite.all()
    assert_agree(actual, expected, tolerance or TOLERANCES[problem.theta.dtype])
    return actual


def signals(population):
    slow = [trace(population.activity, 3), trace(population.error**2, 2)]
    return [population.activity, population.error, population.one, *slow]


@st.composite
def formulas(draw, name):
    """Any formula of the algebra that changes one matrix: up to three gated monomials."""
    matrix, rows, columns = SIDES[name]
    column_side = [*signals(columns), *(matrix.T @ row for row in signals(rows))]
    total = None
    for _ in range(draw(st.integers(1, 3))):
        one = outer(draw(st.sampled_from(signals(rows))), draw(st.sampled_from(column_side)))
        if draw(st.integers(0, 4)) == 0:
            one = 0.5 * matrix
        for _ in range(draw(st.integers(0, 2))):
            side = draw(st.sampled_from([signals(rows), column_side]))
            one = dot(draw(st.sampled_from(side)), draw(st.sampled_from(side))) * one
        total = one if total is None else total + one
    return total


@st.composite
def problems(draw, dtype=torch.float64):
    """Terms of the library and made-up ones, any feedback, shape, activation and length."""
    feedback = draw(st.sampled_from(list(FUSED_FEEDBACKS)))
    pool = TERMS if feedback == "plastic" else FORWARD
    terms = draw(st.lists(st.sampled_from(pool), max_size=6, unique=True))
    names = ["W", "B"] if feedback == "plastic" else ["W"]
    for number in range(draw(st.integers(0 if terms else 1, 2))):
        formula = draw(formulas(draw(st.sampled_from(names))))
        terms.append(Term(f"made_up_{number}", formula, citation="nobody"))
    hidden = draw(st.lists(st.integers(1, 35), max_size=3))
    problem = random_problem(
        terms,
        feedback=feedback,
        widths=(draw(st.integers(1, 40)), *hidden, draw(st.integers(2, 20))),
        activation=draw(st.sampled_from(ACTIVATIONS)),
        per_layer=draw(st.booleans()),
        steps=draw(st.integers(1, 12)),
        episodes=draw(st.integers(1, 3)),
        queries=draw(st.integers(1, 19)),
        size=2e-4,
        seed=draw(st.integers(0, 1000)),
        dtype=dtype,
    )
    dark = draw(st.integers(0, problem.learner.system.inputs - 1))
    problem.episodes.support_x[..., :dark] = 0
    problem.episodes.query_x[..., :dark] = 0
    return problem


@pytest.mark.slow
@given(problem=problems())
@settings(max_examples=150, deadline=None)
def test_agrees_with_batched(problem):
    expected = get_engine("batched").run(problem)
    # A made-up term may grow without bound; such episodes are tested separately.
    assume(bool(expected.finite.all()))
    assert_agree(FusedEngine().run(problem), expected, TOLERANCES[problem.theta.dtype])


def in_double(problem):
    """Return a problem with its numbers in double precision."""
    return replace(
        problem,
        theta=problem.theta.double(),
        state=problem.state.to(torch.float64),
        episodes=problem.episodes.to(torch.float64),
    )


def rounding_of_batched(problem, others=8):
    """Return the largest error of `batched` by rounding, with these weights and ones near them.

    Where large numbers nearly cancel, a single error may be small by luck.
    """
    batched, generator = get_engine("batched"), torch.Generator().manual_seed(0)
    found = []
    for size in [0.0] + [1e-5] * others:
        matrices = {
            name: weights * (1 + size * torch.randn(weights.shape, generator=generator))
            for name, weights in problem.state.matrices.items()
        }
        near = replace(problem, state=replace(problem.state, matrices=matrices))
        exact = batched.run(in_double(near)).theta_gradient
        found.append((batched.run(near).theta_gradient - exact).abs().max())
    return max(found)


@pytest.mark.slow
@given(problem=problems(torch.float32))
@settings(max_examples=60, deadline=None)
def test_agrees_in_single_precision(problem):
    expected = get_engine("batched").run(in_double(problem))
    assume(bool(expected.finite.all()))
    actual = FusedEngine().run(problem)
    # A term that does nothing in an episode has a gradient of rounding errors only: a few
    # roundings, of 1.2e-7 each, of numbers of size 1, or what `batched` loses by rounding too.
    worst = (actual.theta_gradient - expected.theta_gradient).abs().max()
    if worst > max(1e-6, 1e-4 * expected.theta_gradient.abs().max()):
        assert worst <= 4 * rounding_of_batched(problem)
    torch.testing.assert_close(actual.loss.double(), expected.loss, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("per_layer", [False, True], ids=["shared", "per-layer"])
@pytest.mark.parametrize("feedback", FUSED_FEEDBACKS)
def test_agrees_on_all_terms_together(feedback, per_layer):
    terms = TERMS if feedback == "plastic" else FORWARD
    assert_agrees_with_batched(
        random_problem(terms, feedback=feedback, per_layer=per_layer, steps=9, size=0.01)
    )


@pytest.mark.slow
@pytest.mark.parametrize("feedback", ["fixed", "plastic"])
def test_agrees_over_a_thousand_steps(feedback):
    names = ["error_hebbian", "error_error", "oja", "decay"]
    names += ["backward_hebbian", "backward_decay"] if feedback == "plastic" else []
    double, single = (
        random_problem(
            named(*names), feedback=feedback, widths=(12, 9, 4), steps=1000, size=3e-4, dtype=d
        )
        for d in (torch.float64, torch.float32)
    )
    settings = Settings(spacing=300)
    exact = assert_agrees_with_batched(double, settings)
    # Single precision is compared with double: closer than with `batched`, which takes seconds.
    rounded = FusedEngine(settings).run(single)
    assert_agree(replace(rounded, score=rounded.score.double()), exact, TOLERANCES[torch.float32])


def decaying(rate, steps=40, **options):
    """Return a problem in which weights decay by `rate` a step."""
    problem = random_problem(named("error_hebbian", "oja", "decay"), steps=steps, **options)
    problem.theta[:] = torch.tensor([1e-3, 1e-3, rate], dtype=problem.theta.dtype)
    return problem


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.9, 1.0, 1.7])
def test_strong_decay_is_exact_from_kept_weights(rate):
    assert_agrees_with_batched(decaying(rate))


def test_weights_rebuilt_too_inexactly_are_found_out():
    careless = Settings(limit=float("inf"), most_kept=0)
    with pytest.raises(ReversalError, match="rebuilt in the backward sweep are off by"):
        FusedEngine(careless).run(decaying(0.9))
    assert_agrees_with_batched(decaying(0.9), Settings(limit=float("inf")))


@pytest.mark.parametrize("scale", [1e200, float("inf"), float("nan")])
def test_divergence_is_seen_and_leaves_other_episodes_alone(scale):
    problem = random_problem(FORWARD, episodes=3)
    expected = get_engine("batched").run(problem)
    problem.episodes.support_x[1, 3:] *= scale
    actual = FusedEngine().run(problem)
    assert actual.finite.tolist() == [True, False, True]
    assert not torch.isfinite(actual.theta_gradient[1]).any()
    for index in (0, 2):
        torch.testing.assert_close(actual.theta_gradient[index], expected.theta_gradient[index])


@pytest.mark.parametrize("feedback", FUSED_FEEDBACKS)
def test_dropping_dark_pixels_changes_nothing(feedback):
    terms = [
        t for t in FORWARD if may_drop(Learner.on_stack(FullyConnected((2, 2)), feedback, (t,)))
    ]
    assert len(terms) == len(FORWARD)
    if feedback == "plastic":
        terms += BACKWARD
    problem = random_problem(terms, feedback=feedback, widths=(50, 20, 4), size=0.01)
    problem.episodes.support_x[..., 5:40] = 0
    problem.episodes.query_x[..., 5:40] = 0
    full = FusedEngine(Settings(drop_pixels=False)).run(problem)
    dropped = assert_agrees_with_batched(problem)
    assert_agree(dropped, full, 1e-12)


def test_pixels_that_a_gate_sums_over_are_not_dropped():
    projected = W.T @ post.activity
    for gate in (dot(projected, projected), dot(projected, pre.one), dot(pre.one, pre.one)):
        term = Term("summing", gate * outer(post.error, pre.activity), citation="nobody")
        assert not may_drop(Learner.on_stack(FullyConnected((3, 2)), "fixed", (term,)))
    assert not may_drop(
        Learner.on_stack(FullyConnected((3, 2), "tanh"), "fixed", named("error_error"))
    )
    assert may_drop(Learner.on_stack(FullyConnected((3, 2), "tanh"), "fixed", named("oja")))


def test_products_with_the_weights_are_formed_only_where_a_term_needs_them():
    def count(*names):
        side = build(
            Learner.on_stack(FullyConnected((9, 8, 7)), "fixed", named(*names)), 9, "f8"
        ).forward
        return [int((jobs[0, :, 0] >= 0).sum()) for jobs in (side.early, side.late)]

    assert count("error_hebbian", "error_error", "decay") == [0, 0]
    assert count("oja") == [1, 0]
    # ⟨Wᵀe_ℓ, y_{ℓ-1}⟩ is ⟨e_ℓ, z_ℓ⟩.
    assert count(*(term.name for term in FORWARD)) == [1, 0]


def test_memory_grows_by_vectors_not_by_weights():
    from metaplast.engines.fused.arena import Arena, Sizes, allocate

    paper = FullyConnected((784, 170, 130, 100, 70, 47))

    def megabytes(terms, steps):
        program = build(Learner.on_stack(paper, "fixed", terms), 784, "f4")
        memory = allocate(Arena(), program, "f4", Sizes(steps, 50, 0, 0), gradient=True)
        groups = [*memory, *memory.forward, *memory.backward]
        total = sum(part.nbytes for part in groups if hasattr(part, "nbytes"))
        weights = sum(part.nbytes for part in (memory.w, memory.w_bar, memory.b, memory.final))
        return (total - weights) / 2**20

    bio = named("error_hebbian", "error_error", "oja")
    assert megabytes(bio, 250) < 6
    assert megabytes(FORWARD, 250) < 6
    assert megabytes(bio, 10_000) < 200


def test_without_gradient_the_loss_is_the_same():
    problem = random_problem(TERMS, feedback="plastic")
    full, plain = (FusedEngine().run(problem, gradient=g) for g in (True, False))
    assert plain.theta_gradient is None
    assert torch.equal(plain.loss, full.loss)
    for a, b in zip(matrices_of(plain.final), matrices_of(full.final), strict=True):
        assert torch.equal(a, b)


def test_threads_do_not_change_the_answer():
    problem = random_problem(FORWARD, episodes=7)
    one, three = (FusedEngine(Settings(threads=n)).run(problem) for n in (1, 3))
    assert torch.equal(one.theta_gradient, three.theta_gradient)
    assert torch.equal(one.loss, three.loss)


@pytest.mark.slow
def test_the_first_run_on_a_machine_gives_what_later_runs_give(tmp_path, compiled_kernel):
    """To the bit, whether the kernel was compiled for this run or read from disk."""
    paths = [str(Path(__file__).parents[1]), *sys.path]
    environment = os.environ | {"PYTHONPATH": ":".join(paths)}
    if not compiled_kernel.exists():
        # It was on disk before the tests, and sources beside it have changed since.
        environment["NUMBA_CACHE_DIR"] = str(tmp_path)

    def run():
        return subprocess.run(
            [sys.executable, "-c", KERNEL],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )

    if compiled_kernel.exists():
        first = compiled_kernel.read_text()
    else:
        done = run()
        assert "compiling" in done.stderr
        first = done.stdout
        compiled_kernel.parent.mkdir(exist_ok=True)
        compiled_kernel.write_text(first)
    later = run()
    assert later.stderr == ""
    assert first == later.stdout


def test_what_it_cannot_serve_is_refused_in_one_sentence():
    dense = DenseFormula(W, lambda s: s.operator.tensor, frozenset(), True, "W", "W")
    learner = Learner.on_stack(
        FullyConnected((3, 2)), "fixed", (Term("dense", dense, citation="nobody"),)
    )
    sentences = [
        FusedEngine().refusal(learner, torch.device("cpu")),
        FusedEngine().refusal(replace(learner, terms=FORWARD), torch.device("cuda")),
    ]
    for sentence in sentences:
        assert_is_one_sentence(UserError(sentence))
    assert "dense" in sentences[0]
    assert FusedEngine().refusal(replace(learner, terms=FORWARD), torch.device("cpu")) is None


def test_compile_terms_is_all_the_kernel_is_given():
    """A term under another name gives the same program: the kernel depends on no name."""
    network = FullyConnected((4, 3, 2))
    renamed = tuple(replace(term, name=f"x{i}") for i, term in enumerate(FORWARD))
    a, b = (
        build(Learner.on_stack(network, "fixed", terms), 4, "f8") for terms in (FORWARD, renamed)
    )
    assert compile_terms(FORWARD, W) == compile_terms(renamed, W)
    assert all((x == y).all() for x, y in zip(a.forward[:5], b.forward[:5], strict=True))
