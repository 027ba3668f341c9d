"""Files in torchvision's layout: read, packed or not, and refused in one sentence if damaged."""

import gzip
import struct
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from support import seeded

from metaplast.base.errors import UserError
from metaplast.base.registry import find
from metaplast.discovery.config import DiscoveryConfig
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSource

SOURCES = find("metaplast.episodes", EpisodeSource)
CLASSES, EACH = 4, 10
FOLDERS = {
    "mnist": ("MNIST", "train", "t10k"),
    "fashion-mnist": ("FashionMNIST", "train", "t10k"),
    "kmnist": ("KMNIST", "train", "t10k"),
    "emnist": ("EMNIST", "emnist-balanced-train", "emnist-balanced-test"),
    "emnist-bymerge": ("EMNIST", "emnist-bymerge-train", "emnist-bymerge-test"),
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("METAPLAST_DATA", raising=False)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


def small(root, **changes):
    return EpisodeRequest(
        **{"ways": 2, "shots": 2, "queries": 1, "held_out": "images", "data_root": root, **changes}
    )


def write_idx(folder, prefix, packed):
    """Write images whose pixels all equal 10 × label, and their labels."""
    labels = np.arange(CLASSES, dtype=np.uint8).repeat(EACH)
    images = np.ones((len(labels), 3, 2), np.uint8) * 10 * labels[:, None, None]
    folder.mkdir(parents=True, exist_ok=True)
    for array, kind in ((images, "images-idx3"), (labels, "labels-idx1")):
        content = (
            struct.pack(f">i{array.ndim}i", 0x800 + array.ndim, *array.shape) + array.tobytes()
        )
        name = f"{prefix}-{kind}-ubyte"
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)


def assert_whole(batch):
    """The images of `write_idx` came with their labels, scaled."""
    assert torch.allclose(batch.support_x[..., 0] * 25.5, batch.support_y.float())
    assert batch.support_x.shape[2] == 6


@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
@pytest.mark.parametrize("name", FOLDERS)
def test_both_parts_are_pooled(name, packed, root):
    folder, *prefixes = FOLDERS[name]
    for prefix in prefixes:
        write_idx(root / folder / "raw", prefix, packed)
    before = sorted(root.rglob("*"))
    split = SOURCES[name].split(small(root))
    assert_whole(split.train.sample(10, seeded()))
    assert f"{2 * CLASSES * EACH} images" in split.description
    assert "only" not in split.description
    assert sorted(root.rglob("*")) == before


def test_one_part_is_used_and_named(root, monkeypatch):
    write_idx(root / "EMNIST" / "raw", "emnist-bymerge-test", packed=True)
    monkeypatch.setenv("METAPLAST_DATA", str(root))
    split = SOURCES["emnist-bymerge"].split(small(None))
    assert_whole(split.test.sample(10, seeded()))
    assert "test part only" in split.description


@pytest.mark.parametrize("name", ["mnist", "omniglot", "learn2learn"])
@pytest.mark.parametrize("named_by", ["--data-root", "METAPLAST_DATA"])
def test_a_data_root_that_does_not_exist(name, named_by, root, monkeypatch):
    if name == "learn2learn":
        pytest.importorskip("learn2learn")
    missing = root / "nowhere"
    monkeypatch.setenv("METAPLAST_DATA", str(missing))
    request = small(missing if named_by == "--data-root" else None, held_out="auto")
    argument = "omniglot" if name == "learn2learn" else ""
    with pytest.raises(UserError, match=f"nowhere' .from {named_by}. is not a folder"):
        SOURCES[name].split(EpisodeRequest(**{**vars(request), "argument": argument}))
    assert not missing.exists()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fashion-mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
        ("emnist", "EMNIST/raw/emnist-balanced-train-images-idx3-ubyte"),
        ("omniglot", "omniglot-py/images_background.zip"),
    ],
)
def test_a_download_that_fails_says_what_was_expected_where(name, expected, root, monkeypatch):
    def offline(url, *args, **kwargs):
        raise OSError("no route\nto host")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(UserError, match=r"could not be downloaded .*no route to host") as caught:
        SOURCES[name].split(small(root))
    assert str(root / expected) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(root.iterdir()) == []


def test_a_download_is_moved_into_place(root, monkeypatch):
    def fetch(folder, download):
        assert download
        write_idx(folder / "KMNIST" / "raw", "train", packed=True)
        write_idx(folder / "KMNIST" / "raw", "t10k", packed=False)

    monkeypatch.setattr("torchvision.datasets.KMNIST", fetch)
    for _ in range(2):
        assert_whole(SOURCES["kmnist"].split(small(root)).train.sample(5, seeded()))
        monkeypatch.setattr("torchvision.datasets.KMNIST", None)
    assert [path.name for path in root.iterdir()] == ["KMNIST"]


def damage(content, how):
    return {
        "empty": b"",
        "header": content[:7],
        "cut": content[:-20],
        "long": content + b"more",
        "text": b"<html>not found</html>" * 9,
    }[how]


@pytest.mark.parametrize("how", ["empty", "header", "cut", "long", "text"])
@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
@pytest.mark.parametrize("kind", ["images-idx3-ubyte", "labels-idx1-ubyte"])
def test_damaged_idx_files_are_named(kind, packed, how, root):
    for prefix in ("train", "t10k"):
        write_idx(root / "MNIST" / "raw", prefix, packed)
    file = root / "MNIST" / "raw" / f"t10k-{kind}{'.gz' if packed else ''}"
    file.write_bytes(damage(file.read_bytes(), how))
    with pytest.raises(UserError, match="is not a complete idx file") as caught:
        SOURCES["mnist"].split(small(root))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_inside_a_whole_gz(root):
    for prefix in ("train", "t10k"):
        write_idx(root / "MNIST" / "raw", prefix, packed=True)
    file = root / "MNIST" / "raw" / "train-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-5]))
    with pytest.raises(UserError, match="is not a complete idx file"):
        SOURCES["mnist"].split(small(root))


def test_a_missing_label_file_is_named(root):
    for prefix in ("train", "t10k"):
        write_idx(root / "MNIST" / "raw", prefix, packed=False)
    (root / "MNIST" / "raw" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(UserError, match=r"expected '.*train-labels-idx1-ubyte'"):
        SOURCES["mnist"].split(small(root))


def test_labels_must_be_as_many_as_images(root):
    raw = root / "MNIST" / "raw"
    for prefix in ("train", "t10k"):
        write_idx(raw, prefix, packed=False)
    (raw / "train-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 0x801, 3) + bytes(3))
    with pytest.raises(UserError, match="got 40 images and 3 labels"):
        SOURCES["mnist"].split(small(root))


def write_omniglot(root, *, packed):
    """Write 2 × 3 background and 1 × 2 evaluation characters; character k has k + 1 dark rows."""
    number = 0
    for part, alphabets, characters in (("background", 2, 3), ("evaluation", 1, 2)):
        folder = root / "omniglot-py" / f"images_{part}"
        for alphabet in range(alphabets):
            for character in range(characters):
                pixels = np.full((105, 105), 255, np.uint8)
                pixels[: 10 * (number + 1)] = 0
                number += 1
                home = folder / f"Alphabet_{alphabet}" / f"character{character:02}"
                home.mkdir(parents=True)
                for drawing in range(EACH):
                    pixels[-1, drawing * 5 : drawing * 5 + 5] = 0
                    image = Image.fromarray(pixels).convert("1")
                    image.save(home / f"{number:04}_{drawing:02}.png")
        if packed:
            with zipfile.ZipFile(f"{folder}.zip", "w") as archive:
                for file in folder.rglob("*.png"):
                    archive.write(file, file.relative_to(folder.parent))
                    file.unlink()
            for home in sorted(folder.rglob("*"), reverse=True):
                home.rmdir()
            folder.rmdir()


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
def test_omniglot_holds_out_the_evaluation_alphabets(packed, root, tmp_path):
    write_omniglot(root, packed=packed)
    for _ in range(2):
        split = SOURCES["omniglot"].split(small(root, held_out="auto"))
        assert (split.inputs, split.outputs, split.held_out) == (784, 8, "classes")
        train, test = (side.sample(30, seeded()) for side in (split.train, split.test))
        assert set(train.support_y.unique().tolist()) == set(range(6))
        assert set(test.support_y.unique().tolist()) == {6, 7}
        for batch in (train, test):
            ink = batch.query_x.mean(dim=2)
            assert torch.allclose(ink, (batch.query_y + 1) * 10 / 105, atol=0.02)
        assert len(list((tmp_path / "cache" / "metaplast" / "prepared").glob("*.npz"))) == 2


def test_omniglot_can_hold_out_images(root):
    write_omniglot(root, packed=True)
    split = SOURCES["omniglot"].split(small(root))
    assert split.held_out == "images"
    assert len(split.test.sample(60, seeded()).support_y.unique()) == 8


def test_a_damaged_cache_is_made_again(root, tmp_path):
    write_omniglot(root, packed=True)
    first = SOURCES["omniglot"].split(small(root)).train.sample(5, seeded())
    for file in (tmp_path / "cache").rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:100])
    again = SOURCES["omniglot"].split(small(root)).train.sample(5, seeded())
    assert torch.equal(first.support_x, again.support_x)


def test_changed_drawings_are_not_taken_from_the_cache(root):
    write_omniglot(root, packed=False)
    SOURCES["omniglot"].split(small(root))
    for file in (root / "omniglot-py" / "images_evaluation").rglob("*.png"):
        Image.new("1", (105, 105), 1).save(file)
    batch = SOURCES["omniglot"].split(small(root, held_out="auto")).test.sample(5, seeded())
    assert batch.support_x.max() == 0


@pytest.mark.parametrize("packed", [True, False], ids=["zip", "folder"])
def test_damaged_omniglot_files_are_named(packed, root):
    write_omniglot(root, packed=packed)
    folder = root / "omniglot-py"
    file = next(iter(sorted(folder.rglob("*.zip" if packed else "*.png"))))
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(UserError, match=r"is not a complete (zip|PNG) file") as caught:
        SOURCES["omniglot"].split(small(root))
    assert str(file) in str(caught.value)


def test_an_empty_omniglot_folder(root):
    for part in ("background", "evaluation"):
        (root / "omniglot-py" / f"images_{part}").mkdir(parents=True)
    with pytest.raises(UserError, match="ALPHABET/CHARACTER"):
        SOURCES["omniglot"].split(small(root))


@pytest.mark.parametrize(
    ("options", "shots"),
    [({"dataset": "omniglot"}, 10), ({"dataset": "omniglot", "shots": 7}, 7), ({}, 50)],
)
def test_shots_follow_the_data_set_unless_they_are_given(options, shots):
    assert DiscoveryConfig(**options).request.shots == shots
