"""`metaplast draw`: a run on a target of one's own, its files, and mistakes."""

import errno
import json

import numpy as np
import pytest
from support import fail_to_write

from metaplast.commands import draw as draw_command
from metaplast.commands import guard
from metaplast.reservoirs import PEN, learning, published, simulation

SMALL = ["--neurons=5", "--period=20", "--training=2", "--test=1"]


@pytest.mark.slow
def test_a_run_writes_its_results_and_continues(tmp_path, capsys, monkeypatch):
    target, out = tmp_path / "curve.csv", tmp_path / "out"
    target.write_text("x,y\n0,0.5\n0.5,0\n0,0\n")
    arguments = [str(target), "--task=arm:2", f"--out={out}", *SMALL]
    calls = 0
    whole = simulation.Simulation._advance

    def interrupted(self):
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        whole(self)

    with monkeypatch.context() as patched:
        patched.setattr(simulation.Simulation, "_advance", interrupted)
        assert guard(draw_command.main, arguments) == 130
    assert "Continue with:  the same command with --out" in capsys.readouterr().out
    assert guard(draw_command.main, arguments) == 0
    printed = capsys.readouterr().out
    assert "period 1 of 3" not in printed
    assert "period 2 of 3: distance" in printed
    assert "Deviation in the test" in printed
    found = json.loads((out / "run.json").read_text())
    assert found["settings"]["task"] == "arm:2"
    drawn = np.loadtxt(out / "drawn.csv", delimiter=",", skiprows=1)
    assert drawn.shape == (6, 3)
    assert np.load(out / "readouts.npz")["W_1"].shape == (2, 5)
    assert (out / "drawn.png").stat().st_size > 5_000
    # The same command again computes nothing. Other settings are refused.
    capsys.readouterr()
    assert guard(draw_command.main, [*arguments, "--json"]) == 0
    assert json.loads((out / "run.json").read_text()) == found
    told = json.loads(capsys.readouterr().out)
    assert told == {key: found[key] for key in ("deviation", "diverged_at", "gate_open")} | {
        "folder": str(out)
    }
    assert guard(draw_command.main, [*arguments, "--seed=1"]) == 2
    assert "simulation with other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (["none.csv"], "none.csv is not a target"),
        (["--task=arm:0.5,0.5"], "reaches 1 from its shoulder"),
        (["--task=leg"], "unknown task"),
        (["--algorithm=forse"], "did you mean 'force'?"),
        (["--algorithm=force", "--task=arm:2"], "unknown algorithm 'force'"),
        (["--costs=1,2,3"], "needs as many costs"),
        (["--neurons=0"], "neurons must be at least 1"),
        (["--training=0"], "must be at least 1, not 0"),
        (["--training=1000000000000000000000"], "does not have enough memory; lower --neurons"),
        (["--seed=-1"], "--seed must be"),
        (["--learn=-1"], "--learn must be at least 0, got -1"),
        (["--candidates=3"], "--candidates must be at least 4"),
        (["--curves=0"], "--curves must be at least 1"),
        (["--algorithm=none.json"], "cannot read the run.json of a drawing from none.json"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(wrong, sentence, tmp_path, capsys):
    out = tmp_path / "out"
    assert guard(draw_command.main, [*SMALL, *wrong, f"--out={out}"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert sentence in printed
    assert not out.exists()


def test_the_largest_target_has_a_figure(tmp_path):
    target, out = tmp_path / "curve.csv", tmp_path / "out"
    target.write_text("x,y\n1e9,-1e9\n-1e9,0\n")
    assert guard(draw_command.main, [str(target), *SMALL, f"--out={out}"]) == 0
    assert (out / "drawn.png").stat().st_size > 5_000


def test_a_result_that_cannot_be_written_is_shown(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    fail_to_write(monkeypatch, "run.json", errno.ENOSPC)
    assert guard(draw_command.main, [*SMALL, f"--out={out}"]) == 2
    printed = capsys.readouterr()
    assert "Deviation in the test" in printed.out
    assert printed.err.count("\n") == 1
    assert f"free some space there, then continue with the same command with --out {out}" in (
        printed.err
    )


LEARN = ["--learn=2", "--candidates=4", "--curves=2"]


@pytest.mark.slow
def test_coefficients_are_learned_and_used_again(tmp_path, capsys, monkeypatch):
    pytest.importorskip("cma")
    out, plain, again = tmp_path / "out", tmp_path / "plain", tmp_path / "again"
    seeds = []
    made = learning.Simulation.__init__

    def noted(self, lanes, target, dynamics, schedule, seed):
        seeds.append(seed)
        made(self, lanes, target, dynamics, schedule, seed)

    with monkeypatch.context() as patched:
        patched.setattr(learning.Simulation, "__init__", noted)
        assert guard(draw_command.main, [*SMALL, *LEARN, f"--out={out}"]) == 0
    # The curve itself is drawn last, with its own seed, and never by a candidate.
    assert [seed for seed in seeds if seed] == [1_000_000, 1_000_001, 1_000_002, 1_000_003]
    printed = capsys.readouterr().out
    assert printed.count("generation 1 of 2") == 1
    assert "in the first generation" in printed
    found = json.loads((out / "run.json").read_text())
    start = published("supertrex", PEN)
    learned = [found["algorithm"][name] / getattr(start, name) for name in learning.LEARNED]
    assert all(0.05 < ratio < 20 and ratio != 1 for ratio in learned)
    assert f"{start.noise_size:.4g} at the start, {found['algorithm']['noise_size']:.4g}" in printed
    # The same command uses the kept scores again.
    monkeypatch.setattr(learning, "badness", lambda run: pytest.fail("scored again"))
    assert guard(draw_command.main, [*SMALL, *LEARN, f"--out={out}"]) == 0
    assert json.loads((out / "run.json").read_text()) == found
    # Without a search, the learned algorithm draws the same from its file.
    file = f"--algorithm={out / 'run.json'}"
    assert guard(draw_command.main, [*SMALL, file, f"--out={again}"]) == 0
    assert guard(draw_command.main, [*SMALL, f"--out={plain}"]) == 0
    drawn = [(folder / "drawn.csv").read_text() for folder in (out, again, plain)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_file_without_an_algorithm_is_refused(tmp_path, capsys):
    for text, sentence in (
        ("{}", "holds no algorithm"), ("[]", "holds no algorithm"),
        ('{"algorithm": {"name": "x"}}', "has other fields"),
    ):  # fmt: skip
        (tmp_path / "run.json").write_text(text)
        assert guard(draw_command.main, [f"--algorithm={tmp_path / 'run.json'}"]) == 2
        assert sentence in capsys.readouterr().err
    costs = [f"--algorithm={tmp_path / 'run.json'}", "--costs=1,2"]
    assert guard(draw_command.main, costs) == 2
    assert "leave --costs out" in capsys.readouterr().err
