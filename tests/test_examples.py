"""The examples run as they stand, each in a fresh process, and say what they promise."""

import re
from pathlib import Path

import pytest
from support import run_forked

pytestmark = pytest.mark.slow

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
PROMISES = {
    # Own terms compete with the two published ones, each with the formula it was declared with.
    "own_term": r"(?s)error_hebbian .*error_error .*error_decay +non-local (kept|dropped) +−.*W"
    r".*hebbian +local +(kept|dropped) +y",
    "own_data": r"after 272 wines: [6-9]\d\.\d %",
    "discover_export_use": r"[5-9]\d\.\d % of 797 other digits classified correctly",
    "watch_a_run": r"search, step 10 of 20: score \d\.\d{3}",
}


# Other packages that examples import, loaded once.
OTHERS = "torch,torch._dynamo,numba,scipy.stats,sklearn.datasets"


def test_examples_run_and_keep_their_promises(tmp_path):
    programs = []
    for path in EXAMPLES:
        folder = tmp_path / path.stem
        folder.mkdir()
        programs.append([str(folder), [str(path)], [str(path.parent)], path.read_text("utf-8")])
    ended = run_forked(programs, tmp_path, loaded=OTHERS)
    assert {path.stem for path in EXAMPLES} == set(PROMISES)
    for path, (code, printed, errors) in zip(EXAMPLES, ended, strict=True):
        assert code == 0, (path.stem, errors)
        assert "ΔWₗ =" in printed, path.stem
        assert re.search(PROMISES[path.stem], printed), (path.stem, printed)
