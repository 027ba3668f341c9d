"""`metaplast draw`: a run on a target of one's own, its files, and mistakes."""

import json

import numpy as np
import pytest

from metaplast.commands import draw as draw_command
from metaplast.commands import guard
from metaplast.reservoirs import simulation

SMALL = ["--neurons=5", "--period=20", "--training=2", "--test=1"]


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
    # Once more: everything is there. Other settings are refused.
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
        (["--training=0"], "must be at least 1"),
        (["--seed=-1"], "--seed must be"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(wrong, sentence, tmp_path, capsys):
    out = tmp_path / "out"
    assert guard(draw_command.main, [*SMALL, *wrong, f"--out={out}"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert sentence in printed
    assert not out.exists()
