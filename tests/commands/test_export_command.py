"""The export command: what it prints, what it writes, and what it refuses to write."""

import json
import os
import stat
import subprocess
import sys

import pytest
from support import MAIN, named

from metaplast import Rule
from metaplast.commands import command_names, export, guard
from metaplast.discovery.run import CONFIG
from metaplast.discovery.run_folder import RULE
from metaplast.export import all_exporters
from metaplast.export.exporter import CodeExporter

BIO = named("error_hebbian", "error_error", "oja")
FORMATS = ("jax", "json", "latex", "markdown", "numpy", "torch")


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run, which holds its rule."""
    folder = tmp_path / "run"
    folder.mkdir()
    provenance = {"widths": [7, 6, 5], "activation": "tanh", "init": "normal:0.3", "seed": 12}
    Rule(BIO, ((0.03, -0.05, 0.002),), "fixed", provenance).save(folder / RULE)
    (folder / CONFIG).write_text("{}")
    return folder


def export_with(*arguments):
    return guard(export.main, list(map(str, arguments)))


def test_the_formats():
    assert "export" in command_names()
    assert set(FORMATS) <= set(all_exporters())
    for exporter in all_exporters().values():
        assert exporter.suffix.startswith(".")
        assert exporter.summary


def test_one_format_goes_to_standard_output(run, capsys):
    assert export_with(run, "--to", "numpy") == 0
    out, err = capsys.readouterr()
    compile(out, "exported", "exec")
    assert out.endswith("main()\n")
    assert err.startswith("numpy: checked against the engine over 5 steps")
    assert "largest difference" in err


def test_the_network_is_that_of_the_run(run, capsys):
    assert export_with(run, "--to", "json") == 0
    network = json.loads(capsys.readouterr().out)["network"]
    assert network == {"widths": [7, 6, 5], "activation": "tanh", "init": "normal:0.3"}


def test_options_give_another_network(run, capsys):
    options = ("--widths", "9,8,7,3", "--activation", "relu", "--init", "xavier")
    assert export_with(run / RULE, "--to", "json", *options) == 0
    network = json.loads(capsys.readouterr().out)["network"]
    assert network == {"widths": [9, 8, 7, 3], "activation": "relu", "init": "xavier"}


def test_a_rule_without_provenance_gets_the_default_network(tmp_path, capsys):
    Rule(BIO, ((0.03, -0.05, 0.002),), "fixed").save(tmp_path / "mine.json")
    assert export_with(tmp_path / "mine.json", "--to", "json") == 0
    network = json.loads(capsys.readouterr().out)["network"]
    assert network["widths"] == [784, 170, 130, 100, 70, 10]


@pytest.mark.parametrize("to", [("numpy,latex", "md"), ("numpy", "latex", "markdown", "numpy")])
def test_several_formats_go_to_a_folder(run, tmp_path, to, capsys):
    assert export_with(run, "--to", *to, "--output", tmp_path / "out") == 0
    names = ["rule_latex.tex", "rule_markdown.md", "rule_numpy.py"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert capsys.readouterr().out == ""


def test_several_formats_go_to_standard_output(run, capsys):
    assert export_with(run, "--to", "markdown", "latex") == 0
    out = capsys.readouterr().out
    assert out.index("# Plasticity rule") < out.index(r"\documentclass")


def test_one_format_goes_to_a_file(run, tmp_path):
    assert export_with(run, "--to", "json", "--output", tmp_path / "here.json") == 0
    assert Rule.load(tmp_path / "here.json") == Rule.load(run / RULE)


def sole_error(capsys):
    """Return the one line on standard error that a mistake leaves, with nothing printed."""
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert out == ""
    assert line.startswith("error: ")
    assert "Traceback" not in err
    return line


def test_nothing_is_written_where_one_of_several_is_wrong(run, tmp_path, capsys, monkeypatch):
    exporter = all_exporters()["numpy"]
    right = type(exporter).write
    monkeypatch.setattr(
        type(exporter), "write", lambda *a: right(*a).replace("change -= ", "change += ")
    )
    out = tmp_path / "out"
    assert export_with(run, "--to", "latex", "numpy", "--output", out) == 2
    assert not out.exists()
    error = sole_error(capsys)
    assert "differ from the engine's" in error
    assert "not written" in error


def test_nothing_is_written_where_a_framework_is_missing(run, tmp_path, capsys, monkeypatch):
    exporter = next(e for e in all_exporters().values() if isinstance(e, CodeExporter))
    monkeypatch.setattr(type(exporter), "package", "no_such_package")
    out = tmp_path / "rule.py"
    assert export_with(run, "--to", exporter.name, "--output", out) == 2
    assert not out.exists()
    assert "could not be checked and is therefore not written" in sole_error(capsys)


def spoil(**fields):
    def change(run):
        data = json.loads((run / RULE).read_text())
        data["provenance"] |= fields
        (run / RULE).write_text(json.dumps(data))

    return change


MISTAKES = {
    "no format": ((), None, "--to names no format; choose from jax, json"),
    "an unknown format": (("--to", "nunpy"), None, "did you mean 'numpy'?"),
    "an unfinished run": (
        ("--to", "numpy"), lambda run: (run / RULE).unlink(), "is not finished; continue it with",
    ),
    "a foreign folder": (
        ("--to", "numpy"),
        lambda run: [(run / name).unlink() for name in (RULE, CONFIG)],
        "has no rule.json",
    ),
    "widths of a wrong depth": (("--to", "numpy", "--widths", "5"), None, "at least 1"),
    "an unknown activation": (
        ("--to", "numpy", "--activation", "tahn"), None, "did you mean 'tanh'?",
    ),
    "provenance: widths a text": (
        ("--to", "numpy"), spoil(widths="__import__('os')"), "not whole numbers",
    ),
    "provenance: widths negative": (("--to", "numpy"), spoil(widths=[5, -2, 3]), "at least 1"),
    "provenance: widths true": (("--to", "numpy"), spoil(widths=[True, 3]), "not whole numbers"),
    "provenance: activation code": (
        ("--to", "numpy"), spoil(activation="softplus:10); import os; (1"), "a positive β",
    ),
    "provenance: activation a number": (("--to", "numpy"), spoil(activation=3), "is not text"),
    "provenance: init code": (
        ("--to", "numpy"), spoil(init="normal:__import__('os')"), "positive standard deviation",
    ),
    "provenance: feedback of another name": (
        ("--to", "numpy"), spoil(init="xavier:1"), "takes no parameter",
    ),
    "provenance: widths without end": (
        ("--to", "numpy"), spoil(widths=[10**6, 10**6]), "too large to run the code on",
    ),
    "no folder for the file": (
        ("--to", "json", "--output", "/no/such/folder/rule.json"), None, "make it first",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "prepare", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_in_one_sentence(arguments, prepare, sentence, run, capsys):
    if prepare is not None:
        prepare(run)
    assert export_with(run, *arguments) == 2
    assert sentence in sole_error(capsys)


def test_several_formats_do_not_fit_in_one_file(run, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert export_with(run, "--to", "all", "--output", tmp_path / "file") == 2
    assert "give --output a folder" in sole_error(capsys)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_known_rule_must_be_learned_first(capsys):
    assert export_with("bio", "--to", "numpy") == 2
    assert "discover --terms bio" in sole_error(capsys)


def test_a_missing_rule_is_refused(tmp_path, capsys):
    assert export_with(tmp_path / "none.json", "--to", "numpy") == 2
    assert "No such file" in sole_error(capsys)


def test_help_lists_the_formats(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["export"])
    with pytest.raises(SystemExit) as caught:
        export_with("--help")
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert all(name in out for name in FORMATS)


# --- where it is written ---


def test_a_link_is_followed_and_stays_one(run, tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    assert export_with(run, "--to", "json", "--output", tmp_path / "link.json") == 0
    assert (tmp_path / "link.json").is_symlink()
    assert Rule.load(tmp_path / "real.json") == Rule.load(run / RULE)


# A pipe represents everything that is not a regular file. Do not use a real device: as root, a
# faulty writer would replace it for the whole machine.
def test_a_pipe_is_written_to_and_stays_one(run, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    # Open for reading first, so that opening it for writing does not wait.
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert export_with(run, "--to", "json", "--output", tmp_path / "pipe") == 0
        assert json.loads(os.read(reader, 1 << 16))["format"] == "metaplast-rule"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize("name", [RULE, CONFIG])
def test_the_runs_own_files_are_not_replaced(run, name, capsys):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert export_with(run, "--to", "markdown", "--output", run / name) == 2
    assert "would be overwritten" in sole_error(capsys)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_rules_file_is_not_replaced_by_its_export(run, tmp_path, capsys):
    (tmp_path / "link").symlink_to(run / RULE)
    before = (run / RULE).read_bytes()
    assert export_with(run / RULE, "--to", "markdown", "--output", tmp_path / "link") == 2
    assert "would be overwritten" in sole_error(capsys)
    assert (run / RULE).read_bytes() == before


def test_formats_that_lead_to_one_file_are_refused(run, tmp_path, capsys):
    (tmp_path / "rule_json.json").write_text("mine")
    (tmp_path / "rule_markdown.md").symlink_to("rule_json.json")
    assert export_with(run, "--to", "json,markdown", "--output", tmp_path) == 2
    assert "the same file" in sole_error(capsys)
    assert (tmp_path / "rule_json.json").read_text() == "mine"


def test_a_name_beside_all_is_checked_too(run, capsys):
    assert export_with(run, "--to", "all", "nunpy") == 2
    assert "did you mean 'numpy'?" in sole_error(capsys)


def test_a_rule_that_may_not_be_read_is_refused(run, capsys, monkeypatch):
    def deny(source):
        raise PermissionError(13, "Permission denied", str(source))

    monkeypatch.setattr(export, "open_rule", deny)
    assert export_with(run, "--to", "json") == 2
    assert "Permission denied; check the path" in sole_error(capsys)


def test_a_write_that_fails_is_told_in_one_sentence(run, tmp_path, capsys, monkeypatch):
    def full(path, text):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "write_text", full)
    assert export_with(run, "--to", "json", "--output", tmp_path / "out.json") == 2
    assert "No space left on device" in sole_error(capsys)


@pytest.mark.slow
def test_standard_output_gets_utf_8_whatever_its_encoding(run, tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [*MAIN, "export", str(run), "--to", "json"]
    done = subprocess.run(command, check=True, capture_output=True, env=environment, cwd=tmp_path)
    assert "−" in json.loads(done.stdout.decode())["equation"]
