"""The fused engine on recurrent networks: against `batched`, `reference` and finite differences."""

from dataclasses import replace

import pytest
import torch
from support import assert_close, assert_is_one_sentence, named, normal
from systems.fused_recurrent_example import (
    ACTIVATIONS,
    FEEDBACKS,
    MANY,
    TEN,
    TIMINGS,
    assert_same,
    fused,
    problem,
    term,
)

from metaplast.engines import get_engine
from metaplast.engines.choose import choose_engine
from metaplast.engines.fused import FusedEngine, Settings
from metaplast.engines.fused_recurrent.batch import Batch
from metaplast.engines.fused_recurrent.served import MOST_KEPT
from metaplast.engines.memory_need import history_bytes
from metaplast.systems import feedback as feedbacks
from metaplast.systems.constrained import constrained
from metaplast.systems.feedback import all_feedbacks
from metaplast.systems.feedbacks.fixed import Fixed
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.timing import Timing
from metaplast.terms.algebra import W, outer, post, pre, trace
from metaplast.terms.library import choose_terms

CPU = torch.device("cpu")


@pytest.mark.parametrize("timing", TIMINGS, ids=lambda timing: timing.description)
@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_it_agrees_with_batched(feedback, timing):
    if feedback == "truncated" and timing.each:
        pytest.skip("refused")
    given = problem(feedback, timing=timing)
    assert_same(fused(given), get_engine("batched").run(given))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("feedback", ["fixed", "symmetric"])
def test_it_agrees_with_any_activation(feedback, activation):
    given = problem(feedback, activation=activation, size=0.01)
    assert_same(fused(given), get_engine("batched").run(given))


@pytest.mark.parametrize("reach", [0, 1, 5, 6, 40])
def test_it_agrees_with_any_reach(reach):
    given = problem(f"truncated:{reach}")
    assert_same(fused(given), get_engine("batched").run(given))


@pytest.mark.parametrize("names", ["F0", "F3", "F9", "F0,F9", "F2", "F8", ""])
def test_it_agrees_with_rules_of_few_terms(names):
    """Some terms only read an input, only grow, or change nothing."""
    given = problem(terms=choose_terms(names).terms if names else ())
    assert_same(fused(given), get_engine("batched").run(given))


@pytest.mark.parametrize("widths", [(1, 1, 2), (16, 16, 16), (40, 33, 17), (3, 130, 2)])
def test_it_agrees_at_any_width(widths):
    """Sizes of part of a register, of whole registers, and of several panels of registers."""
    given = problem(widths=widths, terms=TEN, size=1e-3)
    assert_same(fused(given), get_engine("batched").run(given))


def test_it_agrees_with_the_reference():
    given = problem("symmetric", TEN, Timing(1, 1, 2), steps=2, per_site=False)
    assert_same(fused(given), get_engine("reference").run(given))


@pytest.mark.parametrize("feedback", ["fixed", "symmetric"])
def test_the_gradient_is_that_of_finite_differences(feedback):
    given, step = problem(feedback, timing=Timing(1, 2, 4)), 1e-6
    found = fused(given).theta_gradient
    for site in range(3):
        for index in range(len(MANY)):
            unit = torch.zeros_like(given.theta)
            unit[site, index] = step
            up, down = (
                fused(replace(given, theta=theta), gradient=False).loss
                for theta in (given.theta + unit, given.theta - unit)
            )
            assert_close(found[:, site, index], (up - down) / (2 * step), 1e-6)


@pytest.mark.slow
def test_single_precision_agrees():
    given = problem(dtype=torch.float32)
    assert_same(fused(given), get_engine("batched").run(given), 1e-3)


@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_segments_give_the_same_digits(steps):
    """Steps that are taken again are the same to the bit."""
    given = problem(steps=steps)
    whole, cut = (Batch(given, 1, True, most) for most in (MOST_KEPT, 1))
    assert whole.sizes.segments == 1
    assert cut.sizes.segments == {1: 1, 2: 2, 3: 3, 10: 4}[steps]
    assert_same(whole.run(), cut.run(), 0.0)


def test_threads_give_the_same_digits():
    given = problem()
    assert_same(FusedEngine(Settings(threads=2)).run(given), fused(given), 0.0)


def test_memory_that_held_nan_does_no_harm():
    given = problem()
    expected = fused(given)
    broken = replace(given, theta=given.theta * torch.nan)
    assert not fused(broken).finite.any()
    assert_same(fused(given), expected, 0.0)


def test_query_labels_may_be_probabilities():
    given = problem()
    soft = torch.softmax(normal(2, 4, 3, seed=9), -1)
    batch = replace(given.episodes, query_y=soft.double())
    given = replace(given, episodes=batch)
    assert_same(fused(given), get_engine("batched").run(given))


def test_auto_takes_it():
    learner = problem(terms=TEN).learner
    assert choose_engine("auto", learner, CPU).name == "fused"


class Doubled(Fixed):
    """A feedback outside of metaplast that does more than multiply by its matrix."""

    name = "doubled"
    summary = "twice the fixed feedback"

    def below(self, layer, error, given):
        return 2 * super().below(layer, error, given)


HEBB = outer(post.activity, pre.activity)
REFUSED = {
    "a function": ((term("cubes", outer(post.activity**3, pre.activity)),), {}),
    "a power": ((term("bound", W * HEBB),), {}),
    "a trace": ((term("slow", outer(trace(post.activity, 3), pre.activity)),), {}),
    "a backward term": (named("backward_hebbian"), {"feedback": "plastic"}),
    "numbers as targets": (TEN, {"objective_name": "mse"}),
    "every step": (TEN, {"feedback": "truncated", "timing": TIMINGS[3]}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_it_does_not_serve_goes_to_batched(what):
    terms, options = REFUSED[what]
    feedback = options.get("feedback", "fixed")
    name = f"{feedback}:2" if feedback == "truncated" else feedback
    system = Recurrent(
        (3, 4, 2), options.get("timing", TIMINGS[0]), feedback_name=name,
        objective_name=options.get("objective_name", "cross-entropy"),
    )  # fmt: skip
    assert_goes_to_batched(Learner(system, tuple(terms)))


def assert_goes_to_batched(learner):
    refusal = get_engine("fused").refusal(learner, CPU)
    assert_is_one_sentence(refusal)
    assert "--engine batched" in refusal
    assert choose_engine("auto", learner, CPU).name == "batched"


def test_a_feedback_that_does_more_than_a_matrix_goes_to_batched(monkeypatch):
    known = {**all_feedbacks(), "doubled": Doubled()}
    monkeypatch.setattr(feedbacks, "all_feedbacks", lambda: known)
    assert_goes_to_batched(Learner(Recurrent((3, 4, 2), TIMINGS[0], feedback_name="doubled"), TEN))


def test_weights_within_limits_go_to_batched():
    system = constrained(Recurrent((3, 4, 2), TIMINGS[0]), "nonnegative")
    assert_goes_to_batched(Learner(system, TEN))


@pytest.mark.parametrize("names", ["", "drive_oja", "potential_oja"])
def test_what_is_kept_is_foreseen_and_limited(names):
    given = problem(terms=(*TEN, *named(*names.split())))
    batch, steps = Batch(given, 1, True), given.episodes.steps
    foreseen = history_bytes(given.learner, "fused", steps, torch.float64)
    kept = steps * 8 * (batch.program.net.size + batch.program.net.weights)
    assert kept / 8 < foreseen <= kept  # Padding makes small networks larger.
    assert history_bytes(given.learner, "fused", 10**9, torch.float64) == MOST_KEPT
