"""Discovery by a score other than accuracy: regression, from the search to the report."""

import csv
import json
import re
from dataclasses import replace

import pytest
import torch

from metaplast.base.errors import UserError
from metaplast.commands.discover import read_options
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_folder import RunFiles
from metaplast.engines import get_engine
from metaplast.meta.evaluation import evaluate, least_scores
from metaplast.report.page import write_report
from metaplast.rules.rule import Rule
from metaplast.systems import objective
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.objectives.mean_squared_error import MeanSquaredError
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.library import all_terms

pytestmark = pytest.mark.slow

INPUTS, OUTPUTS = 6, 2


class Maps:
    """Targets are a linear map of the inputs, a fresh one in each episode."""

    def __init__(self, poisoned=()):
        self.poisoned = poisoned

    def sample(self, episodes, generator):
        draw = lambda *shape: torch.randn(episodes, *shape, generator=generator)  # noqa: E731
        linear, support, query = draw(INPUTS, OUTPUTS), draw(60, INPUTS), draw(8, INPUTS)
        support_y = support @ linear
        support_y[list(self.poisoned), 0] = 1e18
        return EpisodeBatch(support, support_y, query, query @ linear)


def config(**changes):
    settings = {
        "terms": "error_hebbian,decay", "objective": "mse", "feedback": "symmetric",
        "hidden": (), "init": "normal:0.1", "episodes": 40, "meta_lr": 0.02, "refit": 0,
        "test_episodes": 8, "engine": "batched", "shots": 12, "queries": 8,
        "threshold": 0.0,
    }  # fmt: skip
    return DiscoveryConfig(**(settings | changes))


def split(**options):
    return EpisodeSplit(
        Maps(**options),
        Maps(**options),
        "images",
        INPUTS,
        OUTPUTS,
        "linear maps",
        targets="numbers",
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regression")
    result = Discovery(config(), folder=folder, split=split(), observers=[RunFiles(folder)]).run()
    return folder, result


def test_a_rule_is_found_that_learns_the_maps(run):
    _, result = run
    learned = result.heldout["discovered"].band
    # An output of zero has −MSE of about −6: the variance of a sum of six products.
    assert learned.low > -2
    assert result.score.name == "−MSE"


def test_files_are_named_by_the_score(run):
    folder, result = run
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    assert "neg_mse" in rows[0]
    assert "accuracy" not in rows[0]
    assert float(rows[0]["neg_mse"]) < 0
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["score"] == {"name": "−MSE", "key": "neg_mse"}
    rule = Rule.load(folder / "rule.json")
    assert rule.provenance["objective"] == "mse"
    assert rule.provenance["heldout_neg_mse"] == result.heldout["discovered"].band.mean


@pytest.mark.slow
def test_the_report_speaks_of_the_score(run):
    folder, _ = run
    page = write_report(folder).read_text()
    words = re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
    assert "−MSE" in words
    assert "accuracy" not in words
    assert "nats" not in words
    assert "--objective mse" in words or "objective='mse'" in words.replace("&#39;", "'")
    assert (folder / "figures" / "neg_mse.svg").exists()


def test_a_diverged_episode_counts_as_an_output_of_the_wrong_sign():
    learner = Learner(
        FullyConnected((INPUTS, OUTPUTS), objective_name="mse", feedback_name="symmetric"),
        (all_terms()["error_hebbian"],),
    )
    theta = torch.tensor([0.02])
    settings = {"episodes": 3, "seed": 0, "purpose": "heldout", "chunk": 3}
    engine = get_engine("batched")
    whole = evaluate(learner, theta, Maps(), engine, **settings)
    found = evaluate(learner, theta, Maps(poisoned=[1]), engine, **settings)
    assert torch.equal(found.score[[0, 2]], whole.score[[0, 2]])
    target = Maps().sample(3, seeded_like(settings)).query_y
    least = -(2 * target).square().mean((1, 2))
    assert found.score[1] == pytest.approx(float(least[1]), rel=1e-5)
    torch.testing.assert_close(least_scores(learner, theta, Maps(), **settings), least)


def seeded_like(settings):
    from metaplast.base.seeds import generator

    return generator(settings["seed"], settings["purpose"], "episodes", 0, device="cpu")


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_least_effect_that_is_no_change_of_the_score_is_refused(value):
    with pytest.raises(UserError, match="--least-effect must be a change of −MSE, at least 0"):
        config(least_effect=value)


def test_the_default_least_effect_is_the_objective_s():
    assert config().least_gain == 0.002
    assert config().to_json()["least_effect"] == 0.002
    assert DiscoveryConfig.from_json(config().to_json()) == config()


class Strict(MeanSquaredError):
    name = "strict"
    least_effect = 0.5


def test_a_least_effect_that_nobody_gave_follows_the_objective(monkeypatch):
    known = {**objective.all_objectives(), "strict": Strict()}
    monkeypatch.setattr(objective, "all_objectives", lambda: known)
    assert replace(config(), objective="strict").least_gain == 0.5
    assert replace(config(least_effect=0.1), objective="strict").least_gain == 0.1
    assert read_options(["--objective", "strict"]).least_gain == 0.5
    given = ["--objective", "strict", "--least-effect", "0.002"]
    assert read_options(given).config.to_json()["least_effect"] == 0.002
