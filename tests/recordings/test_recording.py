"""The layout of recordings: every fault is one sentence, and anything unusual is a note."""

import numpy as np
import pytest
from recorded import planted
from support import refusal

from metaplast.base.errors import UserError
from metaplast.recordings.files import read_recording, write_recording
from metaplast.recordings.recording import Recording


def arrays(**changes):
    return planted("xy=1").arrays | changes


def choices(value, shape=(3, 12, 4)):
    found = arrays(choices=np.full(shape, value))
    del found["activity"]
    return found


FAULTS = {
    "has no inputs": {"activity": np.zeros((3, 12, 4))},
    "[trial, time, neuron], got the shape (3, 12)": arrays(inputs=np.zeros((3, 12))),
    "its type is <U1": arrays(inputs=np.full((3, 12, 8), "a")),
    "pad trials of unequal length": arrays(inputs=[[[1.0]], [[1.0], [2.0]]]),
    "got the shape (2, 12, 4)": arrays(activity=np.zeros((2, 12, 4))),
    "got activity and counts": arrays(counts=np.zeros((3, 12, 4))),
    "nothing was observed": arrays(activity=np.full((3, 12, 4), np.nan)),
    "are infinite; write NaN": arrays(activity=np.full((3, 12, 4), np.inf)),
    "got 2, 3": choices([2, 3, 2, 3]),
    "must number the options": choices(-1.0, (3, 12)),
    "give at least 2": choices(0.0, (3, 12)) | {"initial_weights": None},
    "0, 1 or NaN for none, got 5": choices(5.0, (3, 12)) | {"readout": np.ones(4)},
    "with a readout, choices must be": arrays(readout=np.ones(4)),
    "readout must be": arrays(readout=np.ones((4, 1))),
    "times must increase within a trial, but in trial 0 they go from 2 to 1": arrays(
        times=[0, 1, 2, 1, *range(8)]
    ),
    "times must be": arrays(times=np.arange(5)),
    "lengths must hold": arrays(lengths=[12, 0, 12]),
    "[trial], got the shape (4,)": arrays(reward=np.zeros(4)),
    "reward holds infinite": arrays(reward=np.full(3, np.inf)),
    "initial_weights must be": arrays(initial_weights=np.zeros((8, 4))),
    "did you mean 'activity'": arrays(activty=np.zeros(3)),
}


@pytest.mark.parametrize("words", FAULTS)
def test_a_fault_is_one_sentence_that_names_the_file(words):
    text = refusal(Recording.of, FAULTS[words], "a.npz")
    assert words in text
    assert "a.npz" in text


def test_an_input_that_is_missing_is_named_with_its_place():
    found = arrays()
    found["inputs"][1, 4, 2] = np.nan
    assert "1 input is NaN or infinite, the first in trial 1 at step 4, input 2" in refusal(
        Recording.of, found
    )


def test_counts_are_whole_numbers():
    found = arrays(counts=np.full((3, 12, 4), 0.5))
    del found["activity"]
    assert "counts must be whole numbers of at least 0, got 0.5" in refusal(Recording.of, found)


def test_gaps_silent_neurons_and_padding_are_counted():
    found = arrays(lengths=[12, 5, 12], times=np.r_[np.arange(11), 99.0])
    found["activity"][0, 3, 1] = np.nan
    found["activity"][:, :, 2] = np.nan
    found["activity"][:, :, 3] = 0
    notes = Recording.of(found, "a").notes
    assert notes == (
        "a: trials have 5 to 12 steps.",
        "a: 2 of 26 intervals between samples are longer than 1.5 times the usual 1, the longest "
        "89; every sample counts as one step.",
        "a: 1 of 4 neurons was never observed.",
        "a: 1 of 116 observations is missing (NaN) and is left out.",
        "a: 1 observed neuron is never active.",
    )


def test_a_complete_recording_has_no_notes():
    made = Recording.of(arrays(), "a")
    assert made.notes == ()
    assert (made.trials, made.pres, made.posts, made.steps) == (3, 8, 4, 36)


def test_options_become_one_hot():
    found = choices(np.nan, (3, 12))
    found["choices"][0, :3] = [0, 2, 1]
    made = Recording.of(found)
    assert made.kind == "options"
    assert made.observed[0, :3].tolist() == np.eye(4)[[0, 2, 1]].tolist()
    assert np.isnan(made.observed[0, 3:]).all()


@pytest.mark.parametrize("suffix", [".npz", ".h5", ".hdf5", ".csv"])
@pytest.mark.parametrize("continues", [False, True])
def test_files_hold_the_recording(tmp_path, suffix, continues):
    if suffix in (".h5", ".hdf5"):
        pytest.importorskip("h5py")
    found = arrays(lengths=np.array([12, 7, 9]), reward=np.ones((3, 12)), times=np.arange(12.0))
    found["activity"][:, 2:4, 1] = np.nan
    if continues:
        found["initial_weights"] = found["initial_weights"][0]
    found["times"] = np.tile(found["times"], (3, 1))
    path = tmp_path / f"a{suffix}"
    write_recording(path, found)
    made, expected = read_recording(path), Recording.of(found, path.name)
    assert made.notes == expected.notes
    for name in ("inputs", "observed", "reward", "plastic", "weights"):
        assert np.array_equal(getattr(made, name), getattr(expected, name), equal_nan=True), name
    assert made.lengths == (12, 7, 9)


def test_a_csv_file_of_choices(tmp_path):
    (tmp_path / "a.csv").write_text(
        "trial;x\n".replace(";", ",").replace("x", "x1,choice,reward") + "1,0.5,1,0\n1,0.25,,1\n"
    )
    made = read_recording(tmp_path / "a.csv")
    assert made.kind == "options"
    assert made.inputs.tolist() == [[[0.5], [0.25]]]
    assert made.weights is None


BAD_CSV = {
    "no rows": "trial,x1,y1\n",
    "no column trial": "x1,y1\n1,2\n",
    "unknown column 'z'": "trial,x1,y1,z\n1,2,3,4\n",
    "row 3 has 2 cells": "trial,x1,y1\n1,2,3\n1,2\n",
    "must hold numbers, got 'a' in row 2": "trial,x1,y1\n1,a,3\n",
    "got 'a' in row 5": "trial,x1,y1\n\n1,2,3\n,,\n1,a,3\n",
    "row 6 has 2 cells, but row 2 has 3 names": "\ntrial,x1,y1\n1,2,3\n\n \n1,2\n",
    "has no inputs": "trial,y1\n1,3\n",
    "has the column 'x1' twice": "trial,x1,x1,y1\n1,2,3,4\n",
    "both the column choice and": "trial,x1,c1,choice\n1,2,1,0\n",
}


def test_numbers_that_would_be_changed_or_overflow_are_refused():
    assert "its type is complex128" in refusal(
        Recording.of, arrays(inputs=np.ones((3, 12, 2)) + 1j)
    )
    assert "inputs has numbers as large as 1e+200" in refusal(
        Recording.of, arrays(inputs=np.full((3, 12, 2), 1e200))
    )


def test_columns_are_taken_by_their_numbers(tmp_path):
    (tmp_path / "a.csv").write_text("trial,x10,y1,x2,x1\n1,10,0,2,1\n")
    (tmp_path / "a.weights.csv").write_text("w10,w1,w2\n10,1,2\n")
    made = read_recording(tmp_path / "a.csv")
    assert made.inputs.tolist() == [[[1, 2, 10]]]
    assert made.weights.tolist() == [[1, 2, 10]]


@pytest.mark.parametrize("words", BAD_CSV)
def test_a_damaged_table_is_one_sentence(tmp_path, words):
    (tmp_path / "a.csv").write_text(BAD_CSV[words])
    assert words in refusal(read_recording, tmp_path / "a.csv")


def test_damaged_and_foreign_files(tmp_path):
    for name in ("a.npz", "a.h5"):
        (tmp_path / name).write_bytes(b"nonsense")
        assert "is damaged" in refusal(read_recording, tmp_path / name)
    np.savez(tmp_path / "b.npz", inputs=np.array([[1], [1, 2]], dtype=object))
    assert "Python objects, such as trials of unequal length" in refusal(
        read_recording, tmp_path / "b.npz"
    )
    np.save(tmp_path / "c.npy", np.zeros(3))
    (tmp_path / "c.npy").rename(tmp_path / "c.npz")
    assert "one array without a name" in refusal(read_recording, tmp_path / "c.npz")
    assert "a .npz, .h5, .csv or .nwb file, got 'a.mat'" in refusal(read_recording, "a.mat")
    assert "there is no file" in refusal(read_recording, tmp_path / "none.npz")


def test_a_table_cannot_hold_everything(tmp_path):
    with pytest.raises(UserError, match="cannot hold continues"):
        write_recording(tmp_path / "a.csv", arrays(continues=1))
