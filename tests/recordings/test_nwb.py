"""NWB files that the tests write, read as recordings."""

import datetime
import sys

import numpy as np
import pytest
from recorded import planted
from support import refusal

from metaplast.recordings.files import read_recording
from metaplast.recordings.nwb_files import write_nwb
from metaplast.recordings.recording import Recording

pynwb = pytest.importorskip("pynwb")
h5py = pytest.importorskip("h5py")

STEP, GAP = 0.1, 5
LENGTHS = np.array([12, 7, 12])
TRIALS = [(0.0, 1.2), (1.7, 2.4), (2.9, 4.1)]


def series(name, data, **more):
    timing = {"rate": 1 / STEP, "starting_time": 0.0} if "timestamps" not in more else {}
    return pynwb.TimeSeries(name=name, data=data, unit="a.u.", **(timing | more))


def in_one(values, between=np.nan):
    """Return trials one after the other, with samples between them."""
    parts = []
    for trial, steps in enumerate(LENGTHS):
        gap = np.full((GAP, *values.shape[2:]), between)
        parts += [values[trial, :steps], gap]
    return np.concatenate(parts[:-1])


def written(path, *found, scratch=(), trials=TRIALS, **columns):
    start = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    file = pynwb.NWBFile(session_description="a", identifier="a", session_start_time=start)
    for place, each in enumerate(found):
        (file.add_stimulus if place == 0 else file.add_acquisition)(each)
    for name, data in scratch:
        file.add_scratch(data, name=name, description=name)
    for name in columns:
        file.add_trial_column(name=name, description=name)
    for number, (begin, end) in enumerate(trials):
        own = {name: values[number] for name, values in columns.items()}
        file.add_trial(start_time=begin, stop_time=end, **own)
    with pynwb.NWBHDF5IO(str(path), "w") as stream:
        stream.write(file)
    return path


@pytest.fixture
def arrays():
    found = dict(planted("xy=1", weights_every=12).arrays)
    found["weights"][1] = np.nan
    return found | {"lengths": LENGTHS}


def test_a_session_is_the_recording_of_its_arrays(arrays, tmp_path):
    weights = arrays["weights"]
    shown = series("inputs", in_one(arrays["inputs"], 0.0) / 2, conversion=2.0)
    path = written(
        tmp_path / "a.nwb", shown, series("activity", in_one(arrays["activity"])),
        series(
            "weights", np.stack([weights[0, 0], weights[0, 12], weights[2, 12]]),
            timestamps=[0.0, 1.2, 4.05],
        ),
        series("lick", np.zeros(3)), series("lick2", np.zeros(3)),
        scratch=[("initial_weights", arrays["initial_weights"])], reward=[1.0, 0.0, 2.0],
    )  # fmt: skip
    made = read_recording(path)
    weights[2, 0] = np.nan
    expected = Recording.of(arrays | {"reward": np.array([1.0, 0.0, 2.0])}, "a.nwb")
    for name in ("inputs", "observed", "reward", "plastic", "weights", "seen_weights"):
        own, other = (getattr(each, name) for each in (made, expected))
        assert np.allclose(own, other, rtol=1e-12, atol=0, equal_nan=True), name
    assert (made.kind, made.lengths, made.notes) == ("activity", (12, 7, 12), expected.notes)


def test_choices_of_trials_are_those_of_their_last_steps(arrays, tmp_path):
    path = written(
        tmp_path / "a.nwb", series("inputs", in_one(arrays["inputs"], 0.0)),
        choice=[1.0, np.nan, 0.0], scratch=[("readout", np.ones(4)), ("continues", np.array([1]))],
    )  # fmt: skip
    made = read_recording(path)
    assert (made.kind, made.continues, made.posts) == ("readout", True, 4)
    assert np.isnan(made.observed[0, :11]).all()
    assert made.observed[[0, 2], 11, 0].tolist() == [1, 0]
    assert np.isnan(made.observed[1]).all()


@pytest.mark.slow
def test_a_fault_is_one_sentence(arrays, tmp_path):
    shown, seen = (in_one(arrays[name], 0.0) for name in ("inputs", "activity"))
    path = tmp_path / "a.nwb"

    def told(*found, **more):
        return refusal(read_recording, written(path, *found, **more))

    # A series belongs to one file: another would link to it.
    def own():
        return series("inputs", shown), series("activity", seen)

    assert "has no TimeSeries inputs [time, n]; it has activity, x" in told(
        series("x", shown), own()[1]
    )
    assert "has no table of trials" in told(*own(), trials=[])
    assert "trials must not overlap" in told(*own(), trials=[(0.0, 2.0), (1.0, 3.0)])
    assert "trial 1 has no sample" in told(*own(), trials=[(0.0, 2.0), (1e6, 2e6)])
    late = series("activity", seen, starting_time=3.0, rate=10.0)
    assert "activity and inputs have different times" in told(own()[0], late)
    other = series("weights", np.zeros((1, 4, 8)), timestamps=[99.0])
    assert "observed at 99 s, which is in no trial" in told(*own(), other)
    assert "must hold one of activity" in told(own()[0])
    with h5py.File(path, "w") as stream:
        stream["inputs"] = np.zeros(3)
    assert "is not an NWB file or is damaged" in refusal(read_recording, path)
    path.write_bytes(b"nonsense")
    assert "is not an NWB file or is damaged" in refusal(read_recording, path)
    assert "only read" in refusal(write_nwb, path, {})


def test_without_pynwb_there_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "a.nwb").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pynwb", None)
    assert "need the package pynwb" in refusal(read_recording, tmp_path / "a.nwb")
