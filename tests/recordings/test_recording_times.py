"""The benchmark of rules from recordings: its peer computes our gradient, and both are reported."""

import json
from importlib.util import find_spec

import numpy as np
import pytest
from recorded import planted, problem_of

from metaplast.commands import _recording_times, benchmark, guard
from metaplast.commands._recording_peer import Trajectories, adam, value_and_gradient
from metaplast.recordings.long_gradient import gradient
from metaplast.recordings.monomial import taylor
from metaplast.recordings.pieces import Parameters
from metaplast.watch.console import make_console

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed"),
]
SIZES = ["--inputs=8", "--neurons=3", "--trials=12", "--steps=20", "--repeats=1", "--epochs=5"]


def data_of(made):
    return Trajectories(made.arrays["inputs"], made.activity, made.arrays["initial_weights"])


def test_the_peer_computes_our_gradient():
    made = planted("xy=1,y2w=-1")
    problem, terms = problem_of(made.arrays), taylor()
    theta = np.random.default_rng(0).normal(size=(3, 3, 3)) / 20
    at = Parameters(np.array([theta[term.exponents[:3]] for term in terms]))
    total, ours = gradient(problem, terms, at)
    data = data_of(made)
    peers = [value_and_gradient()(theta, *(each[i] for each in vars(data).values()))
             for i in range(len(data.inputs))]  # fmt: skip
    # The peer's loss is a mean over the steps and neurons of one trial.
    count = data.activity[0].size
    assert total == pytest.approx(sum(float(value) for value, _ in peers) * count, rel=1e-4)
    found = sum(np.asarray(each) for _, each in peers) * count
    # Where x or y are near ½, terms are alike; no two exponents may be exchanged.
    expected = {term.exponents[:3]: value for term, value in zip(terms, ours, strict=True)}
    for place, value in np.ndenumerate(found):
        assert value == pytest.approx(expected[place], rel=2e-3, abs=1e-4 * abs(ours).max())
    assert abs(found - found.transpose(2, 1, 0)).max() > 0.1 * abs(found).max()


def test_adam_moves_toward_the_rule():
    found = list(adam(data_of(planted("xy=1,y2w=-1", trials=20, steps=30)), 3))
    assert len(found) == 3
    assert 0 < found[0][1, 1, 0] < found[2][1, 1, 0] < 1
    # Adam's first steps are as large as its rate, 20 for each epoch.
    assert abs(found[0]).max() <= 0.0201


def test_the_command_reports_both(tmp_path, capsys):
    place = tmp_path / "rows.json"
    arguments = ["--system=recordings", *SIZES, f"--json={place}"]
    assert guard(benchmark.main, arguments) == 0
    kept = json.loads(place.read_text())
    printed = capsys.readouterr().out
    assert "8 inputs, 3 neurons, 12 trials of 20" in " ".join(printed.split())
    assert [row["by"] for row in kept] == [
        "metaplast", "JAX", "metaplast, all 27", "metaplast infer", "JAX, 1 epoch", "JAX, 5 epochs"
    ]  # fmt: skip
    whole = kept[2]
    assert whole["terms"] == 27
    assert (whole["theta_xy"], whole["theta_y2w"]) == pytest.approx((1, -1), abs=1e-6)
    assert whole["largest_other"] < 1e-6
    assert kept[3]["terms"] == 2
    assert all(row["seconds"] > 0 for row in kept)
    assert all(row["terms"] == 27 for row in kept[4:])


def test_without_jax_only_ours_is_timed(monkeypatch, capsys):
    monkeypatch.setattr(_recording_times.importlib.util, "find_spec", lambda name: None)
    case = _recording_times.RecordingCase(8, 3, 12, 20, 1, 5)
    rows = _recording_times.recording_times(case, make_console())
    assert {row["by"] for row in rows} == {"metaplast", "metaplast, all 27", "metaplast infer"}
    assert "JAX is not installed" in capsys.readouterr().out
