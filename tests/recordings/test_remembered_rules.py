"""Planted rules with traces and eligibilities, read back with their time constants."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from recorded import planted, problem_of
from support import refusal

from metaplast.commands.simulate import read_rule
from metaplast.recordings import InferenceSettings, Layer, Recording, infer
from metaplast.recordings.fit import fit
from metaplast.recordings.fitted_taus import _named, _needed, tau_notes
from metaplast.recordings.monomial import monomial
from metaplast.recordings.pieces import Free
from metaplast.recordings.program import program
from metaplast.recordings.remembering import clocks_of
from metaplast.report.inferred import write_files

SIZE = {"trials": 12, "steps": 30, "inputs": 8, "neurons": 3, "noise": 0.03}
TERMS = "xy,W,y,xyr,r"


@pytest.fixture(scope="module")
def traced():
    """A rule whose τ of 8 lies between two of the grid, and a trace of y."""
    made = planted("x_8y=1,W=-0.05", **SIZE)
    settings = InferenceSettings("xy,W,y", traces="4,20")
    return infer(Recording.of(made.arrays), settings)


@pytest.fixture(scope="module")
def rewarded():
    """A rule of three factors."""
    made = planted("xyr_e6=0.6,W=-0.05", **SIZE)
    settings = InferenceSettings(TERMS, traces="10", eligibilities="3,20")
    return infer(Recording.of(made.arrays), settings, compare=False)


@pytest.mark.slow
def test_a_trace_is_read_back_with_its_time_constant(traced):
    assert [each.term.memory.clocks != () for each in traced.terms].count(True) == 1
    (kept,) = (each for each in traced.terms if each.term.memory.clocks)
    assert kept.term.label.startswith("x̄(")
    assert kept.low < 1 < kept.high
    assert kept.is_certain
    (own,) = traced.time_constants
    assert own.low < 8 < own.high
    assert own.high / own.low < 1.5
    assert own.terms == (kept.term.label,)
    assert "w" in traced.theta
    (line,) = traced.taus_in_words
    assert line.startswith("x̄ has τ = ")
    assert kept.term.memory.pre == own.tau


def test_an_eligibility_with_the_reward_is_read_back(rewarded):
    (kept,) = (each for each in rewarded.terms if each.term.memory.clocks)
    assert kept.term.label.startswith("r E(")
    assert kept.low < 0.6 < kept.high
    (own,) = rewarded.time_constants
    assert own.low < 6 < own.high
    assert set(rewarded.theta) == {"w", kept.term.name}


@pytest.mark.slow
def test_time_constants_and_the_noise_of_weights_are_fitted_together():
    made = planted("x_8y=1", **SIZE, weights_every=10, weight_noise=0.05)
    settings = InferenceSettings("xy,y", traces="4,20")
    found = infer(Recording.of(made.arrays), settings, compare=False)
    (own,) = found.time_constants
    assert own.low < 8 < own.high
    assert found.noise == pytest.approx(0.03, rel=0.1)
    assert found.weight_noise == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize(("rule", "kept"), [("x_8y=1", 1), ("x_3y=1,x_25y=-1", 2)])
def test_terms_that_another_time_constant_replaces_leave(rule, kept):
    """Two neighbours on the grid merge into one τ between them; two τ of the rule stay."""
    terms = tuple(map(monomial, ("x_4y", "x_20y")))
    made = planted(rule, **(SIZE | {"noise": 0.0}))
    problem = problem_of(made.arrays, free=Free(clocks=clocks_of(terms)))
    both = fit(problem, terms)
    judged = SimpleNamespace(threshold=3.5, quadratic=SimpleNamespace(dispersion=0.03**2))
    found, steps = _needed(problem, both, judged)
    assert (len(found.terms), len(steps)) == (kept, 2 - kept)
    _, named = _named(problem, found)
    taus = sorted(term.memory.pre for term in named.terms)
    assert taus == pytest.approx([8] if kept == 1 else [3, 25], rel=1e-3)


def test_time_constants_may_be_those_of_the_grid():
    made = planted("x_8y=1", **SIZE)
    settings = InferenceSettings("xy,y", traces="8", fit_tau=False)
    found = infer(Recording.of(made.arrays), settings, compare=False)
    assert set(found.theta) == {"x_8y"}
    assert found.time_constants == ()


@pytest.mark.slow
def test_plain_data_and_the_rule_have_the_time_constants(traced, tmp_path):
    data = json.loads(json.dumps(traced.to_json()))
    assert data["time_constants"][0]["of"] == "x"
    memory = [term["memory"] for term in data["terms"] if term["memory"]]
    assert memory == [[{"kind": "x", "power": 1, "tau": traced.time_constants[0].tau}]]
    traced.rule().save(tmp_path / "rule.json")
    again = read_rule(str(tmp_path / "rule.json"))
    assert dict(zip((t.name for t in again.terms), again.theta, strict=True)) == traced.theta


MANY = ("x_20y", "x2_3yw", "xyr_e5", "x_20yw2r_e5", "xyr_e9", "xyr_6", "yy_9", "w_e3", "xy2_4")


@pytest.mark.slow
def test_the_program_computes_what_the_plain_rule_computes(traced):
    values = 0.05 * np.arange(1, 10) * (-1) ** np.arange(9)
    terms = tuple(
        replace(traced.terms[0], term=monomial(name), theta=float(value))
        for name, value in zip(MANY, values, strict=True)
    )
    own = {}
    exec(program(replace(traced, terms=terms)), own)
    rule = read_rule(",".join(f"{n}={v!r}" for n, v in zip(MANY, map(float, values), strict=True)))
    made = planted("xyr=0", steps=15).arrays
    x, r, w = made["inputs"], made["reward"], made["initial_weights"]
    y, final = rule.run(Layer(), x, r, np.ones(r.shape, bool), w)
    activity, weights = own["learn"](w[1], x[1], r[1])
    assert np.abs(activity - y[1]).max() < 1e-12
    assert np.abs(weights - final[1]).max() < 1e-12


@pytest.mark.slow
def test_the_found_program_has_the_fitted_time_constant(traced):
    own = {}
    exec(program(traced), own)
    assert own["TAU"] == {"x1": traced.time_constants[0].tau}
    assert own["THETA"] == traced.theta


WRONG = {
    "--traces takes time constants above 1": {"traces": "0.5"},
    "needs candidates with the reward": {"eligibilities": "5"},
    "needs candidates with x or y": {"terms": "W", "traces": "5"},
    "has terms with a reward": {"terms": "xyr", "eligibilities": "5"},
}


@pytest.mark.parametrize("words", WRONG)
def test_a_mistake_is_one_sentence(words):
    def run():
        infer(Recording.of(planted("xy=1").arrays), InferenceSettings(**WRONG[words]))

    assert words in refusal(run)


@pytest.mark.slow
def test_a_time_constant_that_is_longer_than_trials_is_noted(traced):
    (own,) = traced.time_constants
    assert tau_notes([own], 30) == []
    (note,) = tau_notes([replace(own, high=31.0)], 30)
    assert note.startswith("τ of x̄ may be longer than the 30 steps")


@pytest.mark.slow
def test_the_report_and_tensorboard_show_the_time_constant(traced, tmp_path):
    page = write_files(traced, tmp_path).read_text("utf-8")
    assert traced.taus_in_words[0] in page
    assert "x̄(τ) is a trace of x" in page
    events = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    for name in (b"tau/x/value", b"tau/x/low", b"tau/x/high"):
        assert name in events
