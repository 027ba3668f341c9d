"""Data sets from a user's files: npz, csv, folders of images, HDF5, OpenML."""

import gzip
import shutil
import sys
import types
import urllib.request
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import SMALL_RUN, assert_is_one_sentence, seeded

import episodes
from episodes.pool import LabelledPool
from metaplast.base.errors import UserError
from metaplast.commands import guard
from metaplast.commands.discover import main as discover
from metaplast.discovery.discover import discover as discover_in_python
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_config import read_config
from metaplast.report.observer import ReportFiles
from metaplast.rules.rule import Rule
from metaplast.tasks.library import open_source, open_stream
from metaplast.tasks.request import EpisodeRequest, StreamRequest

REQUEST = EpisodeRequest(ways=2, shots=2, queries=1)
REGRESSION = EpisodeRequest(shots=2, queries=1)
ROWS = 24
X = np.random.default_rng(0).random((ROWS, 3)).round(3)
CLASSES = np.arange(ROWS) % 2
NUMBERS = X.sum(1).round(3) + 0.001


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("METAPLAST_DATA", str(tmp_path))


def table(name="t.csv", targets=CLASSES, separator=",", inputs=X):
    """Write a table, whose last column is called kind, and return its name."""
    lines = [separator.join(["a", "b b", "c", "kind"])]
    lines += [separator.join(map(str, [*x, y])) for x, y in zip(inputs, targets, strict=True)]
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name


def drawn(text, request=REQUEST):
    """Return the inputs and targets of the support in some episodes, one row for each image."""
    batch = open_source(text, request).train.sample(20, seeded())
    return batch.support_x.flatten(0, 1), batch.support_y.flatten(0, 1)


def assert_pairs(text, inputs, targets, request=REQUEST):
    """Assert that each input comes with the target that the file pairs it with."""
    x, y = drawn(text, request)
    near = (x[:, None] - torch.as_tensor(inputs)[None].float()).abs().amax(2)
    assert near.amin(1).max() < 1e-6
    expected = torch.as_tensor(targets)[near.argmin(1)]
    assert torch.allclose(y.double().view(len(y), -1), expected.double().view(len(y), -1))


def test_a_table_names_its_classes():
    assert_pairs(f"csv:{table()},target=kind", X, CLASSES)
    names = np.array(["yes", "no"])[CLASSES]
    assert_pairs(f"csv:{table(targets=names)},target=kind", X, 1 - CLASSES)
    # Classes may have any numbers.
    assert_pairs(f"csv:{table(targets=2 * CLASSES - 1)},target=kind", X, CLASSES)


def test_a_number_in_two_spellings_may_be_two_classes():
    spelled = ["01" if place in (3, 9) else str(kind) for place, kind in enumerate(CLASSES)]
    with pytest.raises(UserError) as error:
        open_source(f"csv:{table(targets=spelled)},target=kind", REQUEST)
    assert str(error.value) == (
        "csv:t.csv: a class must be spelled in one way, got '1' in line 3 and '01' in line 5, "
        "column 'kind'; spell it alike, or, if these are two classes, name them by words."
    )
    padded = [f" {kind}" if place % 3 else kind for place, kind in enumerate(CLASSES)]
    assert_pairs(f"csv:{table(targets=padded)},target=kind", X, CLASSES)
    padded = [["yes", " no "][kind] if place else "yes " for place, kind in enumerate(CLASSES)]
    assert_pairs(f"csv:{table(targets=padded)},target=kind", X, 1 - CLASSES)


def test_a_table_has_numbers_to_learn():
    text = f"csv:{table(targets=NUMBERS)},target=kind"
    assert open_source(text, REGRESSION).targets == "numbers"
    assert_pairs(text, X, NUMBERS, REGRESSION)
    whole = f"csv:{table(targets=np.arange(ROWS) % 5)},target=kind,learn=numbers"
    assert_pairs(f"{whole},target_scale=none", X, np.arange(ROWS) % 5, REGRESSION)
    both = f"csv:{table(targets=NUMBERS)},target=c+kind"
    assert_pairs(both, X[:, :2], np.stack([X[:, 2], NUMBERS], 1), REGRESSION)


def test_whole_floats_may_be_classes():
    np.savez("t.npz", x=X, y=CLASSES.astype(float))
    assert_pairs("npz:t.npz,learn=classes", X, CLASSES)
    with pytest.raises(UserError, match="as targets and no classes"):
        open_source("npz:t.npz", REQUEST)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_separators_and_compression_are_recognised(separator):
    name = table(separator=separator)
    Path("t.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + Path(name).read_bytes()))
    assert_pairs(f"csv:{name},target=kind", X, CLASSES)
    assert_pairs("csv:t.csv.gz,target=kind", X, CLASSES)


def test_columns_may_be_left_out():
    assert_pairs(f"csv:{table()},target=kind,drop=a+b b", X[:, 2:], CLASSES)


def test_inputs_are_scaled_by_what_is_not_held_out():
    x, _ = drawn(f"csv:{table(inputs=100 * X)},target=kind,scale=standard")
    plain = episodes.from_tensors(100 * X, CLASSES, scale="standard").split(REQUEST)
    assert torch.equal(x, plain.train.sample(20, seeded()).support_x.flatten(0, 1))
    assert x.abs().max() < 5


def test_a_file_name_may_hold_commas_and_equals_signs():
    Path("a,b=c").mkdir()
    table("a,b=c/t,x=1.csv")
    assert_pairs("csv:a,b=c/t,x=1.csv,target=kind", X, CLASSES)


def test_arrays_of_numpy_are_read():
    np.savez("t.npz", x=X.astype(np.float32), y=CLASSES)
    np.savez("u.npz", train=X, names=np.array(["m", "k"])[CLASSES], more=1)
    assert_pairs("npz:t.npz", X, CLASSES)
    assert_pairs("npz:u.npz,x=train,y=names", X, 1 - CLASSES)


def test_bytes_of_an_array_are_images():
    images = (X * 250).astype(np.uint8).reshape(ROWS, 1, 3)
    np.savez("t.npz", images=images, labels=CLASSES)
    assert_pairs("npz:t.npz", images.reshape(ROWS, 3) / 255, CLASSES)
    assert "images of 3 pixels" in open_source("npz:t.npz", REQUEST).description
    assert open_source("rows:npz:t.npz,width=1,scale=none", REQUEST).inputs == 1


def pictures(mode="L", size=(3, 2)):
    """Write images into class folders, and return their bytes and classes."""
    shape = (ROWS, size[1], size[0]) + ((3,) if mode == "RGB" else ())
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    for index, image in enumerate(pixels):
        folder = Path("pets", "cd"[CLASSES[index]])
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    Path("pets/notes.txt").write_text("no image")
    Path("pets/c/Thumbs.db").write_text("no image")
    Path("pets/.hidden").mkdir()
    return pixels


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_folders_of_images_are_read(mode):
    pixels = pictures(mode)
    assert_pairs("folder:pets", pixels.reshape(ROWS, -1) / 255, CLASSES)


def test_images_are_resized_and_made_grey():
    pixels = pictures("RGB")
    grey = [np.asarray(Image.fromarray(p).convert("L").resize((2, 1), 2)) for p in pixels]
    text = "image-folder:pets,size=2x1,grey=yes"
    assert_pairs(text, np.stack(grey).reshape(ROWS, -1) / 255, CLASSES)
    assert "2 × 1 pixels in grey" in open_source(text, REQUEST).description
    assert open_source("folder:pets,size=4", REQUEST).inputs == 4 * 4 * 3


def test_images_of_sixteen_bits_keep_their_range():
    wide = (np.random.default_rng(1).integers(0, 256, (ROWS, 2, 3)) * 257).astype(np.uint16)
    for index, image in enumerate(wide):
        Path("pets", "cd"[CLASSES[index]]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(f"pets/{'cd'[CLASSES[index]]}/{index}.png")
    assert_pairs("folder:pets", wide.reshape(ROWS, -1) / 65535, CLASSES)


class FakeData(np.ndarray):
    """A data set of an HDF5 file, as far as it is read."""

    name = "/data"


def fake_h5py(arrays):
    """Return a module that opens any file as these arrays."""

    class File(dict):
        def __init__(self, path, mode):
            assert mode == "r"
            super().__init__(arrays)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def visititems(self, call):
            for name, item in self.items():
                call(name, item)

    module = types.ModuleType("h5py")
    module.File, module.Dataset = File, np.ndarray
    module.check_string_dtype = lambda dtype: None
    return module


def test_hdf5_is_read_with_its_library(monkeypatch):
    arrays = {"g/x": X.view(FakeData), "g/y": CLASSES.view(FakeData)}
    monkeypatch.setitem(sys.modules, "h5py", fake_h5py(arrays))
    Path("t.h5").touch()
    assert_pairs("hdf5:t.h5,x=g/x,y=/g/y", X, CLASSES)
    assert_pairs("h5:t.h5,x=g/x,y=g/y", X, CLASSES)


@pytest.mark.skipif(find_spec("h5py") is None, reason="needs h5py")
def test_a_real_hdf5_file_is_read():
    import h5py

    with h5py.File("t.h5", "w") as file:
        file["x"], file["g/names"] = X, [["m", "k"][c] for c in CLASSES]
        file["one"] = 1
    assert_pairs("hdf5:t.h5,y=g/names", X, 1 - CLASSES)
    assert "single value" in message("hdf5:t.h5,y=one")
    Path("t.h5").write_bytes(b"no")
    assert "cannot be read as an HDF5 file" in message("hdf5:t.h5")


def test_hdf5_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    Path("t.h5").touch()
    assert "install metaplast[hdf5]" in message("hdf5:t.h5")


class Bunch(dict):
    __getattr__ = dict.__getitem__


def openml(monkeypatch, **changes):
    """Have scikit-learn return a small data set, and return what it was asked for."""
    asked = {}
    found = Bunch(
        data=X, target=np.array(["m", "k"], object)[CLASSES], feature_names=["a", "b", "c"],
        target_names=["kind"], details={"version": "2", "id": "7"},
    )  # fmt: skip
    found.update(changes)

    def fetch(**options):
        asked.update(options)
        return found

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fetch)
    return asked


def test_openml_is_asked_for_a_name_or_a_number(monkeypatch, tmp_path):
    asked = openml(monkeypatch)
    assert_pairs("openml:small", X, 1 - CLASSES)
    assert (asked["name"], asked["version"], asked["data_home"]) == ("small", "active", tmp_path)
    assert "version 2, number 7, target kind" in open_source("openml:small", REQUEST).description
    asked.clear()
    open_source("openml:61,target=a", REQUEST)
    assert (asked["data_id"], asked["target_column"]) == (61, "a")
    assert "version" not in asked


def test_openml_gives_numbers_to_learn(monkeypatch):
    openml(monkeypatch, target=NUMBERS)
    assert_pairs("openml:small", X, NUMBERS, REGRESSION)


def test_openml_reads_what_is_already_there(monkeypatch, tmp_path):
    """The files that scikit-learn ships for its own tests, laid out as its cache, are read."""
    import sklearn.datasets

    shipped = Path(sklearn.datasets.__file__).parent / "tests/data/openml/id_61"
    if not shipped.is_dir():
        pytest.skip("this scikit-learn comes without its tests")
    cache, found = tmp_path / "openml/openml.org", "api/v1/json/data/list/data_name/iris"
    for place, file in {
        f"{found}/limit/2/status/active/": "jdl-dn-iris-l-2-s-act-.json",
        "api/v1/json/data/61": "jd-61.json",
        "api/v1/json/data/features/61": "jdf-61.json",
        "api/v1/json/data/qualities/61": "jdq-61.json",
    }.items():
        target = cache / f"{place}.gz"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shipped / f"api-v1-{file}.gz", target)
    target = cache / "data/v1/download/61/iris.arff.gz"
    target.parent.mkdir(parents=True)
    shutil.copy(shipped / "data-v1-dl-61.arff.gz", target)
    monkeypatch.setattr(urllib.request, "urlopen", None)
    split = open_source("openml:iris,scale=standard", REQUEST)
    assert "3 classes, 150 samples of 4 inputs" in split.description


def message(text, request=REQUEST):
    """Return the refusal of a data set, after checking that it is one sentence."""
    with pytest.raises(UserError) as caught:
        open_source(text, request)
    assert_is_one_sentence(str(caught.value))
    return str(caught.value)


def wrong_table(text):
    Path("w.csv").write_text(text, encoding="utf-8")
    return message("csv:w.csv,target=kind")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,kind\n1,x\nq,y\n", "'q' in line 3, column 'a'; leave the column out with drop=a"),
        ("a,kind\n1,x\n,y\n", "line 3 has an empty cell in the column 'a'"),
        ("a,kind\n1,x\n1,\n", "'kind' is missing in line 3"),
        ("a,kind\n1,x\nnan,y\n", "got nan in line 3, column 'a'"),
        ("a,kind\n1,x\n\n1e999,y\n", "got inf in line 4, column 'a'"),
        ("a,kind\n1,x\n1,y,2\n", "got 3 in line 3"),
        ("a,kind\n1,x\n1,x\n", "two classes or more, got one"),
        ("a,kind\n1,0.5\n1,NA\n", "got 'NA' in line 3, column 'kind'"),
        ("a,kind\n1,0.5\n\n1,nan\n", "got 'nan' in line 4, column 'kind'"),
        ('a,kind\n1,x\n1,"y\n1,x\n1,y\n', "lines 3 to 5: unexpected end of data; check the quotes"),
        ('a,kind\n1,x\n1,"y\n1,x\n1,"y\n', "lines 3 to 5: ',' expected after"),
        ("a,kind\n", "no rows below"),
        ("", "is empty"),
        ("1,2\n3,4\n", "names of its columns in the first line"),
        (",a,kind\n0,1,x\n", "column 1 has no name"),
        ("a,a,kind\n0,1,x\n", "two columns 'a'"),
        ("kind\nx\ny\n", "no column left as input"),
        ("a,b\n1,2\n", "no column 'kind'; it has a, b"),
    ],
)
def test_a_bad_table_is_refused_with_the_place(text, says):
    assert says in wrong_table(text)


def test_a_row_of_several_lines_is_warned_of_once():
    lines = Path(table()).read_text("utf-8").splitlines()
    notes = ["note", '"two\nlines"', *["-"] * 9, '"and\nmore\n"', *["-"] * (ROWS - 11)]
    rows = [f"{note},{line}" for note, line in zip(notes, lines, strict=True)]
    Path("w.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.warns(UserWarning, match="lines 2 to 3 are one row") as caught:
        split = open_source("csv:w.csv,target=kind,drop=note", REQUEST)
    assert len(caught) == 1
    assert f"{ROWS} samples" in split.description


def test_a_comma_in_a_quoted_name_is_no_separator():
    text = Path(table(separator=";")).read_text("utf-8").replace("b b", '"b, b"', 1)
    Path("w.csv").write_text(text, encoding="utf-8")
    assert f"{ROWS} samples" in open_source("csv:w.csv,target=kind", REQUEST).description


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("csv:no.csv,target=a", "no file 'no.csv'"),
        ("csv:pets,target=a", "is a folder"),
        ("csv:", "csv:FILE.csv,target=COLUMN"),
        ("csv:t.csv", "target=COLUMN with one of a, b b, c, kind"),
        ("csv:t.csv,targt=kind", "did you mean 'target'?"),
        ("csv:t.csv,target=kind,target=a", "takes each setting once"),
        ("csv:t.csv,target=kind+kind", "named twice"),
        ("csv:t.csv,target=a+kind,learn=classes", "one column of classes"),
        ("csv:t.csv,target=kind,scale=big", "scale must be"),
        ("csv:t.csv,target=kind,learn=all", "learn must be classes or numbers"),
        ("csv:t.npz,target=a", "not text in UTF-8"),
        ("npz:t.csv", "not a file of numpy.savez"),
        ("npz:t.npy", "one array without a name"),
        ("npz:cut.npz", "cannot be read as arrays"),
        ("npz:objects.npz", "Python objects"),
        ("npz:objects.npz,learn=numbers", "Python objects"),
        ("npz:unequal.npz", "as many labels"),
        ("npz:nan.npz", "NaN or infinity in 1 images"),
        ("npz:text.npz,learn=numbers", "text as targets"),
        ("npz:half.npz,learn=classes", "targets with fractions"),
        ("npz:t.npz,x=z", "has no array 'z'; it has a, b"),
        ("npz:t.npz", "which of its arrays (a, b) has the inputs"),
        ("folder:no", "no folder 'no'"),
        ("folder:pets/c", "two or more, got 0"),
        ("folder:empty", "the folder of the class 'e' has no images"),
        ("folder:unequal", "got 4 × 4 pixels in grey in d/1.png after 3 × 2 pixels in grey in c/0"),
        ("folder:broken", "d/1.png cannot be read as an image"),
        ("folder:pets,size=0", "size=28 or size=32x24"),
        ("folder:pets,size=2x2x2", "size=28 or size=32x24"),
        ("folder:pets,grey=maybe", "grey must be yes or no"),
        ("folder:pets,learn=numbers", "unknown setting of image-folder 'learn'"),
        ("folder:\0", "cannot be a path"),
    ],
)  # fmt: skip
def test_bad_files_and_settings_are_refused(text, says):
    table()
    pictures()
    np.save("t.npy", X)
    np.savez("t.npz", a=X, b=CLASSES)
    Path("cut.npz").write_bytes(Path("t.npz").read_bytes()[:300])
    np.savez("objects.npz", x=X, y=np.array([{}] * ROWS, object))
    np.savez("unequal.npz", x=X, y=CLASSES[:-1])
    np.savez("nan.npz", x=np.where(X[0] == X, np.nan, X), y=CLASSES)
    np.savez("text.npz", x=X, y=np.array(["a", "b"])[CLASSES])
    np.savez("half.npz", x=X, y=CLASSES / 2)
    for folder in ("unequal", "broken", "empty"):
        shutil.copytree("pets", folder)
    Path("empty/e").mkdir()
    Image.new("L", (4, 4)).save("unequal/d/1.png")
    Path("broken/d/1.png").write_bytes(b"no image")
    assert says in message(text)


def test_openml_refuses_what_it_cannot_give(monkeypatch):
    openml(monkeypatch, data=np.where(X[0] == X, np.nan, X))
    assert "got nan in row 1, column 'a', and in 2 more; fill" in message("openml:small")
    openml(monkeypatch, target=None)
    assert "no target of its own" in message("openml:small")
    assert "version must be a whole number" in message("openml:small,version=x")
    assert "already means one version" in message("openml:61,version=2")

    def fail(**options):
        raise OSError("no network. Try again")

    monkeypatch.setattr("sklearn.datasets.fetch_openml", fail)
    assert "could not be read from OpenML (no network; Try again)" in message("openml:small")


def test_the_digest_is_that_of_the_contents_not_of_the_file():
    table()
    np.savez("t.npz", x=X, y=CLASSES)
    np.savez("u.npz", x=X, y=1 - CLASSES)
    first, same, other = (
        open_source(text, REQUEST).digest
        for text in ("csv:t.csv,target=kind", "npz:t.npz,scale=standard", "npz:u.npz")
    )
    assert first == same != other
    assert f"digest {first}" in open_source("csv:t.csv,target=kind", REQUEST).description
    assert open_source("digits", REQUEST).digest == ""
    assert open_source("rows:npz:t.npz,width=1", REQUEST).digest == first


def test_a_stream_of_a_file_is_described_with_its_digest():
    split = open_stream(f"csv:{table()},target=kind", StreamRequest())
    assert split.description.startswith("csv:t.csv: 2 classes, all; 10 samples to learn from")
    assert "digest " in split.description
    assert split.final.sample(4, 2, seeded()).support_x.shape == (1, 4, 3)


OPTIONS = [*(word for word in SMALL_RUN if "ways" not in word), "--ways=2", "--quiet"]


@pytest.mark.slow
def test_a_run_records_what_it_read_and_refuses_a_changed_file(capsys, monkeypatch):
    monkeypatch.setattr(ReportFiles, "finish", lambda self, result: None)
    table()
    text = "csv:t.csv,target=kind"
    assert guard(discover, [*OPTIONS, f"--dataset={text}", "--out=run"]) == 0
    digest = open_source(text, REQUEST).digest
    assert read_config("run").own.files == digest
    assert f"digest {digest}" in Rule.load("run/rule.json").provenance["data"]
    assert Discovery.resume("run").own.files == digest
    table(targets=1 - CLASSES)
    capsys.readouterr()
    assert guard(discover, ["--resume=run"]) == 2
    said = capsys.readouterr().err.removeprefix("error: ").strip()
    assert_is_one_sentence(said)
    assert f"{text} has changed since the run in run started" in said
    assert f"instead of {digest}" in said
    Path("t.csv").unlink()
    assert guard(discover, ["--resume=run"]) == 2
    assert "no file 't.csv'" in capsys.readouterr().err


def test_a_run_on_other_data_records_no_files(tmp_path):
    found = discover_in_python(
        dataset="clusters:4,8", ways=2, shots=2, queries=2, hidden=(3,), terms="oja", episodes=2,
        meta_batch=2, refit=0, validation=2, test_episodes=2, engine="batched",
        folder=tmp_path / "run",
    )  # fmt: skip
    assert "files" not in found.own.to_json()


@pytest.mark.slow
def test_the_objective_must_take_what_a_file_has():
    table(targets=NUMBERS)
    with pytest.raises(UserError, match="in a file, write learn=classes"):
        _ = discover_in_python(dataset="csv:t.csv,target=kind", shots=2, queries=2, hidden=(3,))


def test_a_pool_says_images_unless_told_otherwise():
    pool = LabelledPool(torch.zeros(2, 1), torch.tensor([0, 1]))
    assert pool.sizes == "2 classes, 2 images of 1 pixel"
