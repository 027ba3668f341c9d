"""The fused engine on recurrent networks whose terms read drives and potentials."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from support import assert_close, named
from systems.fused_recurrent_example import (
    FEEDBACKS,
    TEN,
    TIMINGS,
    assert_same,
    fused,
    problem,
    term,
)

from metaplast.discovery.config import DiscoveryConfig
from metaplast.engines import get_engine
from metaplast.engines.choose import choose_engine
from metaplast.engines.fused_recurrent.batch import Batch
from metaplast.engines.fused_recurrent.served import MOST_KEPT
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import OFFERED
from metaplast.systems.timing import Timing
from metaplast.terms.algebra import W, dot, outer, post, pre, total

CPU = torch.device("cpu")
DRIVE, POST_Z, PRE_Z = post.signal("drive"), post.signal("potential"), pre.signal("potential")
HEBB = outer(post.activity, pre.activity)
OJAS = named("drive_oja", "potential_oja")
# Rows, columns, projections, gates and decays; at W_h alone, at W_h and W_o, and at all.
GATED = (
    term("everywhere", outer(POST_Z, pre.activity) - outer(POST_Z, W.T @ POST_Z)),
    term("behind", dot(PRE_Z, pre.error) * outer(post.error, PRE_Z)),
    term("projected", outer(post.activity, W.T @ DRIVE)),
    term("faded", total(DRIVE) * (-0.1 * W) + dot(POST_Z, post.error) * (-0.1 * W)),
    term("matched", dot(W.T @ DRIVE, PRE_Z) * (total(POST_Z) * outer(DRIVE, pre.error))),
)
RULES = {"pool": TEN + OJAS, "gated": OJAS + GATED}


def is_served(feedback, timing):
    return feedback != "truncated" or not timing.each


def products():
    """Return each signal of W_h times each, and each with its like as a gate."""
    signals = sorted(OFFERED["recurrent"] | {post.one, pre.one}, key=lambda signal: signal.written)
    rows = [signal for signal in signals if signal.population == "post"]
    ends = [signal for signal in signals if signal.population == "pre"]
    columns = [*ends, *(W.T @ row for row in rows)]
    outers = [outer(row, column) for row in rows for column in columns]
    gated = [dot(a, b) * HEBB for side in (rows, columns) for a in side for b in side]
    faded = [dot(a, b) * (-0.1 * W) for a, b in pairwise(columns)]
    formulas = outers + gated + faded
    return tuple(term(f"term_{index}", formula) for index, formula in enumerate(formulas))


@pytest.mark.parametrize("per_site", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    "timing",
    [
        pytest.param(
            timing, id=timing.description, marks=pytest.mark.slow if index in (1, 2) else ()
        )
        for index, timing in enumerate(TIMINGS)
    ],
)
@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_it_agrees_with_batched(feedback, timing, rule, per_site):
    if not is_served(feedback, timing):
        pytest.skip("refused")
    given = problem(feedback, RULES[rule], timing, size=1e-3, per_site=per_site)
    assert_same(fused(given), get_engine("batched").run(given))


@pytest.mark.parametrize("per_site", [False, True])
@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_it_agrees_with_the_reference(feedback, per_site):
    timing = TIMINGS[0] if feedback == "truncated" else TIMINGS[3]
    given = problem(feedback, OJAS + GATED, timing, steps=2, size=1e-3, per_site=per_site)
    assert_same(fused(given), get_engine("reference").run(given))


@pytest.mark.parametrize("terms", [OJAS[:1], GATED[:2], GATED[1:2]], ids=lambda ts: ts[0].name)
def test_it_agrees_if_only_one_of_them_is_read(terms):
    given = problem("symmetric", terms)
    assert len({s.kind for s in given.learner.reads} & {"drive", "potential"}) == 1
    assert_same(fused(given), get_engine("batched").run(given))


@pytest.mark.parametrize("activation", ["softplus:3", "relu"])
def test_it_agrees_with_any_activation(activation):
    given = problem("symmetric", OJAS + GATED, size=1e-3, activation=activation)
    assert_same(fused(given), get_engine("batched").run(given))


@pytest.mark.parametrize("each", [False, True])
def test_it_agrees_on_any_product_of_signals(each):
    given = problem("symmetric", products(), Timing(2, 1, 4, each=each), steps=3, size=1e-4)
    assert {s for t in given.learner.terms for s in t.signals} == OFFERED["recurrent"]
    assert_same(fused(given), get_engine("batched").run(given))


@pytest.mark.parametrize("timing", [TIMINGS[0], TIMINGS[3]], ids=["last", "each"])
def test_the_gradient_is_that_of_finite_differences(timing):
    given, step = problem("symmetric", OJAS + GATED, timing, size=1e-3), 1e-6
    found = fused(given).theta_gradient
    for site in range(3):
        for index in range(len(given.learner.terms)):
            unit = torch.zeros_like(given.theta)
            unit[site, index] = step
            up, down = (
                fused(replace(given, theta=theta), gradient=False).loss
                for theta in (given.theta + unit, given.theta - unit)
            )
            assert_close(found[:, site, index], (up - down) / (2 * step), 1e-6)


def test_segments_give_the_same_digits():
    given = problem("symmetric", TEN + OJAS + GATED, steps=10, size=1e-3)
    whole, cut = (Batch(given, 1, True, most) for most in (MOST_KEPT, 1))
    assert (whole.sizes.segments, cut.sizes.segments) == (1, 4)
    assert_same(whole.run(), cut.run(), 0.0)


def test_single_precision_agrees():
    given = problem(terms=RULES["pool"], size=1e-3, dtype=torch.float32)
    assert_same(fused(given), get_engine("batched").run(given), 1e-3)


@pytest.mark.parametrize("feedback", FEEDBACKS)
def test_auto_takes_it_for_the_whole_pool(feedback):
    terms = DiscoveryConfig.for_system("recurrent", terms="all").choice.terms
    assert {*OJAS} < {*terms}
    learner = Learner(problem(feedback).learner.system, terms)
    assert choose_engine("auto", learner, CPU).name == "fused"
