"""Runs on data and terms from Python: recorded, shown, and continued only on the same ones."""

import json
import shutil

import numpy as np
import pytest
import torch
from support import Clouds, Stop, essence, refusal, seeded

import episodes
from metaplast import DenseFormula, DiscoveryConfig, Rule, Term, W, outer, post, pre
from metaplast.base.checkpoint import load_checkpoint, save_checkpoint
from metaplast.batch_jobs.jobs import DONE, JOBS, Jobs
from metaplast.commands import discover as discover_command
from metaplast.commands import evaluate as evaluate_command
from metaplast.commands import export as export_command
from metaplast.commands import guard
from metaplast.commands import report as report_command
from metaplast.discovery.discover import discover
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_config import CONFIG, write_config
from metaplast.discovery.run_folder import RunFiles
from metaplast.discovery.stages import CHECKPOINT
from metaplast.report.page import write_report
from metaplast.report.run import read_run
from metaplast.tasks.source import EpisodeSplit
from metaplast.watch.console import make_console, show_config

CONFIGURATION = DiscoveryConfig(
    terms="error_hebbian,oja", hidden=(5,), ways=3, shots=2, queries=2, episodes=6, meta_batch=2,
    refit=0, look=4, validation=2, test_episodes=2, engine="batched", l1=0.0,
)  # fmt: skip
MINE = Term("mine", -0.5 * outer(post.error, pre.activity) + 0.25 * W, "a notebook", initial=1e-4)


def dense(factor=1.0):
    formula = DenseFormula(
        W, lambda s: factor * torch.einsum("ei,ej->eij", s.post_error, s.pre_activity),
        frozenset((post.error, pre.activity)), True, "e f(y)", "e f(y)",
    )  # fmt: skip
    return Term("dense", formula, "a notebook")


def pixels(seed=0):
    return torch.rand(60, 6, generator=seeded(seed))


LABELS = torch.arange(60) % 3


def wine(images=None, labels=LABELS, config=CONFIGURATION):
    source = episodes.from_tensors(pixels() if images is None else images, labels, name="wine")
    return source.split(config.request)


def interrupted(folder, **options):
    with pytest.raises(KeyboardInterrupt):
        discover(CONFIGURATION, folder=folder, observers=[Stop(2)], **options)
    return folder


def finished(folder, **options):
    return discover(CONFIGURATION, folder=folder, observers=[RunFiles(folder)], **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on the user's data and term, and its result."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    return folder, finished(folder, split=wine(), terms=[MINE])


# --- what is recorded ---


def test_every_output_names_the_data_and_the_terms(run, capsys):
    folder, result = run
    summary = json.loads((folder / "summary.json").read_text())
    saved = json.loads((folder / "rule.json").read_text())
    config = json.loads((folder / CONFIG).read_text())
    assert result.dataset == summary["dataset"] == saved["provenance"]["dataset"]
    assert result.dataset == "own data: wine"
    digest = result.own.data.digest
    for line in (result.description, summary["data"], saved["provenance"]["data"]):
        assert line.startswith("own data: wine: 3 classes, 60 images of 6 pixels")
        assert f"digest {digest}" in line
    assert saved["provenance"]["own_terms"] == ["mine"]
    assert config["own"] == summary["own"] == json.loads(json.dumps(result.own.to_json()))
    assert config["own"]["terms"]["mine"]["monomials"][0]["coefficient"] == -0.5
    show_config(make_console(), Discovery(CONFIGURATION, split=wine(), terms=[MINE]))
    shown = " ".join(capsys.readouterr().out.split())
    assert "own data: wine" in shown
    assert "own terms: mine" in shown
    for text in (shown, *map(json.dumps, (summary, saved))):
        assert "digits" not in text


@pytest.mark.slow
def test_the_report_needs_neither_data_nor_terms_and_claims_no_command(run, capsys):
    folder, _ = run
    assert guard(report_command.main, [str(folder)]) == 0
    page = (folder / "report.html").read_text()
    for words in ("own data: wine", "own terms: mine", "a notebook", "split=…", "terms=[mine]"):
        assert words in page
    for words in ("metaplast discover", "digits"):
        assert words not in page


@pytest.mark.slow
def test_a_report_shows_a_torch_function_that_is_not_at_hand(tmp_path):
    finished(tmp_path / "run", terms=[dense()])
    assert "e f(y)" in write_report(tmp_path / "run").read_text()


@pytest.mark.slow
def test_export_works_and_evaluate_asks_for_data(run, capsys, tmp_path):
    folder, result = run
    assert guard(export_command.main, [str(folder), "--to", "json"]) == 0
    assert "own data: wine" in capsys.readouterr().out
    out = tmp_path / "out"
    arguments = [str(folder), "--baselines=none", f"--out={out}", "--quiet"]
    assert guard(evaluate_command.main, arguments) == 2
    said = capsys.readouterr().err
    assert "was found on own data: wine" in " ".join(said.split())
    assert "--dataset" in said
    assert not out.exists()
    arguments += ["--dataset=digits", "--samples=10", "--seeds=2", "--hidden=5"]
    assert guard(evaluate_command.main, arguments) == 0
    assert Rule.load(folder / "rule.json") == result.rule


# --- what is continued ---


@pytest.mark.slow
def test_a_run_continues_on_the_same_data_and_terms(tmp_path):
    whole = discover(CONFIGURATION, split=wine(), terms=[MINE])
    folder = interrupted(tmp_path / "run", split=wine(), terms=[MINE])
    shutil.copytree(folder, tmp_path / "again")
    assert essence(Discovery.resume(folder, split=wine(), terms=[MINE]).run()) == essence(whole)
    # A declared term is recorded; the data may have another type and layout.
    other = wine(pixels().double().T.contiguous().T.numpy(), LABELS.numpy().astype(np.int16))
    assert essence(Discovery.resume(tmp_path / "again", split=other).run()) == essence(whole)


def test_a_run_on_own_data_continues_on_nothing_else(tmp_path, capsys):
    folder = interrupted(tmp_path / "run", split=wine())
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "own data: wine" in refusal(Discovery.resume, folder)
    assert guard(discover_command.main, ["--resume", str(folder)]) == 2
    assert "pass the data again from Python" in " ".join(capsys.readouterr().err.split())
    one = pixels()
    one[7, 3] += 1e-6
    swapped = LABELS.clone()
    swapped[[0, 1]] = LABELS[[1, 0]]
    for split in (wine(one), wine(labels=swapped), wine(pixels(1))):
        assert "images or labels" in refusal(Discovery.resume, folder, split=split)
    wide = wine(torch.rand(60, 7))
    assert "inputs 7 instead of 6" in refusal(Discovery.resume, folder, split=wide)
    clouds = EpisodeSplit(Clouds(), Clouds(), "images", 6, 3, "clouds")
    assert "sampler Clouds" in refusal(Discovery.resume, folder, split=clouds)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_run_on_configured_data_takes_no_split_and_no_other_term(tmp_path):
    folder = interrupted(tmp_path / "run")
    assert "uses the data that" in refusal(Discovery.resume, folder, split=wine())
    assert "does not have the term mine" in refusal(Discovery.resume, folder, terms=[MINE])


def test_another_term_of_the_same_name_is_refused(tmp_path):
    folder = interrupted(tmp_path / "run", terms=[MINE])
    for other in (
        Term("mine", outer(post.error, pre.activity), "a notebook", initial=1e-4),
        Term("mine", MINE.formula, "a notebook", initial=2e-4),
        Term("mine", MINE.formula, "a notebook", initial=1e-4, nonnegative=True),
    ):
        assert "not the one that" in refusal(Discovery.resume, folder, terms=[other])


@pytest.mark.slow
def test_a_torch_function_must_be_given_again(tmp_path):
    term = dense()
    whole = discover(CONFIGURATION, terms=[term])
    folder = interrupted(tmp_path / "run", terms=[term])
    assert "terms=[dense]" in refusal(Discovery.resume, folder)
    assert "not the one that" in refusal(Discovery.resume, folder, terms=[dense(2.0)])
    assert essence(Discovery.resume(folder, terms=[term]).run()) == essence(whole)


@pytest.mark.slow
def test_a_sampler_of_one_s_own_is_known_by_a_few_episodes(tmp_path):
    split = EpisodeSplit(Clouds(), Clouds(), "classes", 6, 3, "clouds")
    folder = interrupted(tmp_path / "run", split=split)
    data = json.loads((folder / CONFIG).read_text())["own"]["data"]
    assert (data["sampler"], data["support"], data["queries"]) == ("Clouds", 6, 6)
    other = EpisodeSplit(Clouds(), Clouds(queries=4), "classes", 6, 3, "clouds")
    assert "images or labels" in refusal(Discovery.resume, folder, split=other)
    resumed = Discovery.resume(folder, split=split).run()
    assert essence(resumed) == essence(discover(CONFIGURATION, split=split))


def test_a_split_that_was_opened_for_a_command_is_not_one_s_own(tmp_path):
    trial = Discovery(CONFIGURATION)
    split = trial.split
    placed = trial.placed(tmp_path / "run")
    assert placed.split is split
    assert placed.own.data is None


# --- a split must fit the configuration ---


@pytest.mark.parametrize("change", [{"ways": 2}, {"shots": 3}, {"queries": 4}])
def test_a_split_for_other_sizes_is_refused(change):
    (name, size), = change.items()  # fmt: skip
    split = wine(config=DiscoveryConfig(**vars(CONFIGURATION) | change))
    said = refusal(discover, CONFIGURATION, split=split)
    assert f"{name} = {size}, but the configuration asks for {getattr(CONFIGURATION, name)}" in said


def test_a_split_for_other_labels_or_another_held_out_side_is_refused():
    split = wine(config=DiscoveryConfig(**vars(CONFIGURATION) | {"labels": "remapped"}))
    assert "labels = remapped" in refusal(discover, CONFIGURATION, split=split)
    classes = DiscoveryConfig(**vars(CONFIGURATION) | {"held_out": "classes"})
    said = refusal(discover, classes, split=wine())
    assert "holds out images, but the configuration asks to hold out classes" in said


# --- what was asked for may not change ---


def edited(folder, **fields):
    data = json.loads((folder / CONFIG).read_text())
    data["config"] |= fields
    (folder / CONFIG).write_text(json.dumps(data))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "value"),
    [("seed", 1), ("hidden", [6]), ("dataset", "clusters"), ("dtype", "float64"), ("meta_lr", 0.1)],
)
def test_an_edited_configuration_is_not_believed(field, value, tmp_path):
    folder = interrupted(tmp_path / "run")
    edited(folder, **{field: value})
    said = refusal(Discovery.resume, folder)
    assert f"{field} was " in said
    assert "was changed after the run started" in said


@pytest.mark.slow
def test_data_may_have_moved(tmp_path):
    whole = discover(CONFIGURATION)
    folder = interrupted(tmp_path / "run")
    edited(folder, data_root=str(tmp_path))
    discovery = Discovery.resume(folder)
    assert discovery.config.data_root == tmp_path
    assert essence(discovery.run()) == essence(whole)


def test_an_edited_record_of_own_data_is_not_believed(tmp_path):
    folder = interrupted(tmp_path / "run", split=wine())
    data = json.loads((folder / CONFIG).read_text())
    data["own"]["data"] = None
    (folder / CONFIG).write_text(json.dumps(data))
    assert "own data and terms" in refusal(Discovery.resume, folder)
    del data["own"]
    (folder / CONFIG).write_text(json.dumps(data))
    assert "own data and terms" in refusal(Discovery.resume, folder)
    data["own"] = {"data": {"name": 3}, "terms": {}}
    (folder / CONFIG).write_text(json.dumps(data))
    assert "is damaged" in refusal(Discovery.resume, folder)


def test_a_finished_run_s_report_does_not_believe_it_either(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "run")
    edited(tmp_path / "run", seed=7)
    assert "was changed after the run" in refusal(read_run, tmp_path / "run")


@pytest.mark.slow
def test_checkpoints_of_earlier_versions_continue_with_a_warning(tmp_path):
    whole = discover(CONFIGURATION)
    folder = interrupted(tmp_path / "run")
    data = load_checkpoint(folder / CHECKPOINT)
    del data["asked"]
    save_checkpoint(folder / CHECKPOINT, data)
    assert "does not say which run it belongs to" in refusal(Discovery.resume, folder)
    write_config(folder, CONFIGURATION)
    with pytest.warns(UserWarning, match="written by an earlier version") as warned:
        discovery = Discovery.resume(folder)
    assert len(warned) == 1
    assert essence(discovery.run()) == essence(whole)


def test_a_job_that_is_done_is_the_job_that_was_asked_for(tmp_path):
    jobs = Jobs(tmp_path, {"one": CONFIGURATION})
    jobs.save()
    folder = tmp_path / "one"
    finished(folder)
    (folder / DONE).write_bytes((folder / "summary.json").read_bytes())
    assert [name for name, _ in jobs.run()] == ["one"]
    data = json.loads((tmp_path / JOBS).read_text())
    data["jobs"]["one"]["seed"] = 5
    (tmp_path / JOBS).write_text(json.dumps(data))
    again, _ = Jobs.load(tmp_path)
    assert "was changed after one was done" in refusal(lambda: list(again.run()))


# --- folders ---


def test_a_folder_is_made_and_may_be_a_text(tmp_path):
    folder = tmp_path / "new" / "run"
    whole = discover(CONFIGURATION, folder=str(folder))
    assert (folder / CONFIG).exists()
    assert essence(Discovery.resume(str(folder)).run()) == essence(whole)


def test_a_run_is_not_begun_over_another(tmp_path):
    folder = interrupted(tmp_path / "run")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "already holds a run" in refusal(Discovery(CONFIGURATION, folder=folder).run)
    own = Discovery(CONFIGURATION, folder=folder, split=wine())
    assert "other settings, data or terms" in refusal(own.run)
    # discover() with a folder continues the discovery in it, only on its own data.
    said = refusal(discover, CONFIGURATION, folder=folder, split=wine())
    assert "leave it out, or start a new run" in said
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
