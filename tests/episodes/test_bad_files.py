"""Damaged files of data sets: each is refused in one sentence that names the file."""

import gzip
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image
from support import assert_is_one_sentence

from episodes import omniglot, storage
from metaplast.base.errors import UserError
from metaplast.base.registry import find
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSource

SOURCES = find("metaplast.episodes", EpisodeSource)
LABELS = np.repeat(np.arange(4, dtype=np.uint8), 10)


@pytest.fixture(autouse=True)
def _no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("METAPLAST_DATA", raising=False)

    def refuse(*_, **__):
        raise AssertionError("a damaged file is downloaded again")

    monkeypatch.setattr("episodes.mnist_family.download", refuse)
    monkeypatch.setattr("episodes.omniglot.download", refuse)


def refusal(root, name="mnist"):
    """Return the error of opening the data set under `root`."""
    request = EpisodeRequest(ways=2, shots=2, queries=1, held_out="images", data_root=root)
    with pytest.raises(UserError) as caught:
        SOURCES[name].split(request)
    assert_is_one_sentence(caught.value)
    return str(caught.value)


def idx(array, code=0x08):
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def raw(tmp_path):
    """A folder with intact files of MNIST, 40 images in each part."""
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    images = np.ones((40, 3, 2), np.uint8) * LABELS[:, None, None]
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(LABELS))
    return folder


def whole(raw, kind="images-idx3"):
    return (raw / f"train-{kind}-ubyte").read_bytes()


IMAGES, TRAIN_LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
HUGE = struct.pack(">HBBIII", 0, 8, 3, 2**31, 2**15, 2**15)
DAMAGED = {
    "empty": (IMAGES, lambda raw: b"", "begins with"),
    "no-sizes": (IMAGES, lambda raw: whole(raw)[:9], "before its sizes"),
    "cut-short": (IMAGES, lambda raw: whole(raw)[:-5], "240 bytes, but it has 235"),
    "too-long": (IMAGES, lambda raw: whole(raw) + b"x", "240 bytes, but it has more"),
    "a-text": (IMAGES, lambda raw: b"<html>Not found</html>", "begins with"),
    "other-type": (IMAGES, lambda raw: idx(np.ones((40, 3, 2), "f4"), 0x0D), "begins with"),
    "labels-for-images": (IMAGES, lambda raw: whole(raw, "labels-idx1"), "begins with"),
    "images-for-labels": (TRAIN_LABELS, whole, "begins with"),
    "says-too-much": (IMAGES, lambda raw: HUGE + bytes(9), "more than"),
    "a-terabyte-cut-short": (
        IMAGES, lambda raw: struct.pack(">HBBIII", 0, 8, 3, 2**20, 28, 28) + bytes(9),
        "but it has 9",
    ),
    "no-pixels": (IMAGES, lambda raw: idx(np.ones((40, 0, 2), np.uint8)), "at least one pixel"),
    "no-images": (IMAGES, lambda raw: idx(np.ones((0, 3, 2), np.uint8)), "0 images and 40"),
    "fewer-labels": (TRAIN_LABELS, lambda raw: idx(LABELS[:7]), "40 images and 7 labels"),
    "label-200": (TRAIN_LABELS, lambda raw: idx(LABELS + 197), "labels 0 … 9, got 200"),
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_idx_file_is_named(damage, packed, raw, tmp_path):
    name, make, expected = DAMAGED[damage]
    content = make(raw)
    (raw / name).unlink()
    if packed:
        (raw / f"{name}.gz").write_bytes(gzip.compress(content))
    else:
        (raw / name).write_bytes(content)
    told = refusal(tmp_path)
    assert expected in told
    assert name in told or "files train-*" in told


def test_whole_files_are_read(raw, tmp_path):
    request = EpisodeRequest(ways=2, shots=2, queries=1, held_out="images", data_root=tmp_path)
    assert "80 images of 6 pixels" in SOURCES["mnist"].split(request).description


@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-6],
        lambda packed: packed[:8],
        lambda packed: packed[:30] + b"\xff\xff\xff\xff" + packed[34:],
        lambda packed: packed + b"more",
        lambda packed: b"no gzip at all",
    ],
)
def test_a_damaged_gzip_file_is_named(damage, raw, tmp_path):
    content = whole(raw)
    (raw / IMAGES).unlink()
    (raw / f"{IMAGES}.gz").write_bytes(damage(gzip.compress(content)))
    assert f"{IMAGES}.gz' is not a complete idx file" in refusal(tmp_path)


def test_no_more_is_unpacked_than_a_file_says_it_holds(raw, tmp_path):
    """10 GB of zeros behind the images would fill the memory, or take minutes."""
    zeros = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = zeros.compress(whole(raw)) + zeros.flush(zlib.Z_FULL_FLUSH)
    block = zeros.compress(bytes(2**22)) + zeros.flush(zlib.Z_FULL_FLUSH)
    (raw / IMAGES).unlink()
    (raw / f"{IMAGES}.gz").write_bytes(packed + 2500 * block)
    assert "has more" in refusal(tmp_path)


def test_parts_must_have_images_of_one_size(raw, tmp_path):
    (raw / "t10k-images-idx3-ubyte").write_bytes(idx(np.ones((40, 2, 2), np.uint8)))
    told = refusal(tmp_path)
    assert "got 3 × 2 and 2 × 2 pixels in train-images" in told
    # The same number of pixels in another shape is another size too.
    (raw / "t10k-images-idx3-ubyte").write_bytes(idx(np.ones((40, 2, 3), np.uint8)))
    assert "got 3 × 2 and 2 × 3" in refusal(tmp_path)


@pytest.mark.parametrize("name", [IMAGES, TRAIN_LABELS, f"{IMAGES}.gz"])
@pytest.mark.parametrize("kind", ["folder", "pipe", "broken-link", "loop"])
def test_what_is_no_file_is_named(kind, name, raw, tmp_path):
    file = raw / name
    (raw / name.removesuffix(".gz")).unlink()
    if kind == "folder":
        file.mkdir()
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(file if kind == "loop" else tmp_path / "nowhere")
    assert name in refusal(tmp_path)


def test_a_file_that_may_not_be_read_is_not_to_be_deleted(raw, tmp_path, monkeypatch):
    """Simulated, because the tests may run as a user who may read every file."""

    def denied(self, *_, **__):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr("pathlib.Path.open", denied)
    told = refusal(tmp_path)
    assert IMAGES in told
    assert "Permission denied" in told
    assert "delete" not in told


@pytest.fixture
def drawings(tmp_path):
    """The folder of a small Omniglot: 4 + 4 characters of 5 drawings, in zip files."""
    folder = tmp_path / "omniglot-py"
    folder.mkdir()
    for part in ("background", "evaluation"):
        with zipfile.ZipFile(folder / f"images_{part}.zip", "w") as archive:
            for number in range(20):
                place = f"images_{part}/Greek/character{number // 5}/{number:02}.png"
                archive.writestr(place, png())
    return folder


def png(size=(105, 105), form="PNG"):
    file = omniglot.io.BytesIO()
    Image.new("1", size, 1).save(file, form)
    return file.getvalue()


def add(drawings, name, content, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(drawings / "images_background.zip", "a", method) as archive:
        archive.writestr(name, content)


ONE = "images_background/Greek/character9/0.png"
STRANGE = {
    "not-a-picture": (ONE, b"no picture", "character9/0.png' is not a complete PNG file"),
    "cut-short": (ONE, png()[:60], "character9/0.png' is not a complete PNG file"),
    "another-format": (ONE, png(form="BMP"), "character9/0.png' is not a complete PNG file"),
    "large": (ONE, png((3000, 2)), "above 1024"),
    "bomb-of-pixels": (ONE, png((12_000, 12_000)), "character9/0.png' is not a complete PNG file"),
    "bomb": (ONE, bytes(2 * omniglot.MOST_BYTES), "must hold small drawings, got 21 files"),
    "path-upwards": ("images_background/../../evil.png", png(), "ALPHABET/CHARACTER"),
    "too-shallow": ("images_background/0.png", png(), "ALPHABET/CHARACTER"),
    "no-alphabet": ("images_background//character9/0.png", png(), "ALPHABET/CHARACTER"),
}


@pytest.mark.parametrize("which", STRANGE)
def test_strange_drawings_are_named(which, drawings, tmp_path):
    name, content, expected = STRANGE[which]
    add(drawings, name, content)
    told = refusal(tmp_path, "omniglot")
    assert expected in told
    assert "images_background" in told
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["omniglot-py"]


def test_whole_drawings_are_read_without_what_a_system_adds(drawings, tmp_path):
    add(drawings, "__MACOSX/images_background/Greek/character1/._00.png", b"no picture")
    request = EpisodeRequest(ways=2, shots=2, queries=1, data_root=tmp_path)
    assert "8 classes, 40 images" in SOURCES["omniglot"].split(request).description


def test_many_drawings_that_would_fill_the_memory(drawings, tmp_path, monkeypatch):
    monkeypatch.setattr(omniglot, "MOST_TOTAL", 1000)
    assert "must hold small drawings" in refusal(tmp_path, "omniglot")


def with_entries(content, flags, method):
    """Return a zip file with other flags and another compression method in all of its entries."""
    changed = bytearray(content)
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = changed.find(mark)
        while start >= 0:
            struct.pack_into("<HH", changed, start + place, flags, method)
            start = changed.find(mark, start + 1)
    return bytes(changed)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: with_entries(content, 1, zipfile.ZIP_STORED),
        lambda content: with_entries(content, 0, 77),
        lambda content: content[: len(content) // 2],
        lambda content: content.replace(b"IDAT", b"XDAT"),
        lambda content: b"",
        lambda content: b"PK\x05\x06" + bytes(17),
    ],
    ids=["encrypted", "unknown-method", "cut-short", "wrong-sum", "empty", "no-directory"],
)
def test_a_damaged_archive_is_named(damage, drawings, tmp_path):
    archive = drawings / "images_evaluation.zip"
    archive.write_bytes(damage(archive.read_bytes()))
    assert f"{str(archive)!r} is not a complete zip file" in refusal(tmp_path, "omniglot")


@pytest.mark.parametrize("kind", ["folder", "pipe", "broken-link"])
def test_what_is_no_archive_is_named(kind, drawings, tmp_path):
    archive = drawings / "images_background.zip"
    archive.unlink()
    if kind == "folder":
        archive.mkdir()
    elif kind == "pipe":
        os.mkfifo(archive)
    else:
        archive.symlink_to(tmp_path / "nowhere")
    assert "images_background.zip" in refusal(tmp_path, "omniglot")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_loose_drawings_must_be_files(kind, tmp_path):
    for part in ("background", "evaluation"):
        home = tmp_path / "omniglot-py" / f"images_{part}" / "Greek" / "character1"
        home.mkdir(parents=True)
        (home / "0.png").write_bytes(png())
    place = home / "1.png"
    if kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    assert str(place) in refusal(tmp_path, "omniglot")


def test_a_cache_of_other_arrays_is_made_again(tmp_path):
    kinds = {"images": np.uint8}
    made = {"images": np.arange(3, dtype=np.uint8)}
    file = storage.cache_folder() / "prepared" / "name.npz"
    file.parent.mkdir(parents=True)
    for wrong in ({"labels": made["images"]}, {"images": np.ones(3)}):
        np.savez(file, **wrong)
        assert storage.prepared("name", kinds, lambda: made) == made
    # The new arrays are kept.
    again = storage.prepared("name", kinds, lambda: pytest.fail("made again"))
    assert np.array_equal(again["images"], made["images"])


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")

    def nobody(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.expanduser", nobody)
    with pytest.raises(UserError, match="XDG_CACHE_HOME"):
        storage.cache_folder()
