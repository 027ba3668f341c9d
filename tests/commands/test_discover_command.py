"""`metaplast discover` as its user sees it: files, resumption, refusals."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import interruptible

from metaplast.base.checkpoint import load_checkpoint
from metaplast.commands import discover as command
from metaplast.commands import guard, main
from metaplast.commands.discover import read_options
from metaplast.rules.rule import Rule

SCRIPTS = Path(__file__).parents[2] / "scripts"
SMALL = [
    "--episodes=8",
    "--meta-batch=2",
    "--refit=4",
    "--refit-batch=2",
    "--look=4",
    "--validation=4",
    "--test-episodes=6",
    "--hidden=12,8",
    "--shots=3",
    "--queries=4",
    "--engine=fused",
]


def run(*arguments):
    return guard(command.main, [*map(str, arguments)])


def read_history(folder):
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert run(*SMALL, "--quiet", "--out", out) == 0
    return out


def test_a_run_leaves_everything_a_reader_needs(folder):
    summary = json.loads((folder / "summary.json").read_text())
    assert {
        "rule",
        "kept",
        "heldout",
        "without",
        "added",
        "episodes",
        "seconds",
        "engine",
        "seed",
        "versions",
    } <= set(summary)
    assert set(summary["rule"]) == set(summary["kept"])
    assert set(summary["heldout"]) == {"discovered", "feedback_alignment", "backprop"}
    for band in summary["heldout"].values():
        assert 0 <= band["low"] <= band["mean"] <= band["high"] <= 1
    rule = Rule.load(folder / "rule.json")
    assert rule.coefficients == summary["rule"]
    assert rule.provenance["seed"] == summary["seed"] == 0
    assert load_checkpoint(folder / "checkpoint.pt")["stages"].keys() >= {"search", "backprop"}


def test_the_history_has_one_row_for_each_outer_step_of_each_stage(folder):
    rows = read_history(folder)
    stages = [row["stage"] for row in rows]
    counts = {s: stages.count(s) for s in stages if not s.startswith("select")}
    assert counts == {"search": 4, "refit": 4, "feedback_alignment": 4, "backprop": 4}
    assert float(rows[0]["theta_error_hebbian"]) == pytest.approx(1e-3)
    assert [float(row["angle_1"]) for row in rows if row["stage"] == "backprop"] == pytest.approx(
        [0] * 4, abs=0.1
    )


@pytest.mark.slow
def test_the_printed_rule_is_the_saved_rule(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "140")
    assert run(*SMALL, "--out", tmp_path / "run") == 0
    printed = capsys.readouterr().out
    assert str(Rule.load(tmp_path / "run" / "rule.json")) in printed
    for text in ("feedback_alignment", "98 % band", "locality", "images", "tensorboard --logdir"):
        assert text in printed


@pytest.mark.slow
def test_per_layer_coefficients_reach_every_file(tmp_path):
    assert run(*SMALL, "--theta=per-layer", "--quiet", "--terms=bio", "--out", tmp_path / "r") == 0
    rule = Rule.load(tmp_path / "r" / "rule.json")
    assert {len(values) for values in rule.coefficients.values()} == {3}
    rows = read_history(tmp_path / "r")
    backprop = next(row for row in rows if row["stage"] == "backprop")
    # The baseline has the same freedom as the rule.
    assert all(backprop[f"theta_error_hebbian_{layer}"] for layer in (1, 2, 3))


@pytest.mark.slow
def test_plastic_feedback_with_backward_terms_runs(tmp_path):
    assert run(*SMALL, "--terms=all+backward", "--refit=0", "--quiet", "--out", tmp_path / "r") == 0
    assert Rule.load(tmp_path / "r" / "rule.json").feedback == "plastic"


# The command, in a process that is killed in the middle of its fourth outer step.
KILLED = """
import os, signal, sys
from metaplast.commands import main
from metaplast.meta.outer_loop import OuterLoop

original = OuterLoop._learn

def learn(self, *arguments):
    original(self, *arguments)
    if self.progress.step == 3:
        os.kill(os.getpid(), signal.SIGKILL)

OuterLoop._learn = learn
main()
"""


@pytest.mark.slow
def test_killed_in_a_step_a_run_resumes_to_the_same_theta(folder, tmp_path):
    out = tmp_path / "killed"
    command_line = ["discover", *SMALL, "--quiet", "--checkpoint-seconds=0", f"--out={out}"]
    victim = subprocess.run([sys.executable, "-c", KILLED, *command_line], check=False)
    assert victim.returncode == -signal.SIGKILL
    assert load_checkpoint(out / "checkpoint.pt")["stages"]["search"]["step"] == 3
    assert not (out / "summary.json").exists()
    assert run("--resume", out, "--quiet") == 0
    assert (out / "history.csv").read_text() == (folder / "history.csv").read_text()
    assert Rule.load(out / "rule.json") == Rule.load(folder / "rule.json")


@pytest.mark.slow
def test_interrupted_a_run_says_how_to_go_on(tmp_path):
    out = tmp_path / "interrupted"
    options = [*SMALL, "--episodes=4000", "--checkpoint-seconds=0", f"--out={out}"]
    with subprocess.Popen(
        interruptible(SCRIPTS / "discover.py", *options),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 120
        while not (out / "checkpoint.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"--resume {out}" in " ".join(printed.split())
    assert "Traceback" not in errors
    assert load_checkpoint(out / "checkpoint.pt")["stages"]["search"]["step"] > 0


def test_the_paper_preset_pins_the_published_loop_and_options_win():
    options = read_options(["--preset", "paper", "--episodes", "7"])
    outer = options.config.outer
    assert (outer.meta_batch, outer.meta_lr, outer.optimizer) == (1, 1e-3, "Adam")
    assert (outer.penalty, outer.scaling, outer.clip, outer.schedule) == (
        "subgradient", "none", 0.0, "constant",
    )  # fmt: skip
    assert options.held_out == "images"
    assert options.episodes == 7
    assert read_options([]).config.hidden == (170, 130, 100, 70)


@pytest.mark.parametrize("command_line", [["discover", "--list-terms"], ["--help"], []])
def test_the_metaplast_command_lists_and_helps(command_line, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["metaplast", *command_line])
    assert main() == 0
    printed = capsys.readouterr().out
    assert ("oja" in printed) if command_line[:1] == ["discover"] else ("discover" in printed)


def test_list_terms_shows_citation_equation_and_locality(capsys):
    assert run("--list-terms") == 0
    printed = capsys.readouterr().out
    for text in ("error_hebbian", "F0", "−eₗ yₗ₋₁ᵀ", "non-local", "Oja 1989", "local_plastic"):
        assert text in printed


REFUSED = {
    "unknown-term": (["--terms=ojaa"], "did you mean 'oja'"),
    "unknown-data-set": (["--dataset=mnits"], "did you mean 'mnist'"),
    "unknown-feedback": (["--feedback=fixd"], "did you mean 'fixed'"),
    "unknown-engine": (["--engine=batchd"], "did you mean 'batched'"),
    "unknown-activation": (["--activation=tanhh"], "did you mean 'tanh'"),
    "unknown-optimizer": (["--optimizer=Adm"], "did you mean 'Adam'"),
    "too-many-ways": (["--ways=11"], "digits has 10 classes"),
    "too-many-shots": (["--shots=500"], "--shots 500"),
    "negative-rate": (["--meta-lr=-1"], "--meta-lr must be a positive"),
    "nan-rate": (["--meta-lr=nan"], "--meta-lr must be a positive"),
    "negative-penalty": (["--l1=-1"], "--l1 must be a non-negative"),
    "zero-width": (["--hidden=3,0"], "--hidden takes widths"),
    "missing-data-root": (["--dataset=mnist", "--data-root=missing"], "missing"),
    "unwritable-out": (["--out=/proc/no/such"], "cannot write"),
    "no-run-to-resume": (["--resume=."], "holds no run"),
    "backward-terms-on-fixed-feedback": (
        ["--terms=backward_hebbian,F0", "--feedback=fixed"],
        "--feedback plastic",
    ),
    "backprop-with-random-feedback": (["--terms=backprop", "--feedback=fixed"], "symmetric"),
    "negative-seed": (["--seed=-3"], "--seed"),
    "endless-seed": (["--seed=99999999999999999999"], "--seed"),
    "unknown-device": (["--device=cpu:x"], "--device must be"),
    "device-of-torch": (["--device=meta"], "--device must be"),
    "nobodys-home": (["--dataset=mnist", "--data-root=~nobody-at-all/x"], "is not a folder"),
    "endless-clusters": (["--dataset=clusters:99999999999,5"], "clusters takes at most"),
}


@pytest.mark.parametrize(("arguments", "expected"), REFUSED.values(), ids=REFUSED)
def test_a_users_mistake_is_one_sentence_and_exit_code_2(
    arguments, expected, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "a refused run leaves no folder behind"


def test_an_occupied_folder_is_left_as_it_is(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert run(*SMALL, "--out", tmp_path) == 2
    assert "--resume" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("damage", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_a_damaged_checkpoint_is_refused_and_kept(folder, tmp_path, damage, capsys):
    out = tmp_path / "damaged"
    out.mkdir()
    (out / "config.json").write_bytes((folder / "config.json").read_bytes())
    (out / "checkpoint.pt").write_bytes(damage)
    assert run("--resume", out) == 2
    assert "checkpoint" in capsys.readouterr().err
    assert (out / "checkpoint.pt").read_bytes() == damage
