"""Settings convert equivalent values to plain Python, and refuse the rest in one sentence."""

import dataclasses
import json
from fractions import Fraction
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import torch
from support import assert_is_one_sentence, named

from metaplast import DiscoveryConfig, EpisodeRequest, FullyConnected, Rule
from metaplast.base.errors import UserError
from metaplast.export.network_choice import Wanted
from metaplast.meta.settings import OuterSettings
from metaplast.online.train import OnlineSettings
from metaplast.reproduce.experiment import Setting
from metaplast.tasks.request import StreamRequest

MEANT = [
    *(("episodes", value, 8) for value in (
        np.int64(8), np.uint8(8), 8.0, np.float32(8), torch.tensor(8), np.array(8))),
    *(("meta_lr", value, 0.5) for value in (
        np.float32(0.5), np.float16(0.5), torch.tensor(0.5), Fraction(1, 2), np.longdouble(0.5))),
    ("meta_lr", 1, 1.0),
    ("clip", np.int8(2), 2.0),
    *(("signs", value, False) for value in (np.bool_(False), torch.tensor(False))),
    *(("hidden", value, (10, 5)) for value in (
        [10, 5], np.array([10, 5]), torch.tensor([10, 5]), (np.int32(10), 5.0), range(10, 0, -5))),
    ("hidden", 10, (10,)),
    ("hidden", [], ()),
    ("terms", ["oja", "decay"], "oja,decay"),
    ("terms", np.str_("bio"), "bio"),
    *(("data_root", value, Path("a/b")) for value in ("a/b", PurePosixPath("a/b"))),
    ("device", torch.device("cuda", 1), "cuda:1"),
    ("dtype", torch.float64, "float64"),
    ("l1", np.float64(0.25), 0.25),
    ("shots", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "plain"), MEANT, ids=lambda x: f"{type(x).__name__}")
def test_what_means_a_value_is_that_value(field, value, plain):
    config = DiscoveryConfig(**{field: value})
    got = getattr(config, field)
    assert (got, type(got)) == (plain, type(plain))
    if isinstance(plain, tuple):
        assert all(type(width) is int for width in got)
    assert config == DiscoveryConfig(**{field: plain})
    assert hash(config) == hash(DiscoveryConfig(**{field: plain}))
    assert DiscoveryConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


WRONG = {
    int: [
        "5",
        1.5,
        True,
        None,
        [5],
        float("nan"),
        float("inf"),
        1 + 0j,
        torch.tensor([1, 2]),
        b"5",
    ],
    float: ["0.1", True, None, [0.1], {}, 1j, 10**400, np.ones(2)],
    bool: ["no", 0, 1, None, 1.0, []],
    str: [3, None, 3.5, b"oja", True, {"a": 1}, type],
    tuple: ["10,5", b"10", {10, 5}, {10: 5}, None, [10.5], [True], [[10], [5]], ["10"], len],
    Path: ["", b"a", 3, True, [], "a\0b"],
}
OPTIONAL = (
    "shots", "entry", "l1", "spread", "feedback", "data_root", "least_effect", "positive",
    "negative",
)  # fmt: skip
DEFAULTS = DiscoveryConfig()
KINDS = {
    "entry": int,
    "data_root": Path,
    "shots": int,
    "l1": float,
    "spread": float,
    "positive": str,
    "negative": str,
    "feedback": str,
    "least_effect": float,
}


def kind_of(field):
    return KINDS.get(field, type(getattr(DEFAULTS, field)))


CASES = [
    (field.name, value)
    for field in dataclasses.fields(DiscoveryConfig)
    for value in WRONG[kind_of(field.name)]
    if not (value is None and field.name in OPTIONAL)
    # One number of shots, or several.
    and not (field.name == "shots" and isinstance(value, list | torch.Tensor))
]


@pytest.mark.parametrize(("field", "value"), CASES, ids=lambda x: repr(x)[:30])
def test_what_does_not_is_refused_in_one_sentence(field, value):
    with pytest.raises(UserError, match=field) as caught:
        DiscoveryConfig(**{field: value})
    assert_is_one_sentence(caught.value)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(DiscoveryConfig)])
def test_an_edited_file_is_refused_in_one_sentence(field):
    for value in [{}, [[]], {"a": 1}, [None]]:
        data = DEFAULTS.to_json() | {field: value}
        with pytest.raises(UserError) as caught:
            DiscoveryConfig.from_json(data)
        assert_is_one_sentence(caught.value)


@pytest.mark.parametrize("data", [None, [], "config", 3, {}, {3: 4}])
def test_a_file_that_is_no_configuration_is_refused_in_one_sentence(data):
    with pytest.raises(UserError, match="the configuration") as caught:
        DiscoveryConfig.from_json(data)
    assert_is_one_sentence(caught.value)


OTHERS = {
    "episodes": (
        lambda: EpisodeRequest(ways=np.int64(3), seed=np.uint8(1), data_root="d", device="cpu",
                               dtype="float64"),
        lambda: EpisodeRequest(ways=3, seed=1, data_root=Path("d"), dtype=torch.float64),
    ),
    "stream": (
        lambda: StreamRequest(ways=torch.tensor(3), data_root="d"),
        lambda: StreamRequest(ways=3, data_root=Path("d")),
    ),
    "outer": (
        lambda: OuterSettings(episodes=1e3, clip=np.float32(2), signs=np.True_),
        lambda: OuterSettings(episodes=1000, clip=2.0, signs=True),
    ),
    "network": (
        lambda: FullyConnected(np.array([4, 3, 2])),
        lambda: FullyConnected((4, 3, 2)),
    ),
    "online": (
        lambda: OnlineSettings(records=[0, np.int64(5)], seeds=np.int8(2)),
        lambda: OnlineSettings(records=(0, 5), seeds=2),
    ),
    "one record": (lambda: OnlineSettings(5), lambda: OnlineSettings((5,))),
    "experiments": (lambda: Setting(data_root="d"), lambda: Setting(data_root=Path("d"))),
    "export": (lambda: Wanted([4, 3, 2]), lambda: Wanted((4, 3, 2))),
    "rule": (
        lambda: Rule(list(named("oja")), np.array([0.5], np.float32), np.str_("fixed")),
        lambda: Rule(named("oja"), ((0.5,),), "fixed"),
    ),
    "rule of one row": (
        lambda: Rule(named("oja", "decay"), [np.float32(0.5), 1], "fixed"),
        lambda: Rule(named("oja", "decay"), ((0.5, 1.0),), "fixed"),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "plain"), OTHERS.values(), ids=OTHERS.keys())
def test_all_settings_are_read_alike(given, plain):
    assert given() == plain()
    assert repr(given()) == repr(plain())


REFUSED = {
    "ways": lambda: EpisodeRequest(ways="3"),
    "device": lambda: EpisodeRequest(device="quantum"),
    "dtype": lambda: EpisodeRequest(dtype=torch.int64),
    "seed": lambda: StreamRequest(seed=1.5),
    "meta_lr": lambda: OuterSettings(meta_lr="fast"),
    "widths": lambda: FullyConnected("432"),
    "widths[1]": lambda: FullyConnected((4, "3", 2)),
    "records": lambda: OnlineSettings(records="12"),
    "--seed": lambda: OnlineSettings(records=(1,), seed=2**64),
    "together": lambda: OnlineSettings(records=(1,), together=0),
    "coefficients must be finite": lambda: Rule(named("oja"), (("a",),), "fixed"),
    "coefficients must be one row": lambda: Rule(named("oja"), None, "fixed"),
    "a rule's feedback": lambda: Rule(named("oja"), ((1.0,),), 3),
}


@pytest.mark.parametrize(("name", "make"), REFUSED.items(), ids=REFUSED.keys())
def test_all_settings_refuse_alike(name, make):
    with pytest.raises(UserError) as caught:
        make()
    assert str(caught.value).startswith(name)
    assert_is_one_sentence(caught.value)


def test_numbers_of_numpy_in_a_rule_are_saved(tmp_path):
    provenance = {"seed": np.int64(3), "widths": np.array([4, 2]), "at": Path("a"), "x": [np.True_]}
    rule = Rule(named("oja"), ((np.float32(0.5),),), "fixed", provenance)
    rule.save(str(tmp_path / "rule.json"))
    assert Rule.load(str(tmp_path / "rule.json")).provenance == {
        "seed": 3, "widths": [4, 2], "at": "a", "x": [True],
    }  # fmt: skip
