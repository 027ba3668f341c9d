"""The report of a discovery: complete, self-contained, made only from the run folder."""

import csv
import io
import json
import re
import shlex
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console
from support import assert_is_one_sentence

from metaplast import Term, outer, post, pre
from metaplast.base.errors import UserError
from metaplast.commands import discover as discover_command
from metaplast.commands import guard
from metaplast.commands import report as report_command
from metaplast.commands.discover import read_options
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.result import SEARCH
from metaplast.discovery.run import Discovery, write_config
from metaplast.discovery.run_folder import RunFiles
from metaplast.report import page, pictures
from metaplast.report.facts import facts
from metaplast.report.page import write_report
from metaplast.report.run import read_run
from metaplast.rules.rule import Rule
from metaplast.watch.console import show_result

pytestmark = pytest.mark.slow

SMALL = [
    "--episodes=24",
    "--meta-batch=2",
    "--refit=4",
    "--refit-batch=2",
    "--look=4",
    "--validation=4",
    "--test-episodes=6",
    "--hidden=12,8",
    "--shots=8",
    "--queries=4",
    "--quiet",
]
FIGURES = {"comparison", "theta", "accuracy", "loss", "angles"}


def discover(*arguments):
    return guard(discover_command.main, [*SMALL, *map(str, arguments)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "a run"
    assert discover("--out", out) == 0
    return out


class Page(HTMLParser):
    """The tags, attributes and text of a page, checked to be balanced."""

    VOID = frozenset({"meta", "br", "img", "link", "mspace"})

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)


@pytest.fixture(scope="module")
def shown(folder):
    return Page((folder / "report.html").read_text())


def test_every_discovery_ends_with_a_page_and_its_figures(folder, shown):
    kept = Rule.load(folder / "rule.json").terms
    expected = FIGURES | ({"ablation"} if len(kept) > 1 else set())
    tried = json.loads((folder / "summary.json").read_text())["tried"]
    assert tried[0]["stage"] == "refit"
    expected |= {"complexity"} if len({len(each["terms"]) for each in tried}) > 1 else set()
    names = {path.stem for path in (folder / "figures").iterdir()} - {"rule"}
    assert names == expected
    assert (folder / "figures" / "rule.svg").read_text().startswith("<svg")
    assert ("href", "figures/rule.svg") in shown.attributes
    for name in names:
        assert (folder / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (folder / "figures" / f"{name}.svg").read_text().startswith("<?xml")
    assert shown.tags.count("svg") == len(names)


def test_the_page_needs_nothing_from_elsewhere(folder, shown):
    assert {"script", "link", "img", "iframe", "object"} & set(shown.tags) == set()
    for name, value in shown.attributes:
        if name in ("src", "href", "xlink:href", "data", "srcset"):
            inside = value.startswith("#")
            beside = (folder / value).exists()
            assert inside or beside, value
    text = (folder / "report.html").read_text()
    assert "@import" not in text
    assert re.findall(r"url\((?!#)", text) == []


def test_ids_are_unique_and_every_reference_has_one(shown):
    ids = [value for name, value in shown.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for name, value in shown.attributes:
        if name in ("href", "xlink:href") and value.startswith("#"):
            assert value[1:] in ids
        for target in re.findall(r"url\(#([^)]*)\)", value or ""):
            assert target in ids


def test_pictures_take_the_page_s_ink_in_light_and_dark(folder):
    text = (folder / "report.html").read_text()
    assert "prefers-color-scheme: dark" in text
    assert "currentColor" in text
    assert "#010203" not in text.lower()
    assert "#fdfefd" not in text.lower()
    for svg in (folder / "figures").glob("*.svg"):
        assert "currentColor" not in svg.read_text()


def test_the_page_says_what_the_summary_says(folder, shown):
    summary = json.loads((folder / "summary.json").read_text())
    text = " ".join("".join(shown.text).split())
    for name, band in summary["heldout"].items():
        assert name.replace("_", " ") in text
        assert f"{100 * band['mean']:.1f} %" in text
        assert f"{100 * band['low']:.1f} – {100 * band['high']:.1f} %" in text
    for name in summary["before_refit"]:
        assert name in text
    for term in Rule.load(folder / "rule.json").terms:
        assert term.citation in text
    assert str(Rule.load(folder / "rule.json")) in text
    for word in ("kept", "dropped", "non-local", "softplus:10", "digits", "python"):
        assert word in text


def test_the_equation_is_typeset_with_every_kept_coefficient(folder):
    text = (folder / "report.html").read_text()
    equation = text[text.index('<div class="equation">') : text.index('<p class="soft">')]
    assert "<math" in equation
    for value in Rule.load(folder / "rule.json").coefficients.values():
        mantissa = f"{abs(value):.4g}".partition("e")[0]
        assert f"<mn>{mantissa}</mn>" in equation


def test_the_command_on_the_page_is_that_of_the_run(folder, shown):
    command = read_run(folder).command
    assert command in "".join(shown.text)
    words = command.split()
    assert words[:2] == ["metaplast", "discover"]
    assert read_options(words[2:]).config == read_options(SMALL).config


def copy_results(folder, target):
    """Copy a run's results as earlier versions wrote them, without the configuration's digest."""
    for name in ("rule.json", "history.csv"):
        (target / name).write_bytes((folder / name).read_bytes())
    summary = json.loads((folder / "summary.json").read_text())
    del summary["config"]
    (target / "summary.json").write_text(json.dumps(summary))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-signs", "--l1=0.1", "--theta=per-layer"],
        ["--preset=paper", "--hidden=none", "--data-root=/a b/c"],
    ],
)
def test_any_configuration_comes_back_from_its_command(arguments, tmp_path, folder):
    config = read_options(arguments).config
    write_config(tmp_path, config)
    copy_results(folder, tmp_path)
    again = read_options(shlex.split(read_run(tmp_path).command)[2:]).config
    assert again == config


def test_a_search_of_several_rounds_is_told(folder):
    run = read_run(folder)
    (whole,) = {len(rows) for name, rows in run.stages.items() if name == SEARCH}
    assert whole == run.asked.outer.steps
    assert "rounds" not in facts(run)["search"]
    twice = replace(run, rows=(*run.rows, *(row for row in run.rows if row["stage"] == SEARCH)))
    told = facts(twice)["search"]
    assert told.startswith(f"2 rounds of {run.asked.episodes} tasks, ")
    assert f"Adam {run.asked.meta_lr:g} (doubled in each further round)" in told


def test_trajectories_are_those_of_the_history(folder):
    run = read_run(folder)
    rows = list(csv.DictReader((folder / "history.csv").read_text().splitlines()))
    search = [float(r["theta_error_hebbian"]) for r in rows if r["stage"] == "search"]
    line = run.trajectory("error_hebbian")
    assert line.values[: len(search), 0].tolist() == search
    assert line.x[: len(search)].tolist() == [2.0 * (i + 1) for i in range(len(search))]
    assert (np.diff(line.x) > 0).all()
    for term in run.terms:
        final = run.trajectory(term.name).final
        kept = run.rule.coefficients.get(term.name)
        assert (None if final is None else final.tolist()) == (None if kept is None else [kept])


@pytest.mark.slow
def test_the_command_writes_the_same_page_again(folder, capsys):
    before = (folder / "report.html").read_text()
    (folder / "report.html").unlink()
    assert guard(report_command.main, [str(folder)]) == 0
    assert "report.html" in capsys.readouterr().out
    assert (folder / "report.html").read_text() == before


@pytest.mark.slow
def test_per_layer_rules_and_plastic_feedback_have_a_report(tmp_path):
    out = tmp_path / "r"
    assert discover("--theta=per-layer", "--terms=local_plastic", "--out", out) == 0
    shown = Page((out / "report.html").read_text())
    text = "".join(shown.text)
    assert "backward_hebbian" in text
    assert "\\" not in text
    assert "with, for layers 1 … L:" in text


@pytest.mark.slow
def test_print_and_report_say_what_n_is_if_a_term_fades(tmp_path):
    sentence = "n is the number of examples that a task has had before"
    for number, terms in enumerate(("F0", "F0_fading_5")):
        folder, console = tmp_path / str(number), Console(file=io.StringIO(), width=80)
        config = read_options([*SMALL, f"--terms={terms}"]).config
        folder.mkdir()
        write_config(folder, config)
        show_result(console, Discovery(config, folder=folder, observers=[RunFiles(folder)]).run())
        assert (sentence in console.file.getvalue()) == bool(number)
        assert (sentence in write_report(folder).read_text("utf-8")) == bool(number)


@pytest.mark.slow
def test_terms_of_one_s_own_reach_the_report(tmp_path):
    mine = Term("hebbian_of_mine", outer(post.activity, pre.activity), "Hebb & <i>1949")
    config = read_options([*SMALL, "--terms=F0,F2"]).config
    write_config(tmp_path, config)
    Discovery(config, folder=tmp_path, observers=[RunFiles(tmp_path)], terms=[mine]).run()
    for terms in ((), [mine]):
        text = write_report(tmp_path, terms).read_text()
        assert "hebbian_of_mine" in text
        assert "Hebb &amp; &lt;i&gt;1949" in text


@pytest.mark.slow
def test_a_report_that_fails_is_a_warning_and_the_run_stands(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise RuntimeError("no fonts")

    monkeypatch.setattr(page, "write_report", fail)
    out = tmp_path / "r"
    assert discover("--terms=F0", "--out", out) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "warning: the report could not be written (RuntimeError: no fonts)" in printed
    assert f"metaplast report {out}" in printed
    assert "Discovered rule" in printed
    assert (out / "summary.json").exists()
    assert not (out / "report.html").exists()


@pytest.mark.parametrize("left", [0.3, 0.999])
def test_a_history_that_was_cut_short_is_refused(folder, tmp_path, left):
    for path in folder.glob("*.*"):
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = (folder / "history.csv").read_text(encoding="utf-8")
    for end in ("", "\n"):
        (tmp_path / "history.csv").write_text(
            whole[: int(left * len(whole))] + end, encoding="utf-8"
        )
        with pytest.raises(UserError, match="is cut short"):
            write_report(tmp_path)


@pytest.mark.parametrize("name", ["summary.json", "history.csv", "rule.json", "config.json"])
def test_a_damaged_or_unfinished_run_is_refused_with_a_sentence(folder, tmp_path, name):
    for path in folder.glob("*.*"):
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    for content in ("{}", ""):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError) as refused:
            write_report(tmp_path)
        assert_is_one_sentence(refused.value)
    (tmp_path / name).unlink()
    with pytest.raises(UserError) as refused:
        write_report(tmp_path)
    assert_is_one_sentence(refused.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [("heldout", {"discovered": 3}), ("heldout", []), ("divergences", 3), ("seconds", "long"),
     ("without", {"oja": {}}), ("before_refit", {"F0": "large"})],
)  # fmt: skip
def test_a_summary_with_wrong_content_is_refused(folder, tmp_path, field, value):
    for path in folder.glob("*.*"):
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    summary = json.loads((folder / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps(summary | {field: value}))
    (tmp_path / "report.html").unlink()
    with pytest.raises(UserError, match="is damaged") as refused:
        write_report(tmp_path)
    assert_is_one_sentence(refused.value)
    assert not (tmp_path / "report.html").exists()


def test_the_default_configuration_has_the_shortest_command(tmp_path, folder):
    write_config(tmp_path, DiscoveryConfig())
    copy_results(folder, tmp_path)
    assert read_run(tmp_path).command == "metaplast discover"


def test_time_constants_and_rewards_are_drawn(tmp_path, monkeypatch):
    """A loss that is minus a reward lies below zero; a learned time constant has its course."""
    out = tmp_path / "run"
    assert discover(
        "--system=choice:delay=2", "--objective=reward", "--hidden=none", "--init=normal:0.01",
        "--terms=rewarded_eligibility", "--estimator=es", "--learn-tau", "--refit=0", "--out", out,
    ) == 0  # fmt: skip
    run = read_run(out)
    drawn = {picture.name: picture.figure for picture in pictures.pictures(run)}
    (axes,) = drawn["loss"].axes
    losses = run.curve("discovered", "loss").mean
    assert losses.max() < 0
    low, high = axes.get_ylim()
    assert low <= losses.min() < losses.max() <= high
    (axes,) = drawn["taus"].axes
    with (out / "history.csv").open(encoding="utf-8") as file:
        (column,) = {name for name in next(csv.reader(file)) if name.startswith("tau_")}
    with (out / "history.csv").open(encoding="utf-8") as file:
        wanted = [float(row[column]) for row in csv.DictReader(file) if row[column]]
    assert axes.lines[0].get_ydata().tolist() == wanted
    assert len(set(wanted)) > 1
    # Every figure that is made is on the page.
    text = (out / page.PAGE).read_text(encoding="utf-8")
    assert all(f"figures/{name}.png" in text for name in drawn)
