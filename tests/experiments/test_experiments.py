"""Every experiment runs in its quick version; existing results are not computed again."""

import csv
import json
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure

from metaplast.base.errors import UserError
from metaplast.batch_jobs import queue
from metaplast.commands import guard
from metaplast.commands import reproduce as reproduce_command
from metaplast.reproduce.experiment import Setting, all_experiments, get_experiment
from metaplast.reproduce.page import page
from metaplast.reproduce.runner import Plan, Results, prepare_variant

QUICK = Setting(quick=True)


def slow_unless_small(name):
    """Mark the test of an experiment as slow, unless it is a small one."""
    return name if name == "ehebb" else pytest.param(name, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all, as variants are shared."""
    return tmp_path_factory.mktemp("results")


# Only the figures of these become PNG files too: drawing all takes as long as some experiments.
PICTURED = ("ehebb", "bio")


@pytest.fixture
def _few_pngs(request, monkeypatch):
    """Draw each figure once, as SVG."""
    draw = Figure.savefig

    def drawn(self, stream, *, format, **options):
        if format != "png":
            draw(self, stream, format=format, **options)

    if request.getfixturevalue("name") not in PICTURED:
        monkeypatch.setattr(Figure, "savefig", drawn)


@pytest.mark.slow
@pytest.mark.usefixtures("_few_pngs")
@pytest.mark.parametrize("name", [*map(slow_unless_small, all_experiments())])
def test_every_experiment_has_a_table_figures_and_a_verdict_on_each_claim(name, folder):
    experiment = get_experiment(name)
    plan = Plan(Results(folder, QUICK), [experiment], 1)
    assert plan.run(processes=1) == {}
    assert plan.is_whole(experiment)
    summary = plan.conclude(experiment)
    rows = list(csv.DictReader((folder / f"{name}.csv").read_text().splitlines()))
    assert {row["variant"] for row in rows} == {variant.name for variant in experiment.variants}
    assert [v["claim"] for v in summary["verdicts"]] == [claim.text for claim in experiment.claims]
    # With one seed, no claim is decided.
    assert {v["outcome"] for v in summary["verdicts"]} == {"not decided"}
    assert all(v["mean"] is not None for v in summary["verdicts"])
    for stem in summary["figures"]:
        assert name not in PICTURED or (folder / f"{stem}.png").stat().st_size > 10_000
        assert (folder / f"{stem}.svg").stat().st_size > 10_000
    text = page(folder)
    assert f"## {name}" in text
    assert f"({summary['figures'][0]}.png)" in text
    assert "Made with `--quick`" in text
    json.dumps(summary, allow_nan=False)


@pytest.mark.slow
def test_the_command_adds_seeds_to_those_that_are_there(tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["feedback-alignment", "--quick", "--seeds=1", "--processes=1", f"--out={out}"]
    assert guard(reproduce_command.main, arguments) == 0
    printed = capsys.readouterr().out
    assert "backprop, seed 0" in printed
    assert "not decided" in printed
    first = out / "parts" / "backprop" / "seed-0.csv"
    stamp = first.stat().st_mtime_ns
    assert guard(reproduce_command.main, [*arguments, "--seeds=2"]) == 0
    printed = capsys.readouterr().out
    assert "backprop, seed 1" in printed
    assert "backprop, seed 0" not in printed
    assert first.stat().st_mtime_ns == stamp
    found = json.loads((out / "feedback-alignment.json").read_text())
    assert found["seeds"] == 2
    assert guard(reproduce_command.main, [*arguments, "--seeds=2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"experiments": {"feedback-alignment": found}, "failed": {}, "folder": str(out)}


def test_the_experiments_are_listed_for_programs_too(capsys):
    assert guard(reproduce_command.main, ["--json"]) == 0
    listed = json.loads(capsys.readouterr().out)["experiments"]
    assert [each["name"] for each in listed] == [*all_experiments()]
    assert all(each["title"] and each["source"] for each in listed)


def test_a_seed_is_the_same_whatever_ran_before(tmp_path):
    variant = get_experiment("feedback-alignment").variants[0]
    alone = variant.run(1, QUICK, {})
    variant.run(0, QUICK, {})
    assert variant.run(1, QUICK, {}) == alone
    assert variant.run(0, QUICK, {}) != alone


def test_the_outer_loop_that_does_best_on_separate_seeds_is_run(tmp_path):
    plain = get_experiment("feedback-alignment").variants[1]
    loops = {"still": {"meta_lr": 1e-9}, "moving": {"meta_lr": 0.03}}
    chosen = replace(plain, loops=loops)
    found = chosen.prepare(QUICK, tmp_path)
    assert found["loop"] == "moving"
    assert found["tried"]["moving"] > found["tried"]["still"]
    moving = replace(plain, quick={**plain.quick, **loops["moving"]})
    assert chosen.run(0, QUICK, found) == moving.run(0, QUICK, {})
    assert plain.prepare(QUICK, tmp_path) == {}
    # Results of other loops to choose from are other results; without any, the settings are plain.
    assert chosen.settings(QUICK) != plain.settings(QUICK)


def test_results_of_other_settings_are_not_mixed(tmp_path, capsys):
    variant = get_experiment("feedback-alignment").variants[0]
    full = Results(tmp_path, Setting())
    assert prepare_variant(variant, Setting(), str(full.place(variant))) == {}
    arguments = ["feedback-alignment", "--quick", "--seeds=1", f"--out={tmp_path}"]
    assert guard(reproduce_command.main, arguments) == 2
    assert "made with other settings" in capsys.readouterr().err


class Counting:
    """A variant that computes several seeds at once, and remembers which."""

    name, together = "counting", 3

    def __init__(self):
        self.asked = []

    def settings(self, setting):
        return {}

    def data(self, setting):
        return {}

    def prepare(self, setting, folder):
        return {"theta": 2.0}

    def run(self, seed, setting, prepared):
        raise AssertionError("seeds are computed at once")

    def run_together(self, seeds, setting, prepared):
        self.asked.append(list(seeds))
        return [[{"at": 0.0, "accuracy": prepared["theta"] * seed}] for seed in seeds]


def test_seeds_that_learn_side_by_side_are_computed_at_once(tmp_path):
    variant, results = Counting(), Results(tmp_path, QUICK)
    experiment = replace(get_experiment("feedback-alignment"), variants=(variant,))
    names = []
    assert Plan(results, [experiment], 2).run(
        processes=1, observe=lambda name, _: names.append(name)
    ) == {}  # fmt: skip
    plan = Plan(results, [experiment], 7)
    assert plan.run(processes=1, observe=lambda name, _: names.append(name)) == {}
    assert variant.asked == [[0, 1], [2, 3, 4], [5, 6]]
    assert names == [
        "counting, preparation", "counting, seeds 0 to 1", "counting, seeds 2 to 4",
        "counting, seeds 5 to 6",
    ]  # fmt: skip
    assert plan.missing() == ([], [])
    assert [results.rows(variant, seed)[0]["accuracy"] for seed in range(7)] == [
        2.0 * seed for seed in range(7)
    ]


def test_a_mistake_is_told_in_one_sentence(tmp_path, capsys):
    out = f"--out={tmp_path / 'out'}"
    for wrong in (
        ["nonsense"],
        ["oja", "--seeds=-1"],
        ["oja", "--processes=-1"],
        ["bio", "--rule=none.json"],
    ):
        assert guard(reproduce_command.main, [*wrong, out]) == 2
        assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_processes_run_parts_and_one_that_fails_is_named_and_the_others_are_kept(
    tmp_path, monkeypatch
):
    pools, real = [], queue.ProcessPoolExecutor
    monkeypatch.setattr(
        queue, "ProcessPoolExecutor", lambda *given: pools.append(given) or real(*given)
    )
    experiment = get_experiment("feedback-alignment")
    good = experiment.variants[0]
    bad = replace(good, name="bad", quick={**good.quick, "ways": 99})
    plan = Plan(Results(tmp_path, QUICK), [replace(experiment, variants=(good, bad))], 1)
    failed = plan.run(processes=2)
    assert list(failed) == ["bad, seed 0"]
    # The workers that prepare the variants run the seeds too.
    assert [number for number, *_ in pools] == [2]
    assert "--ways" in failed["bad, seed 0"]
    assert plan.results.is_done(good, 0)
    assert not plan.is_whole(plan.experiments[0])


def test_without_a_name_experiments_are_listed(capsys):
    assert guard(reproduce_command.main, []) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in all_experiments())


# --- devices ---


@pytest.fixture
def one_gpu(monkeypatch):
    """Let torch say that there is a GPU; nothing is computed on it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["feedback-alignment", "--device=cuda"], "feedback-alignment can run on the CPU only"),
        (["fixed-points-mnist", "bio", "--device=cuda"], "but bio can run on the CPU only"),
        (["fixed-points-mnist", "--device=cuda:1"], "the last CUDA device is cuda:0"),
        (["fixed-points-mnist", "--device=tpu"], "--device must be cpu, cuda or cuda:NUMBER"),
        (["fixed-points-mnist", "--device=cuda", "--ray=auto"], "leave one of them out"),
    ],
)
def test_a_device_that_cannot_be_used_is_refused(arguments, words, one_gpu, tmp_path, capsys):
    out = tmp_path / "out"
    assert guard(reproduce_command.main, [*arguments, "--quick", f"--out={out}"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert words in error
    assert not out.exists()


def test_parts_from_another_device_are_not_continued(tmp_path):
    experiment = get_experiment("fixed-points-mnist")
    variant = experiment.variants[0]
    here = Results(tmp_path, QUICK)
    prepare_variant(variant, QUICK, str(here.place(variant)))
    assert here.prepared(variant) == {}
    there = Results(tmp_path, replace(QUICK, device=torch.device("cuda")))
    with pytest.raises(UserError, match="on another device"):
        there.prepared(variant)


@pytest.mark.parametrize("setting", [Setting(quick=False), QUICK], ids=["full", "quick"])
def test_variants_with_the_same_name_are_the_same(setting):
    # They share a folder of results, in which only one of two could be kept.
    found = {}
    for name in all_experiments():
        for variant in get_experiment(name).variants:
            settings = variant.settings(setting)
            first = found.setdefault(variant.name, (name, settings))
            assert first[1] == settings, f"{variant.name} of {first[0]} and of {name} differ"
