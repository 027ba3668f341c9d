"""simulate and infer as commands: files, tables, JSON, report, refusals."""

import json
import re

import numpy as np
import pytest
from rich.cells import cell_len
from support import assert_is_one_sentence, entries

from metaplast.base.errors import UserError
from metaplast.commands import guard, infer, simulate
from metaplast.recordings.files import read_recording
from metaplast.rules.rule import Rule

SMALL = ["--inputs=8", "--neurons=4", "--trials=12", "--steps=25", "--noise=0.03",
         "--input-variance=0.3"]  # fmt: skip


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a.npz"
    assert guard(simulate.main, ["xy=1,y2W=-1", "--out", str(path), *SMALL]) == 0
    return path


@pytest.mark.slow
def test_a_simulated_file_is_inferred_and_reported(recording, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "out"
    assert guard(infer.main, [str(recording), "--terms=monomials:3", "--out", str(out)]) == 0
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert max(cell_len(line) for line in lines if not line.startswith("Report")) <= 80
    assert any(re.match(r"ΔW = .* x y", line) for line in lines)
    assert "What the data say" in shown.out
    assert shown.err == ""
    assert entries(out) == ["inference.json", "report.html", "rule.json", "rule.py", "tensorboard"]
    data = json.loads((out / "inference.json").read_text("utf-8"))
    assert {term["name"] for term in data["terms"]} == {"xy", "y2w"}
    assert Rule.load(out / "rule.json").coefficients == {
        term["name"]: term["theta"] for term in data["terms"]
    }
    page = (out / "report.html").read_text("utf-8")
    for part in ("What the data say", "no plasticity", "certain", "<svg"):
        assert part in page


def test_json_is_alone_on_standard_output(recording, tmp_path, capsys):
    capsys.readouterr()
    arguments = [str(recording), "--terms=xy,y2W", "--json", "--quiet", "--out"]
    assert guard(infer.main, [*arguments, str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert set(json.loads(shown.out)) >= {"equation", "terms", "models", "in_words", "folder"}
    assert shown.err == ""


def test_several_animals_are_several_files(tmp_path):
    arguments = ["xy=1", f"--out={tmp_path}/b.csv", "--animals=2", "--trials=2", "--steps=3",
                 "--inputs=2", "--neurons=1"]  # fmt: skip
    assert guard(simulate.main, arguments) == 0
    assert entries(tmp_path) == ["b-1.csv", "b-1.weights.csv", "b-2.csv", "b-2.weights.csv"]
    one, two = (read_recording(tmp_path / f"b-{i}.csv") for i in (1, 2))
    assert one.inputs.shape == (2, 3, 2)
    assert not np.array_equal(one.inputs, two.inputs)


@pytest.mark.parametrize("rule", ["hebbian", "covariance", "bcm"])
def test_a_term_of_the_library_is_simulated(tmp_path, rule):
    path = tmp_path / "a.npz"
    assert guard(simulate.main, [rule, f"--out={path}", "--eta=0.1", *SMALL]) == 0
    assert read_recording(path).trials == 12


def test_odours_are_simulated(tmp_path):
    path = tmp_path / "a.npz"
    assert guard(simulate.main, ["xr=1", f"--out={path}", "--task=odours"]) == 0
    made = read_recording(path)
    assert (made.kind, made.trials, made.pres, made.posts) == ("readout", 240, 2, 10)
    assert made.continues


REFUSED = {
    "needs a rule": ([], simulate.main),
    "needs a file to write": (["xy=1"], simulate.main),
    "a .npz, .h5, .csv or .nwb file": (["xy=1", "--out=a.mat"], simulate.main),
    "NWB files are only read": (["xy=1", "--out=a.nwb"], simulate.main),
    "unknown monomial": (["xyz=1", "--out=a.npz"], simulate.main),
    "must be a number": (["xy=a", "--out=a.npz"], simulate.main),
    "each term may occur once": (["xy=1,xy=2", "--out=a.npz"], simulate.main),
    "reads post.error": (["error_hebbian", "--out=a.npz"], simulate.main),
    "--observed": (["xy", "--out=a.npz", "--observed=0"], simulate.main),
    "--observe must be": (["xy", "--out=a.npz", "--observe=spikes"], simulate.main),
    "--task must be": (["xy", "--out=a.npz", "--task=maze"], simulate.main),
    "--trials must be at least 1": (["xy", "--out=a.npz", "--trials=0"], simulate.main),
    "the weights diverged": (["w=9", "--out=a.npz"], simulate.main),
    "counts need": (["xy", "--out=a.npz", "--observe=counts", "--activation=tanh"], simulate.main),
    "which --trials, --noise cannot change": (
        ["xr", "--out=a.npz", "--task=odours", "--trials=5", "--noise=0.1"], simulate.main,
    ),
    "traces and eligibilities would remember nothing": (
        ["x_5yr", "--out=a.npz", "--task=odours"], simulate.main,
    ),
    "--traces takes": (["none.npz", "--traces=1"], infer.main),
    "--noise is added to activity only": (
        ["xy", "--out=a.npz", "--observe=choices", "--noise=0.1"], simulate.main,
    ),
    "--observe weights needs": (["xy", "--out=a.npz", "--observe=weights"], simulate.main),
    "give --weights-every N": (["xy", "--out=a.npz", "--weight-noise=1"], simulate.main),
    "--weights-every must be at most 50": (
        ["xy", "--out=a.npz", "--weights-every=51"], simulate.main,
    ),
    "cannot hold weights": (["xy", "--out=a.csv", "--weights-every=5"], simulate.main),
    "and weights are observed": (
        ["xy", "--out=a.npz", "--observe=weights", "--weights-every=5", "--noise=1"], simulate.main,
    ),
    "a.npz is given twice": (["a.npz", "b.npz", "./a.npz"], infer.main),
    "needs recordings": ([], infer.main),
    "there is no file": (["none.npz"], infer.main),
    "--eta must be": (["none.npz", "--eta=0"], infer.main),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_a_mistake_is_one_sentence_and_leaves_nothing(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments, main = REFUSED[words]
    with pytest.raises(UserError) as caught:
        main(arguments)
    assert words in str(caught.value)
    assert_is_one_sentence(caught.value)
    assert entries(tmp_path) == []


def test_a_full_folder_is_refused(recording, tmp_path, capsys):
    assert guard(infer.main, [str(recording), f"--out={tmp_path}"]) == 2
    assert "is not empty" in capsys.readouterr().err
