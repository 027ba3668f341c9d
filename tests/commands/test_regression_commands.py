"""Runs with the objective mse on the command line: killed, resumed, and with a planted rule."""

import json
import signal
import subprocess
import sys

import pytest
from support import SMALL_RUN

from metaplast.commands import discover, guard, recover

MSE = [arg for arg in SMALL_RUN if "--ways" not in arg] + ["--objective=mse", "--quiet"]
# Ends while it writes its third checkpoint, so that the second one remains.
KILLED = """
import os, signal, sys
import torch
from metaplast.commands import discover

save, count = torch.save, 0

def killed(*arguments, **options):
    global count
    count += 1
    if count == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    save(*arguments, **options)

torch.save = killed
discover.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_regression_run_resumes_to_the_same(tmp_path):
    options = [*MSE, "--dataset=diabetes"]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    assert guard(discover.main, [*options, f"--out={whole}"]) == 0
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *options, "--checkpoint-seconds=0", f"--out={out}"],
        check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    assert not (out / "rule.json").exists()
    assert guard(discover.main, [f"--resume={out}", "--quiet"]) == 0
    for name in ("history.csv", "rule.json"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    found = json.loads((out / "rule.json").read_text())["provenance"]
    assert found["objective"] == "mse"


@pytest.mark.slow
def test_a_rule_planted_on_numbers_is_compared_with_the_one_found(tmp_path, capsys):
    options = [*MSE, "--dataset=planted:F0=0.02@diabetes", f"--out={tmp_path / 'run'}"]
    assert guard(discover.main, options) == 0
    assert "error_hebbian" in capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["recovery"]["rule"] == {"error_hebbian": 0.02}
    assert summary["score"]["key"] == "neg_mse"


def test_recover_on_numbers_blames_no_option_that_was_not_given(tmp_path, capsys):
    out = tmp_path / "recover"
    options = ["--rules=1", "--terms=bio", "--dataset=diabetes", "--objective=mse", f"--out={out}"]
    assert guard(recover.main, options) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: diabetes has numbers as targets and no classes")
    assert told.endswith("; give --labels global.\n")
    assert "leave it out" not in told
    assert not out.exists()
