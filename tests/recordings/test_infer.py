"""Inference from recordings to the result: rule, words, comparison, program."""

import json
from dataclasses import replace

import numpy as np
import pytest
from recorded import planted
from support import refusal

from metaplast.base.errors import UserError
from metaplast.commands.simulate import read_rule
from metaplast.recordings import InferenceSettings, Recording, infer
from metaplast.recordings.comparison import FITTED_NULL, INFERRED, NULL
from metaplast.recordings.inference_settings import check
from metaplast.recordings.monomial import candidates, monomial
from metaplast.recordings.odours import Odours, less_expected, simulate_odours
from metaplast.recordings.pieces import Free
from metaplast.recordings.program import program
from metaplast.recordings.published import published_rules
from metaplast.recordings.result import FoundTerm

SIZE = {"trials": 12, "steps": 30, "inputs": 10, "noise": 0.03}


@pytest.fixture(scope="module")
def made():
    return planted("xy=1,y2W=-1", **SIZE)


@pytest.fixture(scope="module")
def found(made):
    return infer([Recording.of(made.arrays, "a.npz")], InferenceSettings(terms="monomials:3"))


def test_the_planted_rule_with_intervals_that_cover_it(found):
    assert set(found.theta) == {"xy", "y2w"}
    for each in found.terms:
        assert each.low < {"xy": 1.0, "y2w": -1.0}[each.term.name] < each.high
        assert each.kept > 0.5
        assert each.without.mean > 0
    assert found.p < 0.02
    assert found.noise == pytest.approx(0.03, rel=0.15)
    assert found.equation.startswith("ΔW = ")


def test_both_nulls_and_published_rules_stand_beside_it(found):
    by_name = {model.name: model.explained for model in found.models}
    assert set(by_name) == {INFERRED, NULL, FITTED_NULL, *published_rules()}
    assert by_name[NULL].mean == 0
    assert by_name[INFERRED].mean > 0.5
    assert by_name[INFERRED].mean > by_name["Hebb"].mean
    assert by_name["Oja"].mean == pytest.approx(by_name[INFERRED].mean, abs=0.05)
    (oja,) = (model for model in found.models if model.name == "Oja")
    assert float(oja.text.split()[2]) == pytest.approx(1, abs=0.1)


def test_what_was_found_is_plain_data(found):
    data = json.loads(json.dumps(found.to_json()))
    assert {term["name"] for term in data["terms"]} == {"xy", "y2w"}
    assert data["candidates"] == 20
    assert len(data["in_words"]) == 2


def test_the_program_computes_what_the_model_computes(made, found):
    own = {}
    exec(program(found), own)
    rule = read_rule(",".join(f"{name}={value!r}" for name, value in found.theta.items()))
    again = planted("xy=1", **(SIZE | {"noise": 0.0}))
    x, w = again.arrays["inputs"], again.arrays["initial_weights"]
    from metaplast.recordings.model import Layer

    y, final = rule.run(Layer(), x, np.zeros(x.shape[:2]), np.ones(x.shape[:2], bool), w)
    activity, weights = own["learn"](w[3], x[3])
    assert np.abs(activity - y[3]).max() < 1e-12
    assert np.abs(weights - final[3]).max() < 1e-12


def test_the_program_of_a_rule_with_rewards_and_of_none(found):
    terms = tuple(
        replace(found.terms[0], term=monomial(name), theta=0.1) for name in ("x2yr", "one", "w2")
    )
    own = {}
    exec(program(replace(found, terms=terms)), own)
    x, y, w = np.array([0.5, -1.0]), np.array([0.2]), np.array([[0.3, 0.4]])
    expected = 0.1 * (x**2 * 0.2 * 2.0 + 1 + w**2)
    assert own["change"](x, y, w, 2.0) == pytest.approx(expected)
    exec(program(replace(found, terms=())), own)
    assert own["change"](x, y, w).tolist() == [[0, 0]]


def test_the_rule_goes_to_the_other_commands(found, tmp_path):
    rule = found.rule()
    rule.save(tmp_path / "rule.json")
    again = read_rule(str(tmp_path / "rule.json"))
    assert dict(zip((t.name for t in again.terms), again.theta, strict=True)) == found.theta


def test_sentences_say_what_the_data_cannot_tell():
    term = FoundTerm(monomial("w"), 1.0, 0.9, 1.1, 1.0, ("y W", "y² W"), (), 1.0, None)
    assert term.in_words == "one of W, y W, y² W: these data cannot tell."
    pair = replace(term, alone=(), together=(("x", "x y²"),))
    assert pair.in_words == "W, or x with x y²: these data cannot tell."
    many = replace(pair, together=(("x", "y"),) * 5)
    assert (
        many.in_words
        == "W, or x with y, or x with y, or x with y or 2 other pairs: these data cannot tell."
    )
    assert replace(term, alone=()).is_certain
    assert not pair.is_certain
    assert not term.is_certain


def test_no_plasticity_is_said(made):
    still = planted("xy=0", **SIZE)
    result = infer([Recording.of(still.arrays)], InferenceSettings(terms="monomials:2"))
    assert result.terms == ()
    assert "no candidate is significant" in result.in_words[0]
    assert result.equation == "ΔW = 0"
    assert result.rule().terms == ()


def test_rewards_in_another_order_explain_nothing():
    arrays = planted("xyr=1", **SIZE).arrays
    settings = InferenceSettings(terms="monomials:2,reward")
    found = infer([Recording.of(arrays)], settings, compare=False)
    assert set(found.theta) == {"xyr"}
    arrays["reward"] = (
        np.random.default_rng(1).permutation(arrays["reward"].ravel()).reshape(12, 30)
    )
    mixed = infer([Recording.of(arrays)], settings, compare=False)
    assert not any(each.term.reward for each in mixed.terms)


@pytest.mark.slow
@pytest.mark.parametrize("initial", ["fitted", "scale"])
def test_initial_weights_may_be_fitted(initial):
    arrays = planted("xy=1,y2W=-1", **(SIZE | {"continues": True, "trials": 30})).arrays
    if initial == "fitted":
        del arrays["initial_weights"]
    else:
        arrays["initial_weights"] = 0.5 * arrays["initial_weights"]
    settings = InferenceSettings("xy,y2W,W,x,y", initial=initial)
    found = infer([Recording.of(arrays)], settings, compare=False)
    assert set(found.theta) == {"xy", "y2w"}
    for each in found.terms:
        assert each.low < {"xy": 1.0, "y2w": -1.0}[each.term.name] < each.high
    assert found.scale == (None if initial == "fitted" else pytest.approx(2, rel=0.1))


def test_a_gain_is_fitted():
    arrays = planted("xy=1,y2W=-1", **SIZE).arrays
    arrays["activity"] = 3 * arrays["activity"]
    found = infer([Recording.of(arrays)], InferenceSettings("xy,y2W,W", gain=True), compare=False)
    assert found.gain == pytest.approx(3, rel=0.05)
    assert set(found.theta) == {"xy", "y2w"}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "activation"), [("counts", "softplus"), ("choices", "sigmoid")])
def test_counts_and_choices_of_neurons(kind, activation):
    design = SIZE | {"observe": kind, "trials": 60, "noise": 0.0, "neurons": 8}
    arrays = planted("xy=1,y2W=-0.8", activation=activation, eta=0.3, **design).arrays
    settings = InferenceSettings("xy,y2W,x,y,one", activation=activation, eta=0.3)
    found = infer([Recording.of(arrays)], settings, compare=False)
    assert set(found.theta) == {"xy", "y2w"}
    assert found.noise is None


def test_several_animals_are_held_out_and_drawn_whole():
    animals = [
        Recording.of(
            planted("xy=1,y2W=-1", seed=seed, **(SIZE | {"trials": 3})).arrays, f"{seed}.npz"
        )
        for seed in range(10)
    ]
    found = infer(animals, InferenceSettings("xy,y2W,W", by="animals"))
    assert found.data["independent"] == "8 animals"
    assert found.data["held out"] == "2 animals"
    assert set(found.theta) == {"xy", "y2w"}
    assert any("only 8 animals" in note for note in found.notes)


def test_a_single_trial_is_split_in_time():
    arrays = planted("xy=1,y2W=-1", **(SIZE | {"trials": 1, "steps": 300, "eta": 0.1})).arrays
    found = infer([Recording.of(arrays)], InferenceSettings("xy,y2W", eta=0.1), compare=False)
    assert found.data["independent"] == "40 parts of trials"
    assert found.data["held out"] == "40 parts of the last steps"


@pytest.mark.slow
def test_choices_between_odours_tell_the_rule():
    task = Odours(trials=50)
    flies = [Recording.of(simulate_odours(read_rule("xr=1"), task, seed=seed)) for seed in range(4)]
    settings = InferenceSettings(
        "monomials:2,reward", activation="tanh", eta=0.5, reward_memory=task.memory
    )
    found = infer(flies, settings, compare=False)
    assert "xr" in found.theta
    (term,) = (each for each in found.terms if each.term.name == "xr")
    assert term.low < 1 < term.high


def test_expected_rewards_are_the_mean_of_the_last_ones():
    draw = np.random.default_rng(0)
    reward, lengths = draw.random((9, 4)), (4, 2, 1, 3, 4, 2, 2, 1, 3)
    found = less_expected(reward, lengths, 3)
    last = [0.0, 0.0, 0.0]
    for trial, steps in enumerate(lengths):
        assert found[trial] == pytest.approx(reward[trial] - np.mean(last[-3:]))
        last.append(reward[trial, steps - 1])


SCALED = {
    "check the unit": ("activity", 1000),
    "off by a thousand": ("inputs", 1000),
}


@pytest.mark.parametrize("words", SCALED)
def test_units_that_are_off_are_said(words):
    name, factor = SCALED[words]
    arrays = planted("xy=0", trials=2, steps=4).arrays
    arrays[name] = factor * arrays[name]
    found = infer([Recording.of(arrays)], InferenceSettings("xy"), compare=False)
    assert any(words in note for note in found.notes)


def two(**changes):
    arrays = planted("xy=1").arrays
    return [Recording.of(arrays, "a"), Recording.of(arrays | changes, "b")]


def without(name):
    arrays = planted("xy=1").arrays
    del arrays[name]
    return arrays


def frozen(**values):
    arrays = planted("xy=1").arrays
    trials = len(arrays["inputs"])
    return Recording.of(arrays | {k: np.full(trials, v) for k, v in values.items()})


def test_weights_that_carry_over_are_seen_in_the_next_trial():
    arrays = planted("xy=1").arrays
    trials = len(arrays["inputs"])
    weights = arrays["initial_weights"][0]
    made = Recording.of(
        arrays | {"lengths": np.ones(trials), "continues": 1, "initial_weights": weights}
    )
    check([made], candidates("xy"), InferenceSettings(), Free())


REFUSED = {
    "needs at least one recording": ([], {}),
    "has terms with a reward, but these files have no reward: a, b": (
        two(), {"terms": "taylor-reward"},
    ),
    "needs initial_weights in every file, but these have none: b": (
        [two()[0], Recording.of(without("initial_weights"), "b")], {"initial": "given"},
    ),
    "needs at least 10 files": (two(), {"by": "animals"}),
    "same number of inputs": (
        [two()[0], Recording.of(planted("xy=1", inputs=5).arrays)], {},
    ),
    "the same kind of observation": (
        [two()[0], Recording.of(planted("xy=1", observe="choices").arrays)], {},
    ),
    "need --activation sigmoid": (
        [Recording.of(planted("xy=1", observe="choices").arrays)], {"activation": "tanh"},
    ),
    "all rewards are 0": ([frozen(reward=0)], {"terms": "taylor-reward"}),
    "after a step at which weights change": ([frozen(plastic=0)], {}),
    "give trials with more steps": ([frozen(lengths=1)], {}),
    "a fit needs at least 2": ([Recording.of(planted("xy=1", trials=1, steps=2).arrays)], {}),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_what_does_not_fit_is_one_sentence(words):
    recordings, settings = REFUSED[words]
    assert words in refusal(infer, recordings, InferenceSettings(**settings))


WRONG = {
    "--held-out": {"held_out": 0.0},
    "--activation": {"activation": "step"},
    "--initial": {"initial": "known"},
    "--by": {"by": "day"},
    "--seed": {"seed": -1},
    "--reward-memory": {"reward_memory": -1},
    "pool or monomial": {"terms": "taylr"},
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_settings_are_one_sentence(words):
    assert words in refusal(InferenceSettings, **WRONG[words])


def test_what_is_no_recording_is_named_and_one_recording_is_enough():
    arrays = planted("xy=0.5").arrays
    with pytest.raises(UserError, match=r"infer takes recordings, got dict; write infer"):
        infer([arrays])
    with pytest.raises(UserError, match=r"infer takes recordings, got str"):
        infer("cells.npz")
    recording = Recording.of(arrays)
    settings = InferenceSettings(terms="xy")
    assert infer(recording, settings).to_json() == infer([recording], settings).to_json()


@pytest.mark.parametrize(
    "given", [{"held_out": "0.2"}, {"seed": 1.5}, {"gain": 1}, {"initial": "none"}, {"eta": "1"}]
)
def test_settings_of_a_wrong_type_are_refused_by_name(given):
    with pytest.raises(UserError, match=next(iter(given)).replace("_", ".")):
        InferenceSettings(**given)
