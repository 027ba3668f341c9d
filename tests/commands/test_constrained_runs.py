"""Discovery and evaluation with `--weights`, from the command line to the tables and the files."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from support import assert_is_one_sentence, essence

from metaplast.commands import guard
from metaplast.commands.compare import main as compare
from metaplast.commands.discover import main as discover_command
from metaplast.commands.evaluate import main as evaluate
from metaplast.commands.recover import main as recover
from metaplast.commands.show import main as show
from metaplast.commands.sweep import main as sweep
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.discover import discover
from metaplast.discovery.observer import Observer
from metaplast.discovery.run import Discovery
from metaplast.report.facts import facts
from metaplast.report.page import pictures
from metaplast.report.run import read_run
from metaplast.rules.rule import Rule

SMALL = {
    "dataset": "clusters:6,8", "ways": 3, "shots": 3, "queries": 4, "hidden": (5,), "episodes": 8,
    "meta_batch": 2, "meta_lr": 0.02, "refit": 4, "validation": 4, "test_episodes": 4, "look": 4,
    "terms": "error_hebbian,oja", "l1": 0.0, "weights": "dale:fraction=0.6",
}  # fmt: skip
TITLE = "every rule learns with --weights dale:fraction=0.6"


class Killed(Observer):
    """Copies the run's folder in the middle, as a kill would leave it."""

    def __init__(self, source, target):
        self.source, self.target, self.count = source, target, 0

    def record(self, loop, record):
        self.count += 1
        if self.count == 6:
            shutil.copytree(self.source, self.target)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, what it returned, and a copy of its folder from the middle of it."""
    folder = tmp_path_factory.mktemp("constrained")
    whole, killed = folder / "whole", folder / "killed"
    result = discover(
        **SMALL, folder=whole, observers=[Killed(whole, killed)], checkpoint_seconds=0.0
    )
    return whole, result, killed


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(run):
    _, result, killed = run
    assert essence(Discovery.resume(killed).run()) == essence(result)


def test_all_rules_of_a_run_learn_under_the_constraint(run):
    folder, result, _ = run
    discovery = Discovery(DiscoveryConfig(**SMALL))
    assert discovery.engine.name == "batched"
    for name in ("backprop", "feedback_alignment"):
        assert name in result.heldout
    rule = Rule.load(folder / "rule.json")
    assert rule.weights == "dale:fraction=0.6"
    config = json.loads((folder / "config.json").read_text())["config"]
    assert config["weights"] == "dale:fraction=0.6"
    read = read_run(folder)
    assert "weights dale:fraction=0.6" in facts(read)["network"]
    assert TITLE in pictures(read)[0].caption


def test_a_run_without_a_constraint_is_as_before(run):
    plain = {k: v for k, v in SMALL.items() if k != "weights"}
    assert "weights" not in DiscoveryConfig(**plain).to_json()
    assert DiscoveryConfig.from_json(DiscoveryConfig(**plain).to_json()).weights == "none"
    free = discover(**plain)
    assert "weights" not in free.rule.provenance
    assert free.rule != run[1].rule


def test_show_and_compare_name_the_constraint(run, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "140")
    folder, result, _ = run
    assert guard(show, [str(folder)]) == 0
    assert TITLE in " ".join(capsys.readouterr().out.split())
    free = replace(result.rule, provenance={"widths": [6, 5, 3], "dataset": "other"})
    free.save(tmp_path / "free.json")
    given = [str(folder), str(tmp_path / "free.json"), "--out", str(tmp_path / "both")]
    assert guard(compare, given) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "free was found with --weights none, but these tasks are learned with" in out


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["none", "dale:fraction=0.6"])
def test_evaluate_warns_of_another_constraint(run, weights, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", "140")
    given = [
        str(run[0]), "--baselines", "none", "--dataset", "clusters:6,8", "--samples", "4",
        "--seeds", "2", "--hidden", "5", "--weights", weights, "--out", str(tmp_path / "e"),
    ]  # fmt: skip
    assert guard(evaluate, given) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert ("was found with --weights dale:fraction=0.6" in out) == (weights == "none")
    settings = json.loads((tmp_path / "e" / "comparison.json").read_text())["settings"]
    assert settings.get("weights", "none") == weights


@pytest.mark.parametrize("command", [discover_command, evaluate, recover, sweep])
@pytest.mark.parametrize(
    "weights", ["dael", "bounds:1,-1", "bounds", "dale:fraction=1.5", "dale:", "nonnegative:2"]
)
def test_a_wrong_constraint_is_one_sentence(command, weights, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rule = ["backprop"] if command is evaluate else []
    assert guard(command, [*rule, "--weights", weights]) == 2
    assert_is_one_sentence(capsys.readouterr().err.removeprefix("error: ").strip())
    assert not list(tmp_path.iterdir())


def test_the_fused_engine_is_refused(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = ["--weights", "dale", "--engine", "fused", "--dataset", "clusters:6,8"]
    assert guard(discover_command, given) == 2
    assert "--engine batched" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


class Outside:
    """A sampler whose tasks begin with weights that Dale's principle does not allow."""

    def __init__(self, sampler, system):
        self.sampler, self.system = sampler, system

    def sample(self, episodes, generator):
        batch = self.sampler.sample(episodes, generator)
        state = self.system.draw(episodes, torch.Generator().manual_seed(0), torch.float32)
        return replace(batch, initial=state.map(lambda matrix: -matrix))


def test_tasks_that_begin_outside_are_refused(capsys):
    config = DiscoveryConfig(**SMALL)
    split = Discovery(config).split
    outside = Outside(split.train, config.build_system(split.inputs, split.outputs))

    def run(_):
        discover(**SMALL, split=replace(split, train=outside, test=outside))

    assert guard(run, []) == 2
    error = capsys.readouterr().err.removeprefix("error: ").strip()
    assert_is_one_sentence(error)
    assert "violate the constraint" in error
