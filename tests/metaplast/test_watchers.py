"""Observers of a run, what the progress says, and a discovery on data in memory."""

import io
import runpy
import sys
import types
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from support import Clouds

import episodes
import metaplast
from metaplast import Observer, UserError, discover
from metaplast.batch_jobs.jobs import Heartbeat
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.result import trial, trial_number
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_folder import RunFiles
from metaplast.meta.growth_settings import Trial
from metaplast.report.observer import ReportFiles
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.library import all_terms
from metaplast.watch import stages_in_words
from metaplast.watch.console import ProgressBar, _decision
from metaplast.watch.estimate import TimeLeft, steps_left
from metaplast.watch.result_tables import growth_table
from metaplast.watch.tensorboard import TensorBoard

SPLIT = EpisodeSplit(Clouds(), Clouds(), "classes", inputs=6, outputs=3, description="clouds")
SMALL = {
    "hidden": (5,), "ways": 3, "shots": 2, "queries": 2, "episodes": 4, "meta_batch": 2,
    "refit": 8, "refit_batch": 4, "validation": 8, "test_episodes": 4, "engine": "batched",
}  # fmt: skip


def test_an_observer_does_nothing_until_it_is_told_to():
    plain = discover(terms="oja", split=SPLIT, **SMALL)
    watched = discover(terms="oja", split=SPLIT, observers=[Observer()], **SMALL)
    assert watched.rule == plain.rule
    assert metaplast.discovery.run.Observer is Observer
    ours = (ProgressBar, TimeLeft, TensorBoard, RunFiles, ReportFiles, Heartbeat)
    assert all(issubclass(kind, Observer) for kind in ours)


def test_an_observer_is_told_of_everything_in_order():
    told = []

    class Watcher(Observer):
        def begin(self, discovery):
            told.append(("begin", discovery.config.terms))

        def record(self, loop, record):
            told.append(("record", record.stage, record.step, loop.steps))

        def tested(self, name, episodes):
            told.append(("tested", name, episodes))

        def finish(self, result):
            told.append(("finish", result.kept))

    discover(terms="oja", split=SPLIT, observers=[Watcher()], **SMALL)
    assert told[:3] == [("begin", "oja"), ("record", "search", 0, 2), ("record", "search", 1, 2)]
    assert ("tested", "discovered", 4) in told
    assert told[-1] == ("finish", ("error_hebbian", "oja"))


class Fake:
    """Takes any call, and remembers it."""

    def __init__(self, calls):
        self.calls, self.summary = calls, {}

    def __getattr__(self, name):
        def call(*arguments, **options):
            self.calls.append((name, arguments, options))
            return self

        return call


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wandb", "mlflow"])
def test_the_examples_log_a_run(kind, monkeypatch, capsys):
    calls = []
    fake = Fake(calls)
    module = types.ModuleType(kind)
    module.__getattr__ = lambda name: getattr(fake, name)
    monkeypatch.setitem(sys.modules, kind, module)
    path = Path(__file__).parents[2] / "examples" / "watch_a_run.py"
    monkeypatch.setattr(sys, "argv", [str(path), kind])
    runpy.run_path(str(path), run_name="__main__")
    equation = capsys.readouterr().out.strip().splitlines()[-1]
    names = [name for name, _, _ in calls]
    steps = [arguments[0] for name, arguments, _ in calls if name in ("log", "log_metrics")]
    assert names[0] in ("init", "start_run")
    assert names[-1] in ("finish", "end_run")
    assert {"search/loss", "search/score", "search/theta/oja"} <= set(steps[0])
    assert equation.startswith("ΔWₗ = ")
    shown = [*fake.summary.items(), *(arguments for name, arguments, _ in calls)]
    assert any(equation in map(str, one) for one in shown)


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        ("search", "searching"),
        ("refit", "refitting"),
        ("backprop", "learning backprop"),
        (trial(7, "without oja"), "testing whether oja is needed, 7 of 18"),
        (trial(7, "without oja, decay"), "testing whether 2 terms are needed, 7 of 18"),
        (trial(7, "with oja"), "testing whether oja helps after all, 7 of 18"),
        (trial(7, "with oja instead of decay"), "testing oja instead of decay, 7 of 18"),
        (trial(7, "as it is"), "refitting the same terms, 7 of 18"),
        (trial(7, "as it is, once more"), "refitting the same terms once more, 7 of 18"),
    ],
)
def test_stages_are_told_in_plain_words(stage, words):
    assert stages_in_words.training(stage, left=11) == words


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("discovered", "held-out test of the rule"),
        ("backprop", "held-out test of backprop"),
        ("without oja", "held-out test without oja"),
        ("with oja", "held-out test with oja"),
        ("confirmation", "checking the rule on fresh tasks"),
        ("values of candidates", "trying values of candidates"),
        ("evidence for terms", "checking which terms the gradient supports"),
        (trial(12, "without oja"), "testing whether oja is needed"),
    ],
)
def test_tests_are_told_in_plain_words(name, words):
    assert stages_in_words.testing(name) == words


def test_trials_are_numbered():
    assert trial_number(trial(12, "without oja")) == 12
    assert trial_number("search") == trial_number("backprop") == 0


@pytest.mark.slow
def test_a_selection_counts_its_trials():
    console = Console(file=io.StringIO(), width=140)
    config = DiscoveryConfig(terms="error_hebbian,oja,decay", l1=0.0, look=4, **SMALL)
    Discovery(config, observers=[ProgressBar(console)], split=SPLIT).run()
    lines = console.file.getvalue().splitlines()
    numbers = [
        (int(words[-3]), int(words[-1]))
        for line in lines
        if (words := line.partition(":")[0].split())[-2:-1] == ["of"]
    ]
    assert numbers
    assert [number for number, _ in numbers] == sorted(number for number, _ in numbers)
    # The total is an estimate.
    assert all(number <= total for number, total in numbers)


def test_a_growing_search_says_once_that_it_tries_values():
    console = Console(file=io.StringIO(), width=140)
    config = DiscoveryConfig(
        terms="error_hebbian,oja,decay", entry=4, look=4, **(SMALL | {"refit": 0})
    )
    result = Discovery(config, observers=[ProgressBar(console)], split=SPLIT).run()
    lines = console.file.getvalue().splitlines()
    said = [line for line in lines if line.startswith("trying values of candidates")]
    # Once after each rule that the search settled on.
    assert 1 <= len(said) <= 1 + sum(trial.entered for trial in result.trials)


GROUP = [
    Trial(7, "oja", 1.0, 4.0, 0.1, 0.05, 0.2, True),
    Trial(7, "decay", 1.0, 4.0, 0.1, 0.05, 0.2, True, tried_with="oja"),
    Trial(7, "hebbian", 1.0, 4.0, 0.1, 0.05, 0.2, False, tried_with="oja"),
]


def test_candidates_that_enter_together_are_one_decision():
    growth = SimpleNamespace(trials=GROUP, settings=SimpleNamespace(cycle=4))
    assert _decision(growth, SimpleNamespace(step=7)) == ", oja, decay entered"
    none = [replace(each, entered=False) for each in GROUP[:2]]
    growth = SimpleNamespace(trials=none, settings=growth.settings)
    assert _decision(growth, SimpleNamespace(step=7)) == ", oja, decay did not help"
    # Two decisions, and then another one and those that are usual.
    growth = SimpleNamespace(trials=[*GROUP, replace(GROUP[0], step=11)], settings=growth.settings)
    loop = SimpleNamespace(
        growth=growth, is_done=False, progress=SimpleNamespace(step=12),
        learner=SimpleNamespace(terms=range(2)),
    )  # fmt: skip
    assert steps_left(loop) == (1 + 4) * 4 - 12


def test_the_table_of_growth_says_which_candidates_were_tried_together():
    result = discover(terms="oja", split=SPLIT, **SMALL)
    console = Console(file=io.StringIO(), width=100)
    console.print(growth_table(replace(result, trials=tuple(GROUP))))
    rows = [line for line in console.file.getvalue().splitlines() if "gradient  " in line]
    assert [" with oja " in row for row in rows[-3:]] == [False, True, True]
    assert ["entered" in row for row in rows[-3:]] == [True, True, False]


def test_a_growing_search_says_when_all_candidates_are_measured():
    console = Console(file=io.StringIO(), width=140)
    config = DiscoveryConfig(
        terms="products*fading:5", entry=4, look=4, **(SMALL | {"refit": 0, "shots": 4})
    )
    result = Discovery(config, observers=[ProgressBar(console)], split=SPLIT).run()
    lines = console.file.getvalue().splitlines()
    decisions = [line for line in lines if line.startswith("searching: step")]
    again = [line for line in decisions if "measured again with all candidates" in line]
    assert len(again) == 1
    # Every other line, but for that of the first look, is about the candidates tried together.
    assert len(decisions) == len({trial.step for trial in result.trials}) + 2


@pytest.mark.parametrize("width", [70, 80, 120])
def test_the_bar_cuts_no_name(width):
    name = max((term.name for term in all_terms().values()), key=len)
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    bar = ProgressBar(console)
    task = bar._bar.add_task(
        stages_in_words.training(trial(17, f"without {name}"), left=1), total=9, completed=3,
        status="loss 1", seconds=3000.0,
    )  # fmt: skip
    assert task == 0
    console.print(bar._bar.get_renderable())
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(lines)
    # Text that does not fit continues in a second line.
    assert "…" not in text
    for word in ("testing", "whether", name, "needed,", "18", "3", "about 50 min left"):
        assert word in text


X = np.random.default_rng(0).random((60, 4))
Y = np.arange(60) % 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pair", "list", "pairs", "source"])
def test_data_in_memory_are_taken_directly(kind):
    pairs = [(torch.tensor(x), int(y)) for x, y in zip(X, Y, strict=True)]
    data = {
        "pair": (X, Y),
        "list": [X.tolist(), Y.tolist()],
        "pairs": pairs,
        "source": episodes.from_tensors(X, Y),
    }[kind]
    found = discover(terms="oja", data=data, **SMALL)
    wanted = discover(terms="oja", split=episodes.from_tensors(X, Y), **SMALL)
    assert found.rule == wanted.rule
    assert found.own.data.digest == wanted.own.data.digest


def test_numbers_in_memory_are_learned_by_regression():
    config = {**SMALL, "ways": 5}
    found = discover(terms="oja", objective="mse", data=(X, X.mean(1)), **config)
    assert found.score.name == "−MSE"


@pytest.mark.parametrize(
    ("data", "more", "says"),
    [
        (3, {}, "data must be a pair"),
        ((X, Y), {"dataset": "digits"}, "only one of data, split and dataset"),
        ((X, Y), {"split": SPLIT}, "only one of data, split and dataset"),
        ((X, Y[:-1]), {}, "as many labels"),
        ((X, X.mean(1)), {}, "learns classes"),
    ],
)
def test_data_that_cannot_be_taken_are_refused(data, more, says):
    config = {**SMALL, "ways": 5} if "classes" in says else SMALL
    with pytest.raises(UserError, match=says):
        discover(terms="oja", data=data, **more, **config)
