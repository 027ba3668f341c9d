"""The examples run as they stand, each in a fresh process, and say what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
PROMISES = {
    # Own terms compete with the two published ones, each with the formula it was declared with.
    "own_term": r"(?s)error_hebbian .*error_error .*error_decay +non-local (kept|dropped) +−.*W"
    r".*hebbian +local +(kept|dropped) +y",
    "own_data": r"after 272 wines: [6-9]\d\.\d %",
    "discover_export_use": r"[5-9]\d\.\d % of 797 other digits classified correctly",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_keeps_its_promise(path, tmp_path):
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "ΔWₗ =" in done.stdout
    assert re.search(PROMISES[path.stem], done.stdout), done.stdout
