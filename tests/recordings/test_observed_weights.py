"""Weights that were observed at given times: layout, derivatives, noise, rules read back."""

from dataclasses import replace

import numpy as np
import pytest
from recorded import planted, problem_of
from support import refusal

from metaplast.recordings import InferenceSettings, Recording, infer
from metaplast.recordings.comparison import FITTED_NULL
from metaplast.recordings.files import read_recording, write_recording
from metaplast.recordings.fit import fit, none, solved
from metaplast.recordings.long_gradient import gradient
from metaplast.recordings.monomial import monomial, taylor
from metaplast.recordings.noise import precision
from metaplast.recordings.pieces import Free, Parameters, Walk
from metaplast.recordings.published import Course, deviance
from metaplast.recordings.trajectory import arranged

TERMS = tuple(map(monomial, ("xy", "y2W", "xr", "w")))
THETA = np.array([0.3, -0.2, 0.1, -0.05])
RULE = "xy=0.3,y2W=-0.2,xr=0.1,w=-0.05"
SEEN = {"weights_every": 4, "weight_noise": 0.02}
SIZE = {"trials": 12, "steps": 30, "inputs": 10, "noise": 0.03}
LARGE = {"trials": 25, "steps": 30, "inputs": 6, "observe": "weights", "weights_every": 10}


def seen(rule=RULE, **changes):
    """Return arrays with weights that were observed every fourth step, with gaps."""
    arrays = planted(rule, **(SEEN | changes)).arrays
    arrays["weights"][1, 8, 2] = np.nan
    arrays["weights"][2, 4, :, 3] = np.nan
    return arrays


@pytest.mark.parametrize("continues", [False, True])
def test_the_models_weights_are_those_of_the_plain_loop(continues):
    made = planted(RULE, continues=continues, weights_every=4)
    problem = problem_of(made.arrays)
    walk = Walk(problem.layer, problem.loss, TERMS, problem.free)
    found = [
        piece.weights
        for each in problem.data.trajectories
        for piece in walk.pieces(each, Parameters(THETA))
        if piece.weights is not None
    ]
    assert len(found) == 3 * 4
    assert max(np.abs(each.observed - each.mean).max() for each in found) < 1e-12
    # The last ones are those at the end of the last trial.
    assert np.abs(found[-1].mean - made.weights[-1]).max() < 1e-12


def test_scores_are_derivatives_of_the_deviance_and_reverse_mode_agrees():
    free = Free(scale=True, gain=True)
    problem = replace(problem_of(seen(), free=free), precision=3.0)
    at = Parameters(0.9 * THETA, scale=1.1, gain=0.9)
    moments = problem.moments(TERMS, at)
    score = moments.score.sum(0)
    assert moments.total == pytest.approx(problem.deviances(TERMS, at)[0].sum(), rel=1e-12)

    def changed(index, by):
        if index >= len(TERMS):
            name = ("scale", "gain")[index - len(TERMS)]
            return replace(at, **{name: getattr(at, name) + by})
        theta = at.theta.copy()
        theta[index] += by
        return replace(at, theta=theta)

    for index in range(6):
        up, down = (problem.deviances(TERMS, changed(index, s * 1e-5))[0].sum() for s in (1, -1))
        assert score[index] == pytest.approx(-(up - down) / 4e-5, rel=1e-6), index
    total, found = gradient(problem, TERMS, at)
    assert total == pytest.approx(moments.total, rel=1e-12)
    assert found == pytest.approx(-2 * score[:4], rel=1e-9)


def test_fitted_initial_weights_give_the_joint_newton_step():
    """Against the whole least-squares problem, with one column for each initial weight."""
    free = Free(initial=True)
    problem = replace(problem_of(seen(steps=20), free=free), precision=2.0)
    at = replace(none(problem, 4), theta=0.5 * THETA)
    moments = problem.moments(TERMS, at)
    step = solved(moments.information.sum(0), moments.score.sum(0))
    posts, pres = problem.data.trajectories[0].initial.shape
    walk, rows, residuals = Walk(problem.layer, problem.loss, TERMS, free), [], []
    for each in problem.data.trajectories:
        for piece in walk.pieces(each, at):
            for i in range(posts):
                own = slice(4 + i * pres, 4 + (i + 1) * pres)
                columns = np.zeros((len(piece.own), 4 + posts * pres))
                columns[:, :4], columns[:, own] = piece.slopes[:, i], piece.own[:, i]
                rows.append(columns * piece.seen[:, i, None])
                residuals.append((piece.observed - piece.mean)[:, i] * piece.seen[:, i])
                if piece.weights is not None:
                    w, there = piece.weights, piece.weights.seen[i] * np.sqrt(2.0)
                    columns = np.zeros((pres, 4 + posts * pres))
                    columns[:, :4], columns[:, own] = w.slopes[i].T, w.own[i].T
                    rows.append(columns * there[:, None])
                    residuals.append((w.observed - w.mean)[i] * there)
    whole, *_ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(residuals), rcond=None)
    assert step == pytest.approx(whole[:4], rel=1e-6)
    back, own = moments.blocks.projection[0], moments.blocks.step[0]
    shift = own - np.einsum("iqj,q->ij", back, step)
    assert shift == pytest.approx(whole[4:].reshape(posts, pres), rel=1e-4, abs=1e-7)


def test_from_exact_weights_alone_all_terms_are_recovered():
    made = planted("xy=1,y2W=-1", trials=6, steps=30, observe="weights", weights_every=3)
    theta = fit(problem_of(made.arrays), taylor()).theta
    truth = [{"xy": 1.0, "y2w": -1.0}.get(term.name, 0.0) for term in taylor()]
    assert theta == pytest.approx(truth, abs=1e-7)


@pytest.fixture(scope="module")
def alone():
    made = planted("xy=1,y2W=-1", **LARGE, weight_noise=0.02)
    return infer(Recording.of(made.arrays, "a"), InferenceSettings("monomials:3"))


def test_a_rule_is_inferred_from_weights_alone(alone):
    assert set(alone.theta) == {"xy", "y2w"}
    for each in alone.terms:
        assert each.low < {"xy": 1.0, "y2w": -1.0}[each.term.name] < each.high
    assert alone.noise is None
    assert alone.weight_noise == pytest.approx(0.02, rel=0.1)
    assert alone.data["observed"] == "weights, 2400 numbers"
    by_name = {model.name: model.explained for model in alone.models}
    assert by_name["Oja"].mean == pytest.approx(by_name["inferred rule"].mean, abs=0.02)
    assert by_name["inferred rule"].mean > by_name["Hebb"].mean
    assert by_name[FITTED_NULL] is not None


@pytest.mark.slow
def test_weights_make_a_rule_from_activity_more_certain():
    both = planted("xy=1,y2W=-1", **SIZE, weights_every=10, weight_noise=0.05).arrays
    settings = InferenceSettings("xy,y2W,W,y,x")
    found = infer(Recording.of(both), settings, compare=False)
    assert set(found.theta) == {"xy", "y2w"}
    assert found.noise == pytest.approx(0.03, rel=0.1)
    assert found.weight_noise == pytest.approx(0.05, rel=0.1)
    del both["weights"]
    less = infer(Recording.of(both), settings, compare=False)
    width = {each.term.name: each.high - each.low for each in less.terms}
    assert all(each.high - each.low < 0.8 * width[each.term.name] for each in found.terms)


def test_the_precision_is_the_ratio_of_the_noises():
    for loss, expected in (("gaussian", (0.03 / 0.05) ** 2), ("bernoulli", 0.05**-2)):
        observe = {"observe": "choices", "noise": 0.0} if loss == "bernoulli" else {}
        made = planted("xy=1", **(SIZE | observe), weights_every=5, weight_noise=0.05)
        problem = problem_of(made.arrays, loss=loss)
        found = fit(problem, (monomial("xy"),))
        assert precision(problem, found) == pytest.approx(expected, rel=0.15)


def test_the_plain_deviance_of_a_course_is_that_of_the_model():
    problem = replace(problem_of(seen()), precision=3.0)
    at = Parameters(0.8 * THETA)
    walk, courses = Walk(problem.layer, problem.loss, TERMS, problem.free), []
    for each in problem.data.trajectories:
        pieces = list(walk.pieces(each, at))
        weights = {p.span.start: p.weights.mean for p in pieces if p.weights is not None}
        courses.append(Course(np.concatenate([p.mean for p in pieces]), weights))
    own, number = deviance(problem, courses, at)
    expected, counted = problem.deviances(TERMS, at)
    assert own == pytest.approx(expected, rel=1e-12)
    assert number.tolist() == counted.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("continues", [False, True])
def test_the_fit_does_not_see_held_out_weights(continues):
    small = LARGE | {"steps": 8, "inputs": 4, "neurons": 2, "weights_every": 4}
    made = planted("xy=1", **small, weight_noise=0.02, continues=continues)
    recording = Recording.of(made.arrays)
    data = arranged([recording], held_out=0.2, by_animal=False, seed=0)
    held = list(range(20, 25))
    if not continues:
        held = [i for i, each in enumerate(data.trajectories) if (each.test >= 0).all()]
    spoiled = recording.seen_weights.copy()
    spoiled[held] += np.random.default_rng(0).normal(size=spoiled[held].shape)
    settings = InferenceSettings("xy,y2W")
    first = infer(recording, settings)
    again = infer(replace(recording, seen_weights=spoiled), settings)
    assert first.theta == again.theta
    assert [t.low for t in first.terms] == [t.low for t in again.terms]
    assert first.models[0].explained != again.models[0].explained


def test_the_weights_say_how_many_options_there_are():
    arrays = planted("xy=1", weights_every=12).arrays
    del arrays["activity"], arrays["initial_weights"]
    made = Recording.of(arrays | {"choices": np.zeros((3, 12))})
    assert (made.kind, made.posts) == ("options", 4)


@pytest.mark.slow
def test_neurons_of_which_only_weights_were_seen_are_kept():
    arrays = planted("xy=1,y2W=-1", **SIZE, weights_every=10, weight_noise=0.02).arrays
    arrays["activity"][:, :, 1:] = np.nan
    arrays["weights"][:, :, 3] = np.nan
    found = infer(Recording.of(arrays), InferenceSettings("xy,y2W,W"), compare=False)
    assert "3 neurons" in found.data["size"]
    assert set(found.theta) == {"xy", "y2w"}


def test_padding_and_what_was_not_observed_may_be_anything():
    arrays = seen() | {"lengths": np.array([12, 8, 12])}
    first = problem_of(arrays).moments(TERMS, Parameters(THETA))
    arrays["weights"][1, 9:] = 1e30
    again = problem_of(arrays).moments(TERMS, Parameters(THETA))
    assert np.array_equal(first.score, again.score)
    assert first.weights[1] == 3 * 4 * 4 * 8 - 4 * 8 - 8 - 4


def test_weights_of_a_shorter_trial_are_seen_after_its_last_step():
    made = planted(RULE, weights_every=4)
    arrays = dict(made.arrays) | {"lengths": np.array([12, 8, 12])}
    (piece,) = (each for each in problem_of(arrays).data.trajectories if each.steps == 9)
    assert sorted(piece.weights) == [0, 4, 8]
    assert not piece.plastic[8]
    assert np.isnan(piece.observed[8]).all()


INFINITE = np.zeros((3, 12, 4, 8))
INFINITE[0, 1, 2, 3] = np.inf
FAULTS = {
    "must be [trial, time, post, pre] = [3, 12, 4, 8]": np.zeros((3, 11, 4, 8)),
    "got the shape (4, 8)": np.zeros((4, 8)),
    "1 weight is infinite": INFINITE,
    "no weight was observed": np.full((3, 12, 4, 8), np.nan),
}


@pytest.mark.parametrize("words", FAULTS)
def test_a_fault_is_one_sentence_that_names_the_file(words):
    text = refusal(Recording.of, planted("xy=1").arrays | {"weights": FAULTS[words]}, "a.npz")
    assert words in text
    assert "a.npz" in text


def test_weights_that_look_wrong_are_noted():
    arrays = planted("xy=1", weights_every=12).arrays
    arrays["weights"] *= 1000
    (note,) = Recording.of(arrays).notes
    assert "check that they have the same unit" in note
    del arrays["initial_weights"]
    (note,) = Recording.of(arrays).notes
    assert "weights at the starts of trials differ" in note


def test_a_gain_needs_activity_and_weights_after_a_change_are_needed():
    arrays = planted("xy=1", observe="weights", weights_every=12).arrays
    assert "only weights were observed" in refusal(
        infer, Recording.of(arrays), InferenceSettings("xy", gain=True)
    )
    arrays["weights"][:, 1:] = np.nan
    assert "after a step at which weights change" in refusal(
        infer, Recording.of(arrays), InferenceSettings("xy")
    )


def test_files_hold_weights_and_a_table_cannot(tmp_path):
    arrays = seen()
    write_recording(tmp_path / "a.npz", arrays)
    made = read_recording(tmp_path / "a.npz")
    assert np.array_equal(made.seen_weights, arrays["weights"], equal_nan=True)
    assert "cannot hold weights" in refusal(write_recording, tmp_path / "a.csv", arrays)
