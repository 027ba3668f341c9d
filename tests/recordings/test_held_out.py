"""Held-out data are used for the comparison of models and for nothing else."""

from dataclasses import replace

import numpy as np
import pytest
from recorded import planted

from metaplast.recordings import InferenceSettings, Layer, Recording, infer, monomial
from metaplast.recordings.long_gradient import gradient
from metaplast.recordings.losses import LOSSES
from metaplast.recordings.moments import Problem
from metaplast.recordings.pieces import Parameters
from metaplast.recordings.trajectory import arranged

SIZE = {"trials": 25, "steps": 10, "noise": 0.03}
SETTINGS = InferenceSettings("xy,y2W,W,x")


def spoiled(recording, trials):
    """Return a recording with other observations in some trials."""
    observed = recording.observed.copy()
    observed[trials] = np.random.default_rng(0).random(observed[trials].shape)
    return replace(recording, observed=observed)


@pytest.mark.slow
@pytest.mark.parametrize("continues", [False, True])
def test_the_fit_does_not_see_held_out_trials(continues):
    recording = Recording.of(planted("xy=1,y2W=-1", continues=continues, **SIZE).arrays)
    data = arranged([recording], held_out=0.2, by_animal=False, seed=0)
    if continues:
        held = list(range(20, 25))
    else:
        held = [i for i, each in enumerate(data.trajectories) if (each.test >= 0).all()]
    assert len(held) == data.tests == 5
    first = infer([recording], SETTINGS)
    again = infer([spoiled(recording, held)], SETTINGS)
    assert first.theta == again.theta
    assert [t.low for t in first.terms] == [t.low for t in again.terms]
    assert first.models[0].explained != again.models[0].explained


def test_the_comparison_sees_only_held_out_trials():
    """A spoiled trial that was used changes θ, and no deviance of the null model."""
    recording = Recording.of(planted("xy=1,y2W=-1", **SIZE).arrays)
    data = arranged([recording], held_out=0.2, by_animal=False, seed=0)
    used = [i for i, each in enumerate(data.trajectories) if (each.test < 0).all()]
    first, again = infer([recording], SETTINGS), infer([spoiled(recording, used[:1])], SETTINGS)
    assert first.theta != again.theta
    assert first.models[1].explained == again.models[1].explained


def test_no_step_is_both_used_and_held_out():
    for trials in (1, 3, 25, 450):
        arrays = planted("xy=0", trials=trials, steps=6, inputs=2, neurons=1).arrays
        data = arranged([Recording.of(arrays)], held_out=0.2, by_animal=False, seed=0)
        for each in data.trajectories:
            assert ((each.cluster >= 0) != (each.test >= 0)).all()
        clusters = {int(c) for t in data.trajectories for c in t.cluster} - {-1}
        assert clusters == set(range(data.clusters))
        assert data.clusters <= 200


def test_sums_leave_out_held_out_steps():
    recording = Recording.of(planted("xy=1", **SIZE).arrays)
    data = arranged([recording], held_out=0.2, by_animal=False, seed=0)
    terms, at = (monomial("xy"),), Parameters(np.array([0.5]))
    whole, cut = (Problem(d, Layer(), LOSSES["gaussian"]) for d in (data, data.fitted()))
    assert whole.moments(terms, at).total == cut.moments(terms, at).total
    assert whole.deviances(terms, at)[0].sum() == pytest.approx(cut.moments(terms, at).total)
    assert gradient(whole, terms, at)[0] == pytest.approx(cut.moments(terms, at).total)


def test_held_out_trials_are_drawn():
    recording = Recording.of(planted("xy=1", **SIZE).arrays)

    def held(seed):
        data = arranged([recording], held_out=0.2, by_animal=False, seed=seed)
        return [i for i, each in enumerate(data.trajectories) if (each.test >= 0).all()]

    assert held(0) == held(0)
    assert held(0) != held(1)
