"""A configuration is checked once, in one sentence, and comes back from its file unchanged."""

import json
import math
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from support import assert_is_one_sentence

from metaplast.base.errors import UserError
from metaplast.discovery.config import DEFAULT_L1, PRESETS, DiscoveryConfig

BAD = {
    "unknown term": ({"terms": "ojja"}, "did you mean 'oja'"),
    "no term": ({"terms": ""}, "names no term"),
    "unknown feedback": ({"feedback": "symetric"}, "did you mean 'symmetric'"),
    "feedback against the rule": ({"terms": "backprop", "feedback": "fixed"}, "--feedback"),
    "backward terms without plastic": ({"terms": "backward_decay,oja"}, "--feedback plastic"),
    "unknown theta": ({"theta": "per_layer"}, "--theta must be shared or per-layer"),
    "unknown dtype": ({"dtype": "float16"}, "--dtype"),
    "unknown labels": ({"labels": "local"}, "--labels"),
    "unknown held-out": ({"held_out": "tasks"}, "--held-out"),
    "unknown penalty": ({"penalty": "l1"}, "--penalty"),
    "unknown scaling": ({"scaling": "up"}, "--scaling"),
    "unknown schedule": ({"schedule": "step"}, "--schedule"),
    "unknown optimizer": ({"optimizer": "Adamm"}, "did you mean 'Adam'"),
    "unknown activation": ({"activation": "sotfplus"}, "did you mean 'softplus'"),
    "unknown init": ({"init": "xavir"}, "did you mean 'xavier'"),
    "unknown engine": ({"engine": "bached"}, "did you mean 'batched'"),
    "unknown device": ({"device": "tpu"}, "--device must be cpu, cuda or cuda:NUMBER"),
    "a number that torch would shorten": ({"device": "cuda:256"}, "with a number below 128"),
    "a numbered CPU": ({"device": "cpu:5"}, "--device cpu takes no number"),
    "infinite β": ({"activation": "softplus:1e300"}, "β from 0.001 to 1e"),
    "vanishing β": ({"activation": "softplus:1e-300"}, "β from"),
    "far too large a rate": ({"meta_lr": 1e308}, "--meta-lr must be from 1e-12 to 1e"),
    "far too large a penalty": ({"l1": 1e300}, "--l1 must be from 1e-12"),
    "unknown data set": ({"dataset": "digit"}, "did you mean 'digits'"),
    "width 0": ({"hidden": (5, 0)}, "--hidden"),
    "one way": ({"ways": 1}, "--ways"),
    "no shots": ({"shots": 0}, "--shots"),
    "no queries": ({"queries": 0}, "--queries"),
    "no episodes": ({"episodes": 0}, "--episodes"),
    "no meta-batch": ({"meta_batch": 0}, "--meta-batch"),
    "rate 0": ({"meta_lr": 0.0}, "--meta-lr"),
    "negative rate": ({"meta_lr": -1e-3}, "--meta-lr"),
    "NaN rate": ({"meta_lr": math.nan}, "--meta-lr"),
    "infinite rate": ({"meta_lr": math.inf}, "--meta-lr"),
    "negative penalty": ({"l1": -1.0}, "--l1"),
    "NaN penalty": ({"l1": math.nan}, "--l1"),
    "negative clip": ({"clip": -1.0}, "--clip"),
    "negative threshold": ({"threshold": -0.1}, "--threshold"),
    "threshold 1": ({"threshold": 1.0}, "--threshold"),
    "NaN threshold": ({"threshold": math.nan}, "--threshold"),
    "negative refit": ({"refit": -1}, "--refit"),
    "one test episode": ({"test_episodes": 1}, "--test-episodes"),
    "negative seed": ({"seed": -1}, "--seed"),
}


@pytest.mark.parametrize(("options", "sentence"), BAD.values(), ids=BAD.keys())
def test_bad_values_are_refused_in_one_sentence(options, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        DiscoveryConfig(**options)
    assert_is_one_sentence(caught.value)


CONFIGS = {
    "default": DiscoveryConfig(),
    "no hidden layer": DiscoveryConfig(hidden=()),
    "a folder": DiscoveryConfig(data_root=Path("some/where"), hidden=(3, 2)),
    "much else": DiscoveryConfig(
        terms="bio", theta="per-layer", feedback="direct", l1=0.5, dtype="float64", device="cpu"
    ),
    "paper": DiscoveryConfig(**PRESETS["paper"]),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_configuration_goes_through_json_unchanged(config):
    assert DiscoveryConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_a_configuration_of_another_version_is_refused(change):
    data = DiscoveryConfig().to_json()
    data.pop("seed") if change == "missing" else data.update(colour="red")
    with pytest.raises(UserError, match="seed" if change == "missing" else "colour") as caught:
        DiscoveryConfig.from_json(data)
    assert_is_one_sentence(caught.value)


def test_the_defaults_are_the_published_setting():
    config = DiscoveryConfig()
    network = config.build_system(784, 47)
    assert network.widths == (784, 170, 130, 100, 70, 47)
    assert (network.activation, network.init) == ("softplus:10", "xavier")
    assert (config.ways, config.request.shots, config.queries) == (5, 50, 10)
    assert (config.feedback_name, config.labels, config.theta) == ("fixed", "global", "shared")


def test_the_paper_preset_pins_the_published_outer_loop():
    outer = DiscoveryConfig(**PRESETS["paper"]).outer
    assert (outer.episodes, outer.meta_batch, outer.steps) == (600, 1, 600)
    assert (outer.optimizer, outer.meta_lr, outer.schedule) == ("Adam", 1e-3, "constant")
    assert (outer.penalty, outer.clip, outer.scaling) == ("subgradient", 0.0, "none")
    assert DiscoveryConfig(**PRESETS["paper"]).held_out == "images"


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_set_known_fields(preset):
    assert set(PRESETS[preset]) <= {field.name for field in fields(DiscoveryConfig)}


@pytest.mark.parametrize(
    ("options", "weight"),
    [
        ({}, DEFAULT_L1["proximal"]),
        ({"penalty": "subgradient"}, DEFAULT_L1["subgradient"]),
        ({"terms": "oja,decay"}, DEFAULT_L1["proximal"]),
        ({"terms": "bio"}, 0.0),
        ({"terms": "bio", "l1": 0.2}, 0.2),
        ({"l1": 0.0}, 0.0),
    ],
    ids=str,
)
def test_the_penalty_has_a_default_for_pools_and_none_for_known_rules(options, weight):
    assert DiscoveryConfig(**options).outer.l1 == weight


def test_what_was_asked_for_reaches_the_source():
    config = DiscoveryConfig(ways=3, shots=4, queries=2, labels="remapped", seed=9, dtype="float64")
    request = config.request
    assert (request.ways, request.shots, request.queries) == (3, 4, 2)
    assert (request.labels, request.seed, request.dtype) == ("remapped", 9, torch.float64)


# What version 1 wrote, and the fields that its readers already knew how to fill in.
FIRST_FIELDS = {
    "activation", "backtrack", "clip", "data_root", "dataset", "device", "dtype", "engine",
    "episodes", "feedback", "held_out", "hidden", "init", "l1", "labels", "least_effect",
    "meta_batch", "meta_lr", "objective", "optimizer", "penalty", "queries", "refit",
    "refit_batch", "scaling", "schedule", "seed", "shots", "signs", "system", "terms",
    "test_episodes", "theta", "threshold", "validation", "ways",
}  # fmt: skip


def test_runs_of_earlier_versions_are_read_and_keep_their_identity():
    # A new field is left out at its default, or no earlier run can be shown or continued.
    written = DiscoveryConfig().to_json()
    assert set(written) == FIRST_FIELDS
    assert DiscoveryConfig.from_json(written) == DiscoveryConfig()


@pytest.mark.parametrize(
    "changes",
    [
        {"positive": "F0"},
        {"weights": "dale"},
        {"entry": 160},
        {"entry": 0, "look": 32},
        {"shots": (5, 20)},
    ],
)
def test_fields_that_were_set_are_written(changes):
    config = DiscoveryConfig(**changes)
    written = config.to_json()
    assert changes.items() <= written.items()
    assert DiscoveryConfig.from_json(written) == config
