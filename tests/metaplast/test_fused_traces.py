"""The fused engine follows traces: as `batched` does, with exact gradients, or says that it cannot.

Random rules with traces among all others: tests/metaplast/test_fused.py.
"""

from dataclasses import replace

import pytest
import torch
from support import (
    FORWARD,
    FUSED_FEEDBACKS,
    assert_is_one_sentence,
    matrices_of,
    named,
    normal,
    random_problem,
)

from metaplast.base.errors import UserError
from metaplast.engines import get_engine
from metaplast.engines.choose import choose_engine
from metaplast.engines.fused import FusedEngine, ReversalError, Settings
from metaplast.engines.fused.arena import Arena, Sizes, allocate
from metaplast.engines.fused.dropped import may_drop
from metaplast.engines.fused.program import build
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.state import State
from metaplast.systems.timing import Timing
from metaplast.terms.algebra import (
    B,
    W,
    dot,
    eligible,
    magnitude,
    outer,
    post,
    pre,
    scalar,
    sign,
    trace,
)
from metaplast.terms.term import Term

CPU = torch.device("cpu")
ACTIVATIONS = ("softplus:10", "tanh", "relu")


def term(name, formula):
    return Term(name, formula, "made up")


# Traces as rows and columns, in functions, gates and projections; of both signals on both sides.
FORWARD_MEMORY = (
    *named("error_hebbian", "oja", "decay"),
    term("low", outer(trace(post.error, 3), trace(pre.activity, 2.5))),
    term("squares", outer(post.activity * trace(post.activity**2, 3), pre.activity)),
    term("signs", outer(sign(post.error), trace(pre.error, 3))),
    term("sizes", outer(magnitude(trace(post.error, 3)), pre.one)),
    term("carried", outer(trace(post.activity, 3), W.T @ trace(post.activity, 3))),
    term("two", outer(post.error, W.T @ trace(post.error, 4)) - 0.3 * outer(post.one, pre.one)),
    term("third", outer(post.error, W.T @ trace(post.error, 5))),
    term("gated", dot(trace(post.activity, 3), post.error) * outer(post.error, pre.activity)),
    term("net", dot(W.T @ trace(post.error, 3), pre.activity) * outer(post.error, pre.activity)),
    term("fading", -(dot(trace(post.error**2, 3), post.one) * W)),
)
BACKWARD_MEMORY = (
    *named("backward_hebbian", "backward_decay"),
    term("back", outer(trace(pre.activity, 3), trace(post.error, 2))),
    term("back_carried", outer(pre.activity, B.T @ trace(pre.error, 3))),
    term("back_cubes", outer(trace(pre.error**3, 3), post.activity)),
)


def memory_problem(feedback="fixed", **options):
    """Return a small problem with terms that read traces on all sides."""
    terms = FORWARD_MEMORY + (BACKWARD_MEMORY if feedback == "plastic" else ())
    return random_problem(terms, feedback=feedback, **{"widths": (5, 4, 3), "steps": 5} | options)


def assert_agree(actual, expected, tolerance=1e-12):
    """Compare loss, score, gradient, learned weights and traces, relative to the largest number."""
    assert actual.final.carry.keys() == expected.final.carry.keys()
    pairs = [
        (actual.loss, expected.loss),
        (actual.theta_gradient, expected.theta_gradient),
        *zip(matrices_of(actual.final), matrices_of(expected.final), strict=True),
        *((actual.final.carry[k], vector) for k, vector in expected.final.carry.items()),
    ]
    for a, b in pairs:
        assert a.shape == b.shape
        assert (a - b).abs().max() <= tolerance * max(b.abs().max(), 1e-3)
    assert torch.equal(actual.score, expected.score)


def assert_agrees_with_batched(problem, settings=None, tolerance=1e-12):
    expected = get_engine("batched").run(problem)
    assert expected.finite.all()
    found = FusedEngine(settings).run(problem)
    assert_agree(found, expected, tolerance)
    return found


def assert_gradient_is_true(problem, found, engine):
    """Compare a gradient with finite differences of the same engine's loss."""
    step = 1e-5
    for index in range(problem.theta.numel()):
        nudge = torch.zeros_like(problem.theta)
        nudge.view(-1)[index] = step
        up, down = (
            engine.run(replace(problem, theta=problem.theta + s), gradient=False).loss
            for s in (nudge, -nudge)
        )
        gap = found.theta_gradient.flatten(1)[:, index] - (up - down) / (2 * step)
        assert gap.abs().max() <= 2e-8 * max(1, found.theta_gradient.abs().max())


# --- one answer ---


@pytest.mark.parametrize("per_layer", [False, True], ids=["shared", "per-layer"])
@pytest.mark.parametrize("feedback", FUSED_FEEDBACKS)
def test_agrees_with_batched(feedback, per_layer):
    activation = ACTIVATIONS[(FUSED_FEEDBACKS.index(feedback) + per_layer) % 3]
    problem = memory_problem(feedback, per_layer=per_layer, activation=activation)
    found = assert_agrees_with_batched(problem)
    assert (found.theta_gradient != 0).any(0).all()


@pytest.mark.parametrize(
    ("feedback", "activation"), [("fixed", "softplus:10"), ("symmetric", "softplus:2"),
                                 ("plastic", "tanh")]
)  # fmt: skip
def test_the_gradient_is_that_of_finite_differences(feedback, activation):
    problem = memory_problem(feedback, activation=activation, per_layer=True, episodes=1)
    engine = FusedEngine()
    assert_gradient_is_true(problem, engine.run(problem), engine)


def test_agrees_in_single_precision():
    for feedback in ("fixed", "plastic"):
        double = get_engine("batched").run(memory_problem(feedback))
        single = FusedEngine().run(memory_problem(feedback, dtype=torch.float32))
        assert single.theta_gradient.dtype == torch.float32
        wide = replace(
            single, loss=single.loss.double(), theta_gradient=single.theta_gradient.double(),
            score=single.score.double(), final=single.final.to(torch.float64),
        )  # fmt: skip
        assert_agree(wide, double, 3e-5)


def test_with_tau_one_a_trace_is_the_signal_to_the_bit():
    """The gradient is summed in another order, so it differs by rounding errors."""
    plain = (*named("error_hebbian"), term("a", outer(post.activity**2, pre.activity)),
             term("b", outer(post.error, W.T @ post.activity)))  # fmt: skip
    slow = (
        plain[0],
        term("a", outer(trace(post.activity**2, 1), trace(pre.activity, 1))),
        term("b", outer(post.error, W.T @ trace(post.activity, 1))),
    )
    one, other = (FusedEngine().run(random_problem(t, widths=(5, 4, 3))) for t in (plain, slow))
    assert torch.equal(one.loss, other.loss)
    assert all(map(torch.equal, one.final.weights, other.final.weights))
    gap = (one.theta_gradient - other.theta_gradient).abs().max()
    assert gap <= 1e-14 * one.theta_gradient.abs().max()


def test_without_gradient_the_loss_and_the_traces_are_the_same():
    problem = memory_problem("plastic")
    full, plain = (FusedEngine().run(problem, gradient=g) for g in (True, False))
    assert torch.equal(plain.loss, full.loss)
    for key, vector in full.final.carry.items():
        assert torch.equal(plain.final.carry[key], vector)


def test_a_rule_with_traces_is_one_that_auto_runs_fused():
    learner = memory_problem().learner
    assert choose_engine("auto", learner, CPU).name == "fused"


# --- where traces begin and end ---


def test_an_episode_goes_on_from_the_traces_that_it_is_given():
    problem = memory_problem("plastic", steps=6)
    batch, whole = problem.episodes, FusedEngine().run(problem)
    half = [
        replace(batch, support_x=batch.support_x[:, part], support_y=batch.support_y[:, part])
        for part in (slice(3), slice(3, 6))
    ]
    first = FusedEngine().run(replace(problem, episodes=half[0]))
    second = replace(problem, episodes=half[1], state=first.final)
    found = assert_agrees_with_batched(second)
    assert (found.loss - whole.loss).abs().max() < 1e-14


def test_traces_of_one_signal_at_two_matrices_may_begin_apart():
    problem = memory_problem("plastic")
    carry = {
        key: normal(*vector.shape, seed=i)
        for i, (key, vector) in enumerate(problem.state.carry.items())
    }
    assert_agrees_with_batched(replace(problem, state=State(problem.state.matrices, carry)))


def test_traces_that_no_term_reads_any_more_stay_as_they_are():
    problem = memory_problem()
    learner = replace(problem.learner, terms=named("error_hebbian", "oja"))
    carry = {key: vector + 1 for key, vector in problem.state.carry.items()}
    state = State(problem.state.matrices, carry)
    found = assert_agrees_with_batched(
        replace(problem, learner=learner, theta=problem.theta[:2], state=state)
    )
    assert all(torch.equal(found.final.carry[key], vector) for key, vector in carry.items())


def test_a_trace_may_follow_a_trace():
    first = term("a", outer(trace(post.error, 2), pre.activity))
    followed = trace(post.error, 2)
    second = term("b", outer(trace(followed, 3), pre.activity))
    network = FullyConnected((5, 4, 3))
    learner = Learner(Learner(network, (first,)).system, (second,))
    problem = random_problem(named("error_hebbian"), widths=(5, 4, 3))
    state = learner.begin(2, problem.state, torch.Generator(), torch.float64)
    assert len(state.carry) == 4
    assert_agrees_with_batched(replace(problem, learner=learner, state=state))


# --- kept copies of the weights ---


def test_traces_go_along_with_kept_copies_of_the_weights():
    problem = memory_problem("plastic", steps=9)
    once = FusedEngine().run(problem)
    for spacing in (1, 2, 4):
        found = FusedEngine(Settings(spacing=spacing, decay_spacing=spacing)).run(problem)
        assert_agree(found, once, 1e-13)


def test_an_episode_that_is_rerun_with_more_copies_begins_with_the_same_traces():
    problem = memory_problem(steps=30)
    problem.theta[2] = 0.9
    carry = {key: vector + 0.1 for key, vector in problem.state.carry.items()}
    problem = replace(problem, state=State(problem.state.matrices, carry))
    with pytest.raises(ReversalError):
        FusedEngine(Settings(limit=float("inf"), most_kept=0)).run(problem)
    assert_agrees_with_batched(problem, Settings(limit=float("inf")))


def test_the_traces_of_every_step_are_kept_and_nothing_else_grows():
    def numbers(terms, steps):
        program = build(Learner(FullyConnected((16, 16, 16)), terms), 16, "f8")
        memory = allocate(Arena(), program, "f8", Sizes(steps, 1, 0, 0), gradient=True)
        return sum(part.size for part in memory if hasattr(part, "size"))

    plain = named("error_hebbian")
    slow = (*plain, term("slow", outer(trace(post.error, 3), trace(pre.activity, 3))))
    grown = [numbers(terms, 300) - numbers(terms, 100) for terms in (plain, slow)]
    # Two traces at each of two matrices.
    assert grown[1] - grown[0] == 200 * 4 * 16


# --- dark pixels ---


@pytest.mark.parametrize("feedback", ["fixed", "plastic"])
def test_dropping_dark_pixels_changes_nothing(feedback):
    problem = memory_problem(feedback, widths=(40, 5, 3), size=0.01)
    problem.episodes.support_x[..., 2:30] = 0
    problem.episodes.query_x[..., 2:30] = 0
    assert may_drop(problem.learner)
    full = FusedEngine(Settings(drop_pixels=False)).run(problem)
    assert_agree(assert_agrees_with_batched(problem), full)


def test_a_dark_pixel_whose_trace_begins_lit_is_kept():
    problem = memory_problem(widths=(40, 5, 3), size=0.01)
    problem.episodes.support_x[..., 2:30] = 0
    problem.episodes.query_x[..., 2:30] = 0
    lit = {key: vector.clone() for key, vector in problem.state.carry.items()}
    lit["W1 pre.activity_trace_2_5"][0, 7:9] = 1
    found = assert_agrees_with_batched(replace(problem, state=State(problem.state.matrices, lit)))
    left = (1 - 1 / 2.5) ** 5
    assert (found.final.carry["W1 pre.activity_trace_2_5"][0, 7:9] - left).abs().max() < 1e-14


# --- refusals ---


@pytest.mark.parametrize(
    ("system", "formula", "word"),
    [
        (FullyConnected((4, 2)), post.error * eligible(outer(post.one, pre.activity), 4), "mixed"),
        (FullyConnected((4, 2)), scalar("error_size") * outer(post.error, pre.activity), "mixed"),
        (FullyConnected((4, 2)), trace(scalar("error_size"), 3) * outer(post.error, pre.activity),
         "mixed"),
        (FullyConnected((4, 2)), W * outer(post.error, trace(pre.activity, 4)), "powers"),
        (FullyConnected((4, 2), objective_name="mse"), outer(post.error, trace(pre.activity, 4)),
         "cross-entropy"),
        (Recurrent((4, 3, 2), Timing(1, 1, 5)), outer(post.error, trace(pre.activity, 4)),
         "recurrent"),
    ],
)  # fmt: skip
def test_other_memory_is_refused_in_one_sentence(system, formula, word):
    slow = term("slow", outer(post.error, trace(pre.activity, 3)))
    sentence = FusedEngine().refusal(Learner(system, (slow, term("mixed", formula))), CPU)
    assert_is_one_sentence(UserError(sentence))
    assert word in sentence
    assert "slow reads" not in sentence


def test_without_such_memory_the_program_has_no_traces():
    program = build(Learner(FullyConnected((4, 3, 2)), FORWARD), 4, "f8")
    assert program.traces.size == 0
    assert len(program.traces.table) == 0
