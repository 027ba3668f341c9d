"""`discover` by keywords, into a folder given as text, with data of any kind."""

import json
from dataclasses import replace

import pytest
import torch
from support import Clouds, assert_is_one_sentence, named, refusal

import episodes
from metaplast import Discovery, DiscoveryConfig, EpisodeSplit, Recurrent, discover
from metaplast.base.errors import UserError
from metaplast.discovery.run_config import config_digest
from metaplast.report.page import write_report
from metaplast.rules.rule import Rule

TINY = {
    "hidden": [5, 4], "ways": 3, "shots": 2, "queries": 2, "episodes": 4, "meta_batch": 2,
    "refit": 2, "refit_batch": 2, "look": 4, "validation": 4, "test_episodes": 4,
    "engine": "fused",
}  # fmt: skip
SPLIT = EpisodeSplit(Clouds(), Clouds(), "classes", 6, 3, "clouds")


def test_keywords_need_no_configuration():
    result = discover(terms="error_hebbian", split=SPLIT, **TINY)
    assert result.config == DiscoveryConfig(terms="error_hebbian", **TINY)
    assert [term.name for term in result.rule.terms] == ["error_hebbian"]


def test_keywords_win_over_the_configuration():
    config = DiscoveryConfig(terms="error_hebbian", **TINY)
    result = discover(config, seed=3, split=SPLIT)
    assert result.config == replace(config, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("terms", "candidates"),
    [
        (["error_hebbian", "oja"], ["error_hebbian", "oja"]),
        (["error_hebbian", replace(named("oja")[0], name="mine")], ["error_hebbian", "mine"]),
    ],
    ids=["names", "a name and a term"],
)
def test_terms_are_names_or_terms(terms, candidates):
    result = discover(terms=terms, split=SPLIT, **TINY)
    assert [term.name for term in result.searched.terms] == candidates


def test_a_source_may_stand_for_its_split():
    source = episodes.from_tensors(torch.rand(60, 6), torch.arange(60) % 3)
    result = discover(terms="error_hebbian", split=source, **TINY)
    assert result.description.startswith("own data: tensors: 3 classes")


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"epsiodes": 3}, "unknown keyword of discover 'epsiodes'; did you mean 'episodes'"),
        ({"foldr": "d"}, "did you mean 'folder'"),
        ({"config": "bio"}, r"got 'bio'; write discover\(terms='bio'"),
        ({"config": {"terms": "bio"}}, "takes a DiscoveryConfig or keywords"),
        ({"episodes": "200"}, "episodes must be a whole number, got '200'"),
        ({"folder": 3}, "folder must be a path"),
        ({"folder": ""}, "folder must be a path"),
    ],
    ids=str,
)
def test_what_has_no_meaning_is_refused_in_one_sentence(keywords, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        discover(**{**({} if "config" in keywords else TINY), **keywords})
    assert_is_one_sentence(caught.value)


@pytest.mark.slow
def test_a_folder_is_made_filled_and_continued(tmp_path):
    folder = str(tmp_path / "new" / "run")
    config = DiscoveryConfig(terms="error_hebbian", dataset="clusters:6,3", **TINY)
    whole = discover(config, folder=folder)
    assert Rule.load(folder + "/rule.json") == whole.rule
    assert write_report(folder).exists()
    # The same call continues the run; other settings are refused.
    assert discover(config, folder=folder).rule == whole.rule
    assert Discovery.resume(folder).run().rule == whole.rule
    with pytest.raises(UserError, match="other settings"):
        discover(config, folder=folder, seed=1)


def test_a_refusal_leaves_no_folder(tmp_path):
    with pytest.raises(UserError, match="asks for 9"):
        discover(terms="oja", dataset="clusters:6,3", folder=tmp_path / "d", **{**TINY, "ways": 9})
    assert not (tmp_path / "d").exists()


def test_a_folder_of_a_discovery_is_made_before_anything_is_computed(tmp_path):
    config = DiscoveryConfig(terms="error_hebbian", **TINY)
    Discovery(config, folder=str(tmp_path / "d"), split=SPLIT).run()
    assert (tmp_path / "d" / "checkpoint.pt").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write to the folder") as caught:
        Discovery(config, folder=tmp_path / "file" / "d", split=SPLIT).run()
    assert_is_one_sentence(caught.value)


# --- a device that this machine lacks ---

CUDA = DiscoveryConfig(terms="error_hebbian", device="cuda", **TINY)


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_a_configuration_for_another_machine_is_a_value(no_cuda):
    assert DiscoveryConfig.from_json(json.loads(json.dumps(CUDA.to_json()))) == CUDA
    assert CUDA.request.device == torch.device("cuda")


def test_a_run_needs_its_device_before_anything_is_made(no_cuda, tmp_path):
    with pytest.raises(UserError, match="none was found") as caught:
        discover(CUDA, folder=tmp_path / "d", split=SPLIT)
    assert_is_one_sentence(caught.value)
    assert not (tmp_path / "d").exists()
    with pytest.raises(UserError, match="none was found"):
        _ = Discovery(replace(CUDA, dataset="clusters:6,3")).split


@pytest.mark.slow
def test_a_run_from_a_machine_with_cuda_is_reported_here(no_cuda, tmp_path):
    discover(replace(CUDA, device="cpu"), folder=tmp_path, split=SPLIT)
    data = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    data["config"]["device"] = "cuda:1"
    (tmp_path / "config.json").write_text(json.dumps(data), encoding="utf-8")
    # As if the whole run had been on that machine: its summary has this configuration too.
    summary = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    summary["config"] = config_digest(replace(CUDA, device="cuda:1"))
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert "cuda:1" in write_report(tmp_path).read_text(encoding="utf-8")
    with pytest.raises(UserError, match="none was found"):
        Discovery.resume(tmp_path, split=SPLIT)


@pytest.mark.parametrize("system", [3, None, Recurrent])
def test_a_system_is_given_by_its_name(system):
    with pytest.raises(UserError, match="by its name") as caught:
        discover(system=system, terms="oja")
    assert_is_one_sentence(caught.value)


@pytest.mark.parametrize("split", [(torch.rand(9, 4), torch.arange(9) % 3), "digits", 3, object])
def test_what_is_no_split_is_refused(split):
    assert "pass inputs and targets, or a source, as data=" in refusal(discover, split=split)
