"""Damaged files of a finished run: one sentence, or everything that a report shows of them."""

import itertools
import json
import math

import pytest
from support import SMALL_RUN, assert_is_one_sentence, paths_in, with_value, without

from metaplast.base.bands import Band
from metaplast.base.errors import UserError
from metaplast.commands import discover as discover_command
from metaplast.commands import guard
from metaplast.report.facts import facts
from metaplast.report.observer import ReportFiles
from metaplast.report.page import _length_rows, _rule_row, _trial_row
from metaplast.report.rule_tables import run_scores_table, run_terms_table
from metaplast.report.run import read_run

BAND = {"mean": 0.1, "low": 0.0, "high": 0.2}
# Parts that not every run has.
MORE = {
    "without": {"oja": BAND},
    "added": {"oja": BAND},
    "errors": {"oja": 1.5},
    "taus": [{"of": "oja", "label": "oja", "start": 2.0, "tau": 3.0}],
    "tried": [{"stage": "refit", "terms": ["oja"], **BAND}],
    "trials": [{"term": "oja", "change": 0.1, "low": 0.0, "high": 0.2, "errors": 2.0,
                "entered": False, "tried_with": "oja"}],
    "notices": ["a notice"],
    "divergences": ["a divergence"],
}  # fmt: skip
WRONG = (None, "x", -1.5, True, [], {}, [None])


def discovered(out, *more):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ReportFiles, "finish", lambda self, result: None)
        assert guard(discover_command.main, [*SMALL_RUN, "--quiet", f"--out={out}", *more]) == 0
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run whose summary has every part."""
    out = discovered(tmp_path_factory.mktemp("runs") / "run")
    summary = json.loads((out / "summary.json").read_text("utf-8")) | MORE
    for test in summary["heldout"].values():
        test["by_steps"] = {"6": BAND}
    (out / "summary.json").write_text(json.dumps(summary), "utf-8")
    return out


def read_all(folder):
    """Read and show a run; return the sentence if it is refused."""
    try:
        run = read_run(folder)
    except UserError as error:
        assert_is_one_sentence(error)
        return str(error)
    for width in (80, 200):
        run_terms_table(run, width)
    run_scores_table(run)
    facts(run)
    _length_rows(run)
    for name in run.summary["heldout"]:
        _rule_row(run, name)
    for trial in run.summary.get("trials", []):
        _trial_row(run, trial)
    return ""


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("summary.json", None),
        ("config.json", [("versions",)]),
        ("rule.json", [("provenance",), ("provenance", "widths")]),
    ],
)
def test_no_damage_reaches_a_table(folder, name, parts):
    whole = (folder / name).read_text("utf-8")
    assert read_all(folder) == ""
    data, refused = json.loads(whole), 0
    # No page shows the other contents of a summary, which are for other programs.
    paths = [*paths_in(data)] if parts is None else parts
    try:
        for path, value in itertools.product(paths, (*WRONG, "removed")):
            removed = value == "removed"
            spoiled = without(data, path) if removed else with_value(data, path, value)
            (folder / name).write_text(json.dumps(spoiled), "utf-8")
            refused += "is damaged" in read_all(folder)
    finally:
        (folder / name).write_text(whole, "utf-8")
    assert refused >= len(paths)


def test_an_end_of_a_band_may_be_open(tmp_path):
    """With one task of each number of examples, nothing is known about the spread of an error."""
    options = ["--dataset=diabetes", "--objective=mse", "--ways=5", "--shots=3,5"]
    options = [*options, "--test-episodes=2", "--queries=4"]
    out = discovered(tmp_path / "run", *options)
    run = read_run(out)
    ends = run.summary["heldout"]["discovered"]["by_steps"]["3"]
    assert ends["low"] is None
    assert ends["high"] == 0
    (_, rows), _ = _length_rows(run)
    assert rows[0][1] == "−inf to 0.000"


@pytest.mark.parametrize("ends", [(0.5, 0.25, 0.75), (0.5, -math.inf, math.inf)])
def test_a_band_is_read_as_it_was_written(ends):
    assert Band.from_json(json.loads(json.dumps(Band(*ends).to_json())), "it") == Band(*ends)
