"""Contract of every registered source that needs no download."""

import os
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from support import seeded

from episodes import digits
from metaplast.base.errors import UserError
from metaplast.base.registry import find
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSource

SOURCES = find("metaplast.episodes", EpisodeSource)
EMBEDDED = ["digits", "clusters"]
NAMES = [
    *("digits", "mnist", "fashion-mnist", "kmnist", "emnist", "emnist-bymerge"),
    *("omniglot", "clusters", "learn2learn"),
]
SMALL = EpisodeRequest(ways=2, shots=4, queries=3)

#: Folder with real data sets; CI sets it.
REAL = os.environ.get("METAPLAST_TEST_DATA")


def request_of(**changes):
    return EpisodeRequest(**{"ways": 2, "shots": 4, "queries": 3, **changes})


def rows(batch):
    """Every image of a batch, as a set of tuples."""
    pixels = torch.cat([batch.support_x, batch.query_x], dim=1)
    return {tuple(image) for image in pixels.flatten(0, 1).tolist()}


def test_every_source_is_registered_and_one_is_the_default():
    assert set(NAMES) <= set(SOURCES)
    assert [name for name, source in SOURCES.items() if source.is_default] == ["digits"]
    assert all(source.summary for source in SOURCES.values())


@pytest.mark.parametrize("hidden", [False, True], ids=["from the file", "by scikit-learn"])
def test_the_digits_are_those_of_scikit_learn(hidden, monkeypatch):
    if hidden:
        monkeypatch.setattr(digits, "find_spec", lambda _: None)
    for own, expected in zip(digits._read.__wrapped__(), load_digits(return_X_y=True), strict=True):
        assert own.dtype == expected.dtype
        assert (own == expected).all()


@pytest.mark.parametrize("labels", ["global", "remapped"])
@pytest.mark.parametrize("held_out", ["classes", "images"])
@pytest.mark.parametrize("name", EMBEDDED)
class TestContract:
    def split(self, name, held_out, labels, **changes):
        return SOURCES[name].split(request_of(held_out=held_out, labels=labels, **changes))

    def test_shapes_and_types(self, name, held_out, labels):
        split = self.split(name, held_out, labels, dtype=torch.float64)
        assert split.held_out == held_out
        assert split.description.startswith(name)
        for side in (split.train, split.test):
            batch = side.sample(5, seeded())
            assert batch.support_x.shape == (5, 8, split.inputs)
            assert batch.query_x.shape == (5, 6, split.inputs)
            assert batch.support_y.shape == (5, 8)
            assert batch.query_y.shape == (5, 6)
            assert batch.support_x.dtype == batch.query_x.dtype == torch.float64
            assert batch.support_y.dtype == batch.query_y.dtype == torch.int64
            assert batch.support_y.max() < split.outputs

    def test_same_seed_same_episodes(self, name, held_out, labels):
        first, second, other = (
            self.split(name, held_out, labels).train.sample(3, seeded(seed)) for seed in (1, 1, 2)
        )
        assert torch.equal(first.support_x, second.support_x)
        assert torch.equal(first.query_y, second.query_y)
        assert not torch.equal(first.support_x, other.support_x)

    def test_classes_are_distinct_and_equally_many(self, name, held_out, labels):
        split = self.split(name, held_out, labels, ways=4)
        batch = split.test.sample(20, seeded())
        for support, query in zip(batch.support_y, batch.query_y, strict=True):
            classes, counts = support.unique(return_counts=True)
            assert len(classes) == 4
            assert (counts == 4).all()
            assert torch.equal(classes, query.unique())
            if labels == "remapped":
                assert classes.tolist() == [0, 1, 2, 3]

    def test_no_image_is_drawn_twice_in_an_episode(self, name, held_out, labels):
        batch = self.split(name, held_out, labels).train.sample(20, seeded())
        for episode in range(20):
            one = batch.select(slice(episode, episode + 1))
            assert len(rows(one)) == 2 * (4 + 3)

    def test_sides_share_no_image(self, name, held_out, labels):
        split = self.split(name, held_out, labels)
        train, test = (side.sample(100, seeded()) for side in (split.train, split.test))
        assert not rows(train) & rows(test)


@pytest.mark.parametrize("name", EMBEDDED)
def test_sides_share_no_class(name):
    split = SOURCES[name].split(request_of(held_out="classes"))
    train, test = (side.sample(200, seeded()).support_y for side in (split.train, split.test))
    assert not set(train.unique().tolist()) & set(test.unique().tolist())


def test_the_seed_decides_the_split():
    first, again, other = (
        SOURCES["digits"].split(request_of(held_out="classes", seed=seed)).test.sample(50, seeded())
        for seed in (1, 1, 5)
    )
    assert torch.equal(first.support_y, again.support_y)
    assert not torch.equal(first.support_y.unique(), other.support_y.unique())


@pytest.mark.parametrize(("ways", "kind"), [(2, "classes"), (3, "images")])
def test_auto_holds_out_classes_only_where_there_are_enough(ways, kind):
    assert SOURCES["digits"].split(request_of(ways=ways)).held_out == kind


def test_the_default_request_fits_the_default_source():
    split = SOURCES["digits"].split(EpisodeRequest())
    assert split.outputs == 10
    assert split.train.sample(2, seeded()).steps == 250


def test_digits_are_scaled_to_one():
    batch = SOURCES["digits"].split(SMALL).train.sample(50, seeded())
    assert batch.support_x.min() == 0
    assert batch.support_x.max() == 1


@pytest.mark.parametrize(
    ("argument", "inputs", "outputs"), [("", 32, 64), ("7", 7, 64), ("3,9", 3, 9)]
)
def test_clusters_take_dimension_and_classes(argument, inputs, outputs):
    split = SOURCES["clusters"].split(request_of(argument=argument))
    assert (split.inputs, split.outputs) == (inputs, outputs)


@pytest.mark.parametrize("dimension", [8, 784])
def test_clusters_are_told_apart_by_their_centres(dimension):
    request = EpisodeRequest(labels="remapped", argument=str(dimension))
    batch = SOURCES["clusters"].split(request).train.sample(20, seeded())
    one_hot = torch.nn.functional.one_hot(batch.support_y).float()
    centres = one_hot.mT @ batch.support_x / 50
    guess = torch.cdist(batch.query_x, centres).argmin(dim=2)
    accuracy = (guess == batch.query_y).float().mean().item()
    assert 0.7 < accuracy < 1.0
    assert ((batch.query_x > -0.5) & (batch.query_x < 1.5)).float().mean() > 0.99


@pytest.mark.parametrize("argument", ["x", "0", "8,1", "8,9,10", "-3", "4,,5"])
def test_clusters_refuse_strange_arguments(argument):
    with pytest.raises(UserError, match="clusters takes a dimension"):
        SOURCES["clusters"].split(request_of(argument=argument))


def test_an_argument_where_none_is_taken():
    with pytest.raises(UserError, match=r"'digits' takes nothing after a colon, got 'x'"):
        SOURCES["digits"].split(request_of(argument="x"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ways": 11}, "digits has 10 classes, but --ways asks for 11; give --ways 10 or less"),
        ({"ways": 6, "held_out": "classes"}, r"too few to hold out classes with --ways 6"),
        ({"shots": 90, "held_out": "images"}, "take 93 for meta-training and as many for the test"),
        (
            {"shots": 200, "held_out": "classes"},
            "174 images of class 8, but .* take 203; make them",
        ),
    ],
)
def test_requests_too_large_for_the_data(changes, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        SOURCES["digits"].split(request_of(**changes))
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(REAL is None, reason="METAPLAST_TEST_DATA names no folder of data sets")
@pytest.mark.parametrize(
    ("name", "outputs", "held_out", "brightness"),
    [
        ("mnist", 10, "images", 0.13),
        pytest.param("emnist-bymerge", 47, "classes", 0.17, marks=pytest.mark.slow),
        pytest.param("omniglot", 1623, "classes", 0.085, marks=pytest.mark.slow),
    ],
)
def test_real_data(name, outputs, held_out, brightness, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    request = EpisodeRequest(shots=5, queries=5, data_root=Path(REAL))
    for _ in range(2):  # the second time from the cache, where there is one
        split = SOURCES[name].split(request)
        assert (split.inputs, split.outputs, split.held_out) == (784, outputs, held_out)
        batch = split.train.sample(40, seeded())
        assert batch.support_x.mean().item() == pytest.approx(brightness, abs=0.02)
        assert not rows(batch) & rows(split.test.sample(40, seeded()))


def test_a_data_set_gives_its_own_parts_whole_and_in_order():
    from episodes.pool import LabelledPool
    from episodes.source import PoolSource
    from metaplast.tasks.request import StreamRequest

    images = torch.arange(10, dtype=torch.uint8).view(5, 2)
    labels = torch.tensor([0, 1, 0, 1, 1])
    made = {"parts": {"train": 3, "test": 2}}
    divided, whole = (
        PoolSource(
            "made", "made up", lambda _, more=more: LabelledPool(images, labels, 0.5, **more)
        )
        for more in (made, {})
    )
    parts = divided.parts(StreamRequest(dtype=torch.float64))
    assert list(parts) == ["train", "test"]
    assert torch.equal(parts["train"].input, images[:3].double() / 2)
    assert torch.equal(parts["test"].input, images[3:].double() / 2)
    assert torch.equal(parts["test"].target, labels[3:])
    with pytest.raises(UserError, match="not divided into parts"):
        whole.parts(StreamRequest())
