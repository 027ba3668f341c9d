"""The compiled model beside a plain loop, and its derivatives beside finite differences."""

from dataclasses import replace

import numpy as np
import pytest
from recorded import planted, problem_of

from metaplast.recordings import pieces, trajectory
from metaplast.recordings.fit import fit, none, solved
from metaplast.recordings.losses import LOSSES
from metaplast.recordings.model import ACTIVATIONS, FUNCTIONS
from metaplast.recordings.monomial import monomial, taylor
from metaplast.recordings.pieces import Free, Parameters, Walk

POOL = taylor(reward=True)


def small_theta(seed=0, size=0.01):
    return size * np.random.default_rng(seed).normal(size=len(POOL))


def rewarded(**design):
    """Return arrays of a rule with a reward."""
    return planted("xyr=0.5,W=-0.05", **design).arrays


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_compiled_model_is_the_plain_loop(activation):
    found = planted(
        "xy=0.3,y2W=-0.2,xr=0.1,x2w2=0.05,r2=0.01,w=-0.1", activation=activation, eta=0.5
    )
    problem = problem_of(found.arrays, activation=activation, eta=0.5)
    terms = tuple(map(monomial, ("xy", "y2W", "xr", "x2w2", "r2", "w")))
    walk = Walk(problem.layer, problem.loss, terms, problem.free)
    at = Parameters(np.array([0.3, -0.2, 0.1, 0.05, 0.01, -0.1]))
    for trial, each in enumerate(problem.data.trajectories):
        means = np.concatenate([piece.mean for piece in walk.pieces(each, at)])
        assert np.abs(means - found.activity[trial]).max() < 1e-12


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_slopes_of_activations(activation):
    from metaplast.recordings.kernel import activity

    for z in (-1.3, -0.2, 0.4, 2.0):
        value, slope = activity(ACTIVATIONS[activation], z)
        function = FUNCTIONS[activation]
        assert value == pytest.approx(function(np.array(z)), rel=1e-12)
        difference = (function(np.array(z + 1e-6)) - function(np.array(z - 1e-6))) / 2e-6
        assert slope == pytest.approx(difference, rel=1e-7)


LINKS = {
    "neurons": ("gaussian", {}),
    "poisson": ("poisson", {}),
    "binary": ("bernoulli", {}),
    "readout": ("bernoulli", {"link": "readout", "readout": (0.5, -1.0, 0.3, 2.0)}),
    "options": ("categorical", {"link": "softmax"}),
}


def observed_as(kind, arrays, seed=1):
    """Replace what was observed by something of another kind."""
    draw = np.random.default_rng(seed)
    activity = arrays.pop("activity")
    if kind == "neurons":
        activity[:, ::3, 1] = np.nan
        return arrays | {"activity": activity}
    if kind == "poisson":
        return arrays | {"counts": draw.poisson(3 * np.abs(activity)).astype(float)}
    if kind == "binary":
        return arrays | {"choices": (draw.random(activity.shape) < 0.5).astype(float)}
    if kind == "readout":
        choices = (draw.random(activity.shape[:2]) < 0.5).astype(float)
        return arrays | {"choices": choices, "readout": LINKS["readout"][1]["readout"]}
    return arrays | {"choices": draw.integers(4, size=activity.shape[:2]).astype(float)}


@pytest.mark.parametrize("kind", LINKS)
def test_scores_are_derivatives_of_the_deviance(kind):
    loss, layer = LINKS[kind]
    free = Free(scale=True, gain=True)
    problem = problem_of(observed_as(kind, rewarded()), loss=loss, free=free, **layer)
    at = Parameters(small_theta(), scale=1.1, gain=0.9)
    score = problem.moments(POOL, at).score.sum(0)

    def changed(index, by):
        if index >= len(POOL):
            name = ("scale", "gain")[index - len(POOL)]
            return replace(at, **{name: getattr(at, name) + by})
        theta = at.theta.copy()
        theta[index] += by
        return replace(at, theta=theta)

    for index in (0, 4, 13, 20, 30, 45, 61, 80, 81, 82):
        up, down = (problem.deviances(POOL, changed(index, s * 1e-5))[0].sum() for s in (1, -1))
        assert score[index] == pytest.approx(-(up - down) / 4e-5, rel=1e-5, abs=1e-5), index


def test_slopes_by_initial_weights_are_right():
    free = Free(initial=True)
    problem = problem_of(rewarded(), free=free)
    at = replace(none(problem, len(POOL)), theta=small_theta())
    walk = Walk(problem.layer, problem.loss, POOL, free)
    each = problem.data.trajectories[1]
    own = np.concatenate([piece.own for piece in walk.pieces(each, at)])
    shift = np.zeros_like(each.initial)
    for i, j in ((0, 0), (3, 5)):
        means = []
        for sign in (1, -1):
            shift[i, j] = sign * 1e-6
            moved = replace(at, shift=(shift.copy(),))
            means.append(np.concatenate([p.mean for p in walk.pieces(each, moved)]))
            shift[i, j] = 0
        difference = (means[0] - means[1])[:, i] / 2e-6
        assert np.abs(own[:, i, j] - difference).max() < 1e-7


def test_eliminated_initial_weights_give_the_joint_newton_step():
    """Against the whole least-squares problem, with one column for each initial weight."""
    free = Free(initial=True)
    problem = problem_of(rewarded(trials=4, steps=20), free=free)
    terms = tuple(map(monomial, ("xyr", "w")))
    at = replace(none(problem, 2), theta=np.array([0.1, -0.02]))
    moments = problem.moments(terms, at)
    step = solved(moments.information.sum(0), moments.score.sum(0))
    posts, pres = problem.data.trajectories[0].initial.shape
    walk, rows, residuals = Walk(problem.layer, problem.loss, terms, free), [], []
    for each in problem.data.trajectories:
        for piece in walk.pieces(each, at):
            for i in range(posts):
                columns = np.zeros((len(piece.own), 2 + posts * pres))
                columns[:, :2] = piece.slopes[:, i]
                columns[:, 2 + i * pres : 2 + (i + 1) * pres] = piece.own[:, i]
                rows.append(columns)
                residuals.append(piece.observed[:, i] - piece.mean[:, i])
    whole, *_ = np.linalg.lstsq(np.concatenate(rows), np.concatenate(residuals), rcond=None)
    assert step == pytest.approx(whole[:2], rel=1e-6)
    blocks = moments.blocks
    shift = blocks.step[0] - np.einsum("iqj,q->ij", blocks.projection[0], step)
    assert shift == pytest.approx(whole[2:].reshape(posts, pres), rel=1e-4, abs=1e-7)


@pytest.mark.slow
def test_pieces_do_not_change_the_sums(monkeypatch):
    problem = problem_of(rewarded())
    whole = problem.moments(POOL, Parameters(small_theta()))
    monkeypatch.setattr(pieces, "_MOST", 5 * 4 * len(POOL))
    parts = problem.moments(POOL, Parameters(small_theta()))
    assert parts.total == pytest.approx(whole.total, rel=1e-13)
    assert parts.information == pytest.approx(whole.information, rel=1e-10)


def test_what_was_not_observed_may_be_anything():
    arrays = rewarded()
    arrays["activity"][:, :, 2] = np.nan
    arrays["lengths"] = [12, 7, 12]
    first = problem_of(arrays).moments(POOL, Parameters(small_theta()))
    arrays["activity"][1, 7:] = 1e30
    arrays["inputs"][1, 7:] = np.nan
    arrays["reward"][1, 7:] = np.nan
    again = problem_of(arrays).moments(POOL, Parameters(small_theta()))
    assert np.array_equal(first.score, again.score)
    assert np.array_equal(first.information, again.information)


def test_without_noise_all_terms_are_recovered():
    found = planted("xy=1,y2W=-1", trials=10, steps=40, inputs=12)
    theta = fit(problem_of(found.arrays), taylor()).theta
    truth = [{"xy": 1.0, "y2w": -1.0}.get(term.name, 0.0) for term in taylor()]
    assert theta == pytest.approx(truth, abs=1e-8)


@pytest.mark.parametrize("name", LOSSES)
def test_the_score_of_a_loss_is_its_derivative(name):
    loss = LOSSES[name]
    mean, observed = np.array([0.2, 0.7, 0.4]), np.array([1.0, 0.0, 1.0])
    difference = loss.deviance(observed, mean + 1e-6) - loss.deviance(observed, mean - 1e-6)
    expected = -difference / 4e-6
    if name == "categorical":
        # The means of a step sum to 1, so that a constant does not matter.
        expected = expected - 1
    assert loss.score(observed, mean) == pytest.approx(expected, rel=1e-6)


def test_clusters_are_trials_or_parts_of_them(monkeypatch):
    arrays = planted("xy=1", trials=5).arrays
    assert problem_of(arrays).data.cluster_unit == "parts of trials"
    assert problem_of(arrays).data.clusters == 40
    monkeypatch.setattr(trajectory, "MANY", 5)
    data = problem_of(arrays).data
    assert (data.clusters, data.cluster_unit) == (5, "trials")
    assert [t.cluster.tolist() for t in data.trajectories] == [[c] * 12 for c in range(5)]
