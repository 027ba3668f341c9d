"""Predictive coding: its closed form, a plain loop, its limits, and single precision."""

from dataclasses import replace
from math import comb

import pytest
import torch
from support import FORWARD, Clouds, assert_close, named, normal, random_problem, refusal, seeded

from metaplast.base.errors import UserError
from metaplast.engines import choose_engine, get_engine
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.settings import OuterSettings
from metaplast.rules.rule import Rule
from metaplast.systems.activation import parse_activation
from metaplast.systems.diagnostics import angle
from metaplast.systems.feedback import ErrorPass, get_feedback
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.state import View
from metaplast.systems.system import Examples
from metaplast.terms.algebra import outer, post, pre
from metaplast.terms.coefficients import Coefficients
from metaplast.terms.library import choose_terms
from metaplast.terms.operator import Operator
from metaplast.terms.term import Term

WIDTHS = (5, 6, 4, 5, 3)
LAYERS = len(WIDTHS) - 1
ACTIVATIONS = ("softplus:10", "tanh", "relu")


def given(activation="tanh", *, lowest=0, dtype=torch.float64):
    """Return what a feedback is given, for three samples in each of two episodes."""
    network = FullyConnected(WIDTHS, activation)
    view = View.of(network.draw(2, seeded(1), torch.float64).to(dtype))
    x = normal(2, 3, WIDTHS[0], seed=2).abs().to(dtype)
    labels = torch.randint(3, (2, 3), generator=seeded(3))
    forward = network.forward(view.weights, x)
    return network._pass(view, forward, network.error_of(labels), lowest)


def gain(n, eta, distance):
    """Return Pr[Binomial(n − 1, η) ≥ distance]."""
    return sum(comb(n - 1, k) * eta**k * (1 - eta) ** (n - 1 - k) for k in range(distance, n))


# --- fixed ---


@pytest.mark.parametrize(("eta", "n"), [(0.1, 20), (0.3, 3), (1.7, 9), (1.0, 4), (1.0, 2)])
def test_the_errors_of_fixed_have_a_closed_form(eta, n):
    """ε_ℓ is the gradient times g_ℓ; every layer below the n-th from the top has none."""
    found = get_feedback(f"predictive-coding:fixed,eta={eta},n={n}").errors(given())
    exact = get_feedback("symmetric").errors(given())
    for layer in range(1, LAYERS + 1):
        assert_close(found[layer], gain(n, eta, LAYERS - layer) * exact[layer], 1e-10)


def test_fixed_with_eta_one_is_backpropagation_and_so_is_its_meta_gradient():
    exact = random_problem(FORWARD, feedback="symmetric", widths=WIDTHS)
    for feedback in (f"predictive-coding:fixed,eta=1,n={LAYERS}", "predictive-coding:exact"):
        problem = replace(exact, learner=Learner.on_stack(exact.learner.network, feedback, FORWARD))
        found, expected = (get_engine("batched").run(each) for each in (problem, exact))
        assert_close(found.loss, expected.loss, 1e-14)
        assert_close(found.theta_gradient, expected.theta_gradient, 1e-12)


def test_the_relaxed_activities_are_those_after_the_last_sweep():
    shown = get_feedback("predictive-coding:fixed,eta=0.3,n=5").signals(given())
    later = get_feedback("predictive-coding:fixed,eta=0.3,n=6").signals(given())
    more, after = shown.more, later.more["prediction_error"]
    for layer in range(1, LAYERS):
        moved = more["feedforward"][layer] - after[layer]
        assert_close(more["relaxed"][layer], moved, 1e-12)
    assert shown.activities is more["feedforward"]


# --- strict ---


def plain(given, eta, n):
    """Return e_1 … e_L, ε_1 … ε_L and v of strict, written out with full matrices and v itself."""
    weights = [operator.tensor for operator in given.weights]
    sigma, slope = given.activation.apply, given.activation.derivative
    v, epsilon = list(given.activities), [None] * (LAYERS + 1)
    for _ in range(n):
        predicted = [None] + [sigma(v[k] @ w.mT) for k, w in enumerate(weights[:-1])]
        epsilon[LAYERS] = given.error_at(v[LAYERS - 1] @ weights[-1].mT)
        for k in range(1, LAYERS):
            epsilon[k] = predicted[k] - v[k]
        below = [None] * LAYERS
        for k in range(1, LAYERS):
            above = slope(predicted[k + 1]) if k + 1 < LAYERS else 1
            below[k] = (epsilon[k + 1] * above) @ weights[k]
        for k in range(1, LAYERS):
            v[k] = v[k] + eta * (epsilon[k] - below[k])
    slopes = [slope(sigma(v[k] @ w.mT)) for k, w in enumerate(weights[:-1])]
    errors = [epsilon[k + 1] * slopes[k] for k in range(LAYERS - 1)]
    return [*errors, epsilon[LAYERS]], epsilon[1:], v


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("eta", "n"), [(0.1, 20), (0.4, 1), (1.0, 4)])
def test_strict_is_the_plain_loop(activation, eta, n):
    pass_ = given(activation)
    shown = get_feedback(f"predictive-coding:strict,eta={eta},n={n}").signals(pass_)
    errors, epsilon, v = plain(pass_, eta, n)
    for layer in range(1, LAYERS + 1):
        assert_close(shown.errors[layer], errors[layer - 1], 1e-12)
        assert_close(shown.more["prediction_error"][layer], epsilon[layer - 1], 1e-12)
    for layer in range(LAYERS):
        assert_close(shown.activities[layer], v[layer], 1e-12)
    assert shown.activities[LAYERS] is pass_.activities[LAYERS]
    assert torch.equal(shown.activities[0], pass_.activities[0])


def test_a_loss_of_small_scale_brings_strict_to_backpropagation():
    """A large loss takes it away: strict depends on the scale of the loss."""
    off = []
    for scale in (1e-3, 1.0, 30.0):
        pass_ = given()
        scaled = replace(
            pass_, output_error=scale * pass_.output_error,
            objective_error=lambda z, at=pass_.error_at, s=scale: s * at(z),
        )  # fmt: skip
        found = get_feedback("predictive-coding:strict,eta=0.2,n=200").errors(scaled)
        exact = get_feedback("symmetric").errors(scaled)
        off.append(float((found[1] - exact[1]).norm() / exact[1].norm()))
    assert off[0] < 0.02 < off[1] < off[2]


@pytest.mark.parametrize("variant", ["strict", "fixed", "exact"])
def test_the_input_is_clamped_and_its_error_is_carried_down_once(variant):
    shown = get_feedback(f"predictive-coding:{variant}").signals(given())
    carried = given().weights[0].transposed(shown.errors[1])
    assert_close(shown.more["prediction_error"][0], carried, 1e-14)
    assert_close(shown.errors[0], carried * given().slope(0), 1e-14)


# --- single precision ---


def small_errors(dtype):
    """Return a pass whose errors are as small as those of the mean over a large batch."""
    push = 1e-7 * normal(2, 3, WIDTHS[-1], seed=9).to(dtype)
    pass_ = given(dtype=dtype)
    return replace(pass_, output_error=push, objective_error=lambda z: push + 0 * z)


@pytest.mark.parametrize("variant", ["fixed,eta=0.1,n=20", "strict,eta=0.1,n=20"])
def test_single_precision_makes_no_angles(variant):
    """Small beside activities near 1, the errors would be lost in v̂ − v."""
    feedback = get_feedback(f"predictive-coding:{variant}")
    single, double = (
        feedback.errors(small_errors(dtype)) for dtype in (torch.float32, torch.float64)
    )
    for a, b in zip(single[1:], double[1:], strict=True):
        assert float(angle(a.double(), b).max()) < 1e-3


def test_the_angles_of_fixed_to_backpropagation_vanish_in_single_precision():
    network = FullyConnected(WIDTHS, feedback_name="predictive-coding:fixed,eta=0.1,n=20")
    state = network.draw(2, seeded(), torch.float32)
    x, labels = torch.rand(2, 3, 5, generator=seeded(1)), torch.zeros(2, 3, dtype=torch.int64)
    assert float(network.error_angles(View.of(state), Examples(x, labels)).max()) < 1e-3


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "softplus:1.5"])
def test_a_difference_of_activities_is_exact_in_single_precision(activation):
    sigma = parse_activation(activation)
    z = torch.linspace(-3, 3, 41).repeat(14, 1)
    sizes = torch.tensor([1e-7, 1e-5, 1e-3, 0.05, 0.3, 3.0, 300.0])
    d = torch.cat([sizes, -sizes])[:, None].expand_as(z)
    z, d = z.clone().requires_grad_(), d.clone().requires_grad_()
    found = sigma.difference(z, d)
    wide = [t.detach().double().requires_grad_() for t in (z, d)]
    expected = sigma.apply(wide[0] + wide[1]) - sigma.apply(wide[0])
    off = (found - expected).abs() / (expected.abs() + 1e-8 * wide[1].abs())
    assert float(off.detach().max()) < 1e-4
    gradients = torch.autograd.grad(found.sum(), [z, d])
    exact = torch.autograd.grad(expected.sum(), wide)
    for a, b in zip(gradients, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4)


# --- learning with it ---


@pytest.mark.parametrize(
    ("variant", "engine"), [("strict", "fused"), ("fixed", "batched"), ("exact", "batched")]
)
def test_auto_takes_fused_for_strict(variant, engine):
    problem = random_problem(FORWARD, feedback=f"predictive-coding:{variant}")
    assert choose_engine("auto", problem.learner, torch.device("cpu")).name == engine


def test_fused_refuses_the_signals_that_only_predictive_coding_has():
    term = Term("p", -outer(post.signal("prediction_error"), pre.activity), "made up")
    learner = Learner.on_stack(FullyConnected((3, 4, 2)), "predictive-coding", (term,))
    refused = get_engine("fused").refusal(learner, torch.device("cpu"))
    assert "does not compute the signals prediction_error of the feedback" in refused


@pytest.mark.parametrize("variant", ["strict", "fixed"])
def test_the_outer_loop_survives_a_relaxation_that_diverges_and_names_the_step(variant):
    """With large weights, strict with η = 0.5 grows by a factor in each sweep; fixed cannot."""
    terms = ("error_hebbian", "decay")
    network = FullyConnected((6, 5, 4, 3), "relu", init="normal:30")
    feedback = f"predictive-coding:{variant},eta=0.5,n=25"
    learner = Learner.on_stack(network, feedback, named(*terms))
    theta = Coefficients(terms, torch.tensor([1e-9, 0.0]))
    settings = OuterSettings(episodes=2, meta_batch=2, backtrack=False, scaling="none")
    loop = OuterLoop("search", learner, Clouds(steps=2), get_engine("batched"), settings, theta)
    assert loop.run_step().non_finite == (2 if variant == "strict" else 0)
    if variant == "strict":
        (first, *_) = loop.progress.divergences
        assert first.startswith("search, outer step 0: non-finite learning at step 0, W")
        assert first.endswith("most of it from error_hebbian")


def test_a_term_may_read_the_signals_of_predictive_coding_only_with_it():
    term = Term("p", -outer(post.signal("prediction_error"), pre.signal("relaxed")), "made up")
    learner = Learner.on_stack(FullyConnected((3, 2)), "predictive-coding", (term,))
    assert learner.reads == term.signals
    text = refusal(Learner.on_stack, FullyConnected((3, 2)), "symmetric", (term,))
    assert "reads post.prediction_error, pre.relaxed" in text


def test_an_error_pass_without_an_objective_is_enough_for_all_but_strict():
    pass_ = ErrorPass(
        [Operator(normal(1, 4, 3)), Operator(normal(1, 2, 4))], [],
        [normal(1, 1, 3), normal(1, 1, 4), normal(1, 1, 2)], normal(1, 1, 2),
        parse_activation("tanh"),
    )  # fmt: skip
    for variant in ("fixed", "exact"):
        assert len(get_feedback(f"predictive-coding:{variant}").errors(pass_)) == 3
    assert "one output only" in refusal(get_feedback("predictive-coding:strict").errors, pass_)


# --- how it is written ---


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("predictive-coding", "predictive-coding:strict,eta=0.1,n=20"),
        ("Predictive-Coding:Fixed", "predictive-coding:fixed,eta=0.1,n=20"),
        ("predictive-coding:strict, n=5 , eta=2", "predictive-coding:strict,eta=2.0,n=5"),
        ("predictive-coding:exact", "predictive-coding:exact"),
        ("fixed", "fixed"),
    ],
)
def test_a_feedback_is_written_out_with_its_arguments(text, written):
    assert FullyConnected((3, 2), feedback_name=text).feedback_name == written
    rule = Rule(named("error_hebbian"), ((0.1,),), text)
    assert rule.feedback == Rule.from_json(rule.to_json()).feedback == written
    assert FullyConnected((3, 2), feedback_name=written) == FullyConnected(
        (3, 2), feedback_name=text
    )


@pytest.mark.parametrize(
    ("argument", "match"),
    [
        ("strict,eta=0", "above 0 and at most 2, got 0.0"),
        ("strict,eta=-1", "above 0"),
        ("fixed,eta=2.1", "at most 2"),
        ("fixed,eta=nan", "above 0"),
        ("fixed,eta=a", "got 'a'"),
        ("strict,n=0", "whole number from 1"),
        ("strict,n=2.5", "whole number from 1"),
        ("strict,n=1000000", "10,000"),
        ("strict,rate=3", "unknown setting of predictive-coding 'rate'; choose one of: eta, n"),
        ("strict,0.1", "got '0.1'"),
        ("strict,n=3,n=4", "takes each setting once, as name=value, got 'n=4'"),
        ("exact,n=3", "neither eta nor n"),
        ("strikt", "did you mean 'strict'"),
        ("", "nothing after its colon"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(argument, match):
    assert match in refusal(get_feedback, f"predictive-coding:{argument}")


@pytest.mark.parametrize("name", ["fixed", "symmetric", "plastic"])
def test_other_feedbacks_take_no_argument(name):
    assert f"write --feedback {name}." in refusal(get_feedback, f"{name}:3")


def test_a_known_rule_allows_a_feedback_with_any_argument():
    choice = choose_terms("predictive")
    given = "predictive-coding:fixed,eta=1,n=3"
    assert choice.choose_feedback(given) == given
    with pytest.raises(UserError, match="goes with feedback predictive-coding"):
        choice.choose_feedback("fixed")
