"""An interrupted inference continues where it stopped, to the same numbers."""

import json
import math

import numpy as np
import pytest
from recorded import planted
from support import entries, paths_in, with_value, without

from metaplast.base.errors import UserError
from metaplast.commands import guard
from metaplast.commands import infer as command
from metaplast.recordings import InferenceSettings, Recording, fit, infer
from metaplast.recordings.files import write_recording
from metaplast.recordings.journal import FITS, RUN, KeptJournal, parameters, plain
from metaplast.recordings.pieces import Parameters

SIZE = {"trials": 6, "steps": 10, "inputs": 3, "neurons": 2, "noise": 0.03}
SETTINGS = InferenceSettings("xy,W", traces="5", initial="fitted")


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a.npz"
    write_recording(path, planted("xy=1", continues=True, **SIZE).arrays)
    return path


def counted(monkeypatch, most=None):
    """Count the fits that are made; an interrupt ends what comes after the most."""
    calls, own = [], fit._newton

    def newton(*given):
        if len(calls) == most:
            raise KeyboardInterrupt
        calls.append(1)
        return own(*given)

    monkeypatch.setattr(fit, "_newton", newton)
    return calls


def test_parameters_are_kept_exactly():
    draw = np.random.default_rng(0)
    at = Parameters(draw.normal(size=3), 1.1, 0.9, {2: draw.normal(size=(2, 3))}, (0.1, 2.0))
    again = parameters(json.loads(json.dumps(plain(at))))
    assert np.array_equal(again.theta, at.theta)
    assert np.array_equal(again.shift[2], at.shift[2])
    assert (again.scale, again.gain, again.log_taus) == (at.scale, at.gain, at.log_taus)


@pytest.mark.slow
def test_no_fit_is_made_twice_and_nothing_changes(tmp_path, monkeypatch):
    made = Recording.of(planted("xy=1", continues=True, **SIZE).arrays)
    calls = counted(monkeypatch)
    expected = json.dumps(infer(made, SETTINGS, journal=KeptJournal(tmp_path)).to_json())
    every, lines = len(calls), (tmp_path / FITS).read_bytes().splitlines(keepends=True)
    assert len(lines) > every > 5
    # The last line is torn; a fit of another rule and all that follows it are made again.
    lines[8] = lines[8].replace(b'"fit', b'"fat', 1)
    for kept, new in (((*lines[:4], lines[4][:-9]), every - 4), (lines, None)):
        (tmp_path / FITS).write_bytes(b"".join(kept))
        calls.clear()
        found = infer(made, SETTINGS, journal=KeptJournal(tmp_path))
        assert json.dumps(found.to_json()) == expected
        assert new is None or len(calls) == new
        assert 0 < len(calls) < every
        assert len((tmp_path / FITS).read_bytes().splitlines()) == len(lines)


def test_a_damaged_line_and_all_after_it_are_fitted_again(tmp_path):
    begun = KeptJournal(tmp_path)
    at = Parameters(np.array([0.5, math.nan]), 1.0, 1.0, {2: np.ones((1, 2))}, (0.1,))
    for key in ("first", "second", "third"):
        begun.keep(key, plain(at))
    first, second, third = (tmp_path / FITS).read_text("utf-8").splitlines()
    good = json.loads(second)
    spoiled = [with_value(good, p, v) for p in paths_in(good) for v in (None, "x", 0.25, [], {})]
    spoiled += [without(good, path) for path in paths_in(good)]
    for text in (*map(json.dumps, spoiled), "{", "", "[" * 100_000):
        (tmp_path / FITS).write_text("\n".join([first, text, third, ""]), "utf-8")
        again = KeptJournal(tmp_path)
        assert again.recall("first") is not None
        assert again.recall("second") is None
        assert (tmp_path / FITS).read_text("utf-8") == first + "\n"


@pytest.mark.slow
def test_the_command_is_interrupted_and_resumed(recording, tmp_path, monkeypatch, capsys):
    arguments = ["--terms=xy,W", "--quiet"]
    whole, half = tmp_path / "whole", tmp_path / "half"
    assert guard(command.main, [str(recording), *arguments, "--out", str(whole)]) == 0
    with monkeypatch.context() as patched:
        counted(patched, most=4)
        assert guard(command.main, [str(recording), *arguments, "--out", str(half)]) == 130
    assert f"Continue with:  metaplast infer --resume {half}" in capsys.readouterr().out
    assert entries(half) == [RUN, FITS]
    calls = counted(monkeypatch)
    assert guard(command.main, ["--resume", str(half), "--quiet"]) == 0
    assert len(calls) > 0
    assert entries(half) == entries(whole)
    assert (half / "inference.json").read_text() == (whole / "inference.json").read_text()
    assert guard(command.main, ["--resume", str(half)]) == 2
    assert "holds no interrupted inference" in capsys.readouterr().err


def test_what_cannot_be_resumed_is_one_sentence(recording, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    with monkeypatch.context() as patched:
        counted(patched, most=2)
        assert guard(command.main, [str(recording), "--out", str(out)]) == 130

    def told(*more):
        capsys.readouterr()
        assert guard(command.main, ["--resume", str(out), *more]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "leave out other files" in told(str(recording))
    data = json.loads((out / RUN).read_text())
    (out / RUN).write_text(json.dumps(data | {"settings": {"nerve": 1}}))
    assert "begun by another version" in told()
    wrong = ({}, {"recordings": []}, {"recordings": {}}, {"settings": {}}, {"settings": []})
    first = data["recordings"][0]
    for more in (*wrong, *({"recordings": [first | {name: None}]} for name in first)):
        (out / RUN).write_text(json.dumps((data | more) if more else {}))
        assert "is damaged" in told()
    (out / RUN).write_text(json.dumps(data))
    write_recording(recording, planted("xy=0", **SIZE).arrays)
    assert "has changed since the inference began" in told()


def test_a_mistake_leaves_no_folder(tmp_path, recording):
    with pytest.raises(UserError, match="at least 10 files"):
        command.main([str(recording), "--by=animals", f"--out={tmp_path / 'out'}"])
    assert entries(tmp_path) == ["a.npz"]
