"""After `kill -9` no process keeps running, and a resumed run ends with the same results.

`tests/campaigns/kill.py` kills many times, at random moments.
"""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import LIGHT, SMALL_RUN, fail_to_write

from metaplast.base.files import LOCK
from metaplast.commands import discover, guard, sweep

SCRIPTS = Path(__file__).parents[2] / "scripts"

WORKER = (
    LIGHT
    + """
import multiprocessing, time
from metaplast.base.family import worker_ends_with_parent

def work():
    worker_ends_with_parent()
    print("working", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
"""
)
MODULE = (
    LIGHT
    + """
import time
from metaplast.base.family import module_ends_with_parent

module_ends_with_parent()
print("working", flush=True)
time.sleep(600)
"""
)
STARTER = LIGHT + "from metaplast.base.family import run_module; run_module('child')"


@pytest.mark.parametrize("files", [{"main.py": WORKER}, {"main.py": STARTER, "child.py": MODULE}])
def test_processes_end_with_the_one_that_started_them(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with subprocess.Popen(
        [sys.executable, "main.py"], cwd=tmp_path, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout.readline() == b"working\n"
        parent.kill()
        # The other process holds this pipe too, so the pipe closes when both have ended.
        assert parent.communicate(timeout=60) == (b"", None)


def without_seconds(path):
    return [line.split(",")[:-2] for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_killed_sweep_leaves_no_process_and_resumes_to_the_same(tmp_path, monkeypatch, capsys):
    grid = [*SMALL_RUN, "--l1=0,0.1", "--seeds=1"]
    whole, out = tmp_path / "whole", tmp_path / "killed"
    # One process: a second one would load torch again. Only the killed sweep needs two.
    assert guard(sweep.main, [*grid, "--processes=1", f"--out={whole}"]) == 0
    runs = ["l1=0_seed=0", "l1=0.1_seed=0"]
    with subprocess.Popen(
        [sys.executable, str(SCRIPTS / "sweep.py"), *grid, "--processes=2", f"--out={out}"],
        stdout=subprocess.PIPE,
    ) as victim:
        until = time.monotonic() + 300
        while not (out / runs[0] / "checkpoint.pt").exists() and time.monotonic() < until:
            time.sleep(0.01)
        victim.kill()
        victim.communicate(timeout=60)
    assert not (out / "runs.csv").exists(), "the sweep was over before it could be killed"
    assert guard(sweep.main, [f"--resume={out}", "--processes=1"]) == 0
    for name in (f"{run}/{file}" for run in runs for file in ("history.csv", "rule.json")):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert without_seconds(out / "runs.csv") == without_seconds(whole / "runs.csv")
    assert not [path for path in out.rglob(".*") if path.is_file()]
    capsys.readouterr()
    fail_to_write(monkeypatch, "runs.csv", errno.ENOSPC)
    assert guard(sweep.main, [f"--resume={whole}"]) == 2
    printed = capsys.readouterr()
    assert f"runs.csv: {os.strerror(errno.ENOSPC)}" in printed.err
    assert f"continue with metaplast sweep --resume {whole}.\n" in printed.err
    for table in ("Rules by complexity", "Recommended"):
        assert table in printed.out, "what cannot be written is shown"


SUICIDE = (
    LIGHT
    + """
import os, signal
from pathlib import Path
from metaplast.base.files import write_json
from metaplast.base.locks import locked

os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
with locked(Path("run"), make=True):
    write_json(Path("run/config.json"), {})
"""
)


@pytest.mark.slow
def test_a_folder_of_left_overs_is_as_good_as_new(tmp_path, monkeypatch, capsys):
    done = subprocess.run([sys.executable, "-c", SUICIDE], check=False, cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    left = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert len(left) == 2
    assert left[1] == LOCK
    monkeypatch.chdir(tmp_path)
    assert guard(discover.main, [*SMALL_RUN, "--quiet", "--out=run"]) == 0
    assert not [path for path in Path("run").rglob(".*") if path.is_file()]
    assert (tmp_path / "run" / "summary.json").exists()
