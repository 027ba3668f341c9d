"""Terms with traces and eligibilities: names, formulas, the plain loop, exact derivatives."""

import math
from dataclasses import replace

import numpy as np
import pytest
from recorded import planted, problem_of
from support import refusal

from metaplast.commands.simulate import read_rule
from metaplast.recordings.long_gradient import gradient
from metaplast.recordings.memory import Clock
from metaplast.recordings.model import ACTIVATIONS, Layer
from metaplast.recordings.moments import Problem
from metaplast.recordings.monomial import candidates, monomial
from metaplast.recordings.pieces import Free, Parameters, Walk
from metaplast.recordings.remembering import clocks_of, time_constants, with_memory
from metaplast.rules.rule import Rule

# All kinds of memory, also together: a trace within an eligibility, a power beside a trace.
NAMES = ("x_20y", "xy2_4", "x2_3yw", "xyr_e5", "x_20yw2r_e5", "xyr_6", "yy_9", "w_e3", "xy")
TERMS = tuple(map(monomial, NAMES))
THETA = np.array([0.3, -0.2, 0.1, 0.15, 0.1, 0.2, -0.1, -0.03, 0.2])
RULE = ",".join(f"{name}={value}" for name, value in zip(NAMES, THETA, strict=True))
CLOCKS = clocks_of(TERMS)


def rewarded(**design):
    return planted(RULE, **({"steps": 14, "eta": 0.5} | design))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("x_20y", "x̄(20) y"), ("xyr_e5", "r E(5){x y}"), ("xy2_100", "x ⟨y²⟩(100)"),
        ("xyy_2_5", "x y ȳ(2.5)"), ("xyr_6", "x y r̄(6)"), ("xyrr_6", "x y r r̄(6)"),
        ("x_20yw2r_e5", "r E(5){x̄(20) y W²}"), ("x2x_20", "x² x̄(20)"), ("w_e3", "E(3){W}"),
    ],
)  # fmt: skip
def test_names_and_labels(name, label):
    term = monomial(name)
    assert (term.name, term.label) == (name, label)
    assert monomial(term.name) == term
    assert term.to_term().name.isidentifier()
    assert monomial("X_20Y") == monomial("x_20y")
    assert monomial("x_2.5y") == monomial("x_2_5y")


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("continues", [False, True])
def test_the_compiled_model_is_the_plain_loop(activation, continues):
    found = rewarded(activation=activation, continues=continues, weights_every=5)
    problem = problem_of(found.arrays, activation=activation, eta=0.5)
    walk = Walk(problem.layer, problem.loss, TERMS, problem.free)
    means = []
    for each in problem.data.trajectories:
        pieces = list(walk.pieces(each, Parameters(THETA)))
        means.append(np.concatenate([piece.mean for piece in pieces]))
        for piece in pieces:
            if piece.weights is not None:
                assert np.abs(piece.weights.observed - piece.weights.mean).max() < 1e-11
    assert np.abs(np.concatenate(means) - np.concatenate(found.activity)).max() < 1e-11


def test_scores_are_derivatives_of_the_deviance():
    """With respect to θ, log τ of every kind, scale and gain, with all terms in the rule."""
    free = Free(scale=True, gain=True, clocks=CLOCKS)
    arrays = rewarded(weights_every=5).arrays
    arrays["plastic"] = np.ones((3, 14))
    arrays["plastic"][:, 6] = 0
    problem = replace(problem_of(arrays, eta=0.5, free=free), precision=2.0)
    taus = tuple(math.log(1.1 * clock.tau) for clock in CLOCKS)
    at = Parameters(1.2 * THETA, scale=1.1, gain=0.9, log_taus=taus)
    score = problem.moments(TERMS, at).score.sum(0)
    assert len(score) == len(TERMS) + len(CLOCKS) + 2

    def changed(index, by):
        values = np.concatenate([at.theta, at.others(free)])
        values[index] += by
        theta, *rest = np.split(values, [len(TERMS), len(values) - 2])
        scale, gain = rest[1]
        return Parameters(theta, scale=scale, gain=gain, log_taus=tuple(rest[0]))

    for index in range(len(score)):
        up, down = (problem.deviances(TERMS, changed(index, s * 1e-5))[0].sum() for s in (1, -1))
        assert score[index] == pytest.approx(-(up - down) / 4e-5, rel=1e-5, abs=1e-7), index


def test_scores_of_absent_terms_are_derivatives():
    problem = problem_of(rewarded().arrays, eta=0.5)
    theta = np.where(np.arange(len(TERMS)) % 3 == 0, THETA, 0.0)
    score = problem.moments(TERMS, Parameters(theta)).score.sum(0)
    for index in range(len(TERMS)):
        up, down = (
            problem.deviances(TERMS, Parameters(theta + s * 1e-5 * np.eye(len(TERMS))[index]))[0]
            for s in (1, -1)
        )
        expected = -(up.sum() - down.sum()) / 4e-5
        assert score[index] == pytest.approx(expected, rel=1e-5, abs=1e-7), index


def test_slopes_by_initial_weights_are_right():
    free = Free(initial=True, clocks=CLOCKS[:1])
    problem = problem_of(rewarded().arrays, eta=0.5, free=free)
    at = Parameters(THETA, log_taus=(math.log(CLOCKS[0].tau),))
    each = problem.data.trajectories[1]
    walk = Walk(problem.layer, problem.loss, TERMS, free)
    shift = np.zeros_like(each.initial)
    moved = replace(at, shift=(shift,))
    own = np.concatenate([piece.own for piece in walk.pieces(each, moved)])
    for i, j in ((0, 0), (3, 5)):
        means = []
        for sign in (1, -1):
            shift[i, j] = sign * 1e-6
            means.append(np.concatenate([p.mean for p in walk.pieces(each, moved)]))
            shift[i, j] = 0
        difference = (means[0] - means[1])[:, i] / 2e-6
        assert np.abs(own[:, i, j] - difference).max() < 1e-7


def test_pieces_do_not_change_what_is_kept(monkeypatch):
    from metaplast.recordings import pieces

    problem: Problem = problem_of(rewarded().arrays, eta=0.5)
    whole = problem.moments(TERMS, Parameters(THETA))
    monkeypatch.setattr(pieces, "_MOST", 3 * 4 * len(TERMS))
    parts = problem.moments(TERMS, Parameters(THETA))
    assert parts.total == pytest.approx(whole.total, rel=1e-13)
    assert parts.information == pytest.approx(whole.information, rel=1e-10)


def test_a_rule_file_holds_the_formula(tmp_path):
    terms = tuple(term.to_term() for term in TERMS)
    Rule(terms, (tuple(THETA),), "symmetric").save(tmp_path / "rule.json")
    again = read_rule(str(tmp_path / "rule.json"))
    assert [term.formula for term in again.terms] == [term.formula for term in terms]


def test_a_grid_of_memory():
    pool = with_memory(candidates("xy,x2y,W,xyr,r"), (5.0,), (3.0, 8.0))
    assert [term.name for term in pool] == [
        "xy", "x2y", "w", "xyr", "r", "x_5y", "x_5yr", "xy_5", "x2y_5", "xy_5r",
        "xyr_e3", "xyr_e8",
    ]  # fmt: skip
    assert clocks_of(pool) == (
        Clock("x", 1, 5.0), Clock("y", 1, 5.0), Clock("e", 1, 3.0), Clock("e", 1, 8.0),
    )  # fmt: skip


WRONG = {
    "above 1 step; with 1 step there is no memory": lambda: monomial("x_1y"),
    "an eligibility needs": lambda: monomial("r_e5"),
    "as in x_20y_5r_e5": lambda: monomial("x_20q_5"),
    "--traces takes time constants above 1 step": lambda: time_constants("--traces", "5,1"),
    "got 'a'": lambda: time_constants("--traces", "a"),
    "each time constant once": lambda: time_constants("--traces", "5,5"),
}


@pytest.mark.parametrize("words", WRONG)
def test_a_mistake_is_one_sentence(words):
    assert words in refusal(WRONG[words])


def test_reverse_mode_refuses_memory():
    problem = problem_of(planted("xy=1").arrays)
    assert "without traces" in refusal(
        gradient, problem, (monomial("x_5y"),), Parameters(np.zeros(1))
    )


def test_memory_begins_anew_at_the_start_of_each_trial():
    """In the plain loop, as in the compiled steps."""
    rule, layer = read_rule(RULE), Layer()
    made = planted(RULE, continues=True, steps=7).arrays
    x, r, w = made["inputs"], made["reward"], made["initial_weights"][None]
    starts = np.tile(np.arange(7) == 0, 3)[None]
    whole = x.reshape(1, 21, -1), r.reshape(1, 21), np.ones((1, 21), bool)
    y, final = rule.run(layer, *whole, w, starts=starts)
    for trial in range(3):
        one = slice(trial, trial + 1)
        own, w = rule.run(layer, x[one], r[one], np.ones((1, 7), bool), w)
        assert np.array_equal(own[0], y[0, 7 * trial : 7 * trial + 7])
    assert np.array_equal(w, final)
