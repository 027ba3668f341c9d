"""The adapter for learn2learn: with a stand-in, and with the real thing where it is installed."""

import os
import random
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from support import seeded
from torch.utils.data import TensorDataset

from episodes import from_task_sets
from metaplast.base.errors import UserError
from metaplast.base.registry import find
from metaplast.tasks.request import EpisodeRequest
from metaplast.tasks.source import EpisodeSource

LEARN2LEARN = find("metaplast.episodes", EpisodeSource)["learn2learn"]
REQUEST = EpisodeRequest(ways=3, shots=2, queries=1)
REAL = os.environ.get("METAPLAST_TEST_DATA")


def pairs(batch):
    """Images of one pixel beside their labels, support and query together: [episode, image]."""
    images = torch.cat([batch.support_x, batch.query_x], dim=1)[..., 0]
    return images, torch.cat([batch.support_y, batch.query_y], dim=1)


class StandIn:
    """Draws as learn2learn does, from Python's global generator; image i has class i // 10."""

    def __init__(self, first=0, num_tasks=-1, per_class=3):
        self.first, self.num_tasks, self.per_class = first, num_tasks, per_class
        self.kept = {}

    def __getitem__(self, index):
        if self.num_tasks == -1:
            return self.task()
        return self.kept.setdefault(index, self.task())

    def task(self):
        classes = random.sample(range(self.first, self.first + 6), 3)
        images = [10 * c + i for c in classes for i in random.sample(range(10), self.per_class)]
        labels = torch.arange(3).repeat_interleave(self.per_class)
        return torch.tensor(images)[:, None, None, None].float(), labels


@pytest.mark.parametrize("num_tasks", [-1, 5])
def test_tasks_become_episodes(num_tasks):
    source = from_task_sets(StandIn(0, num_tasks), StandIn(6, num_tasks), name="mine")
    split = source.split(REQUEST)
    assert (split.inputs, split.outputs, split.held_out) == (1, 3, "classes")
    images, labels = pairs(split.train.sample(40, seeded()))
    assert images.shape == (40, 9)
    for image, label in zip(images, labels, strict=True):
        assert len(image.unique()) == 9
        assert label.bincount().tolist() == [3, 3, 3]
        for way in range(3):
            assert len((image[label == way] // 10).unique()) == 1
    test_images, _ = pairs(split.test.sample(40, seeded()))
    assert not set((images // 10).unique().tolist()) & set((test_images // 10).unique().tolist())


@pytest.mark.parametrize("num_tasks", [-1, 5])
def test_episodes_depend_on_the_generator_alone(num_tasks):
    def sample(seed, other_tasks_first):
        random.seed(other_tasks_first)
        split = from_task_sets(StandIn(0, num_tasks), StandIn(6, num_tasks)).split(REQUEST)
        if other_tasks_first:
            split.train.sample(other_tasks_first, seeded(99))
        return split.train.sample(4, seeded(seed))

    first, again, other = sample(1, 0), sample(1, 7), sample(2, 0)
    assert torch.equal(first.support_x, again.support_x)
    assert torch.equal(first.query_y, again.query_y)
    assert not torch.equal(first.support_x, other.support_x)


def test_global_generators_are_put_back():
    split = from_task_sets(StandIn(), StandIn(6)).split(REQUEST)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    split.train.sample(3, seeded())
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    assert before[:2] == after[:2]
    assert torch.equal(before[2], after[2])


def test_numbers_of_classes_and_order_are_random():
    batch = from_task_sets(StandIn(), StandIn(6)).split(REQUEST).train.sample(300, seeded())
    label_of_lowest = batch.support_y.gather(1, batch.support_x[..., 0].argmin(1, keepdim=True))
    assert label_of_lowest.flatten().bincount().min() > 60
    assert ((batch.support_y.double().mean(dim=0) - 1).abs() < 0.25).all()


class Broken(StandIn):
    def __init__(self, task):
        super().__init__()
        self.broken = task

    def task(self):
        return self.broken


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        (StandIn(per_class=4), r"ways × \(shots \+ queries\) = 9 .* got shapes \(12, 1, 1, 1\)"),
        (Broken(5), "a task must be a pair of images and labels, got int"),
        (
            Broken((torch.ones(9, 2), torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2]))),
            "a task must have 3 images of each of 3 classes",
        ),
        (Broken((torch.ones(9, 2), torch.zeros(9))), "a task must have 3 images of each"),
        (Broken((torch.ones(9, 2), torch.arange(3).repeat(3))), "images of one size"),
    ],
)
def test_tasks_that_do_not_fit(tasks, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        from_task_sets(StandIn(), tasks).split(REQUEST)
    assert "\n" not in str(caught.value)


def test_another_split_than_their_own_is_refused():
    request = EpisodeRequest(ways=3, shots=2, queries=1, held_out="images")
    with pytest.raises(UserError, match="has its own split, which holds out classes"):
        from_task_sets(StandIn(), StandIn()).split(request)


def test_learn2learn_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "learn2learn", None)
    with pytest.raises(UserError, match="run `uv sync --extra learn2learn`"):
        LEARN2LEARN.split(EpisodeRequest(argument="omniglot"))


@pytest.fixture
def l2l():
    return pytest.importorskip("learn2learn")


def real_task_set(l2l, classes, num_tasks=-1):
    """Real task set; the only pixel of image i of class c is 10 c + i."""
    labels = torch.tensor(classes).repeat_interleave(10)
    images = (labels * 10 + torch.arange(10).repeat(len(classes))).float()
    data = l2l.data.MetaDataset(TensorDataset(images[:, None], labels))
    transforms = [
        l2l.data.transforms.NWays(data, 3),
        l2l.data.transforms.KShots(data, 3),
        l2l.data.transforms.LoadData(data),
    ]
    return l2l.data.Taskset(data, transforms, num_tasks=num_tasks)


@pytest.mark.parametrize("num_tasks", [-1, 4])
def test_real_task_sets(l2l, num_tasks):
    def sample():
        train, test = (real_task_set(l2l, c, num_tasks) for c in ([0, 1, 2, 3], [5, 6, 7, 8]))
        split = from_task_sets(train, test).split(REQUEST)
        return split.train.sample(20, seeded()), split.test.sample(20, seeded())

    (train, test), (again, _) = sample(), sample()
    assert torch.equal(train.support_x, again.support_x)
    for batch, known in ((train, {0, 1, 2, 3}), (test, {5, 6, 7, 8})):
        images, labels = pairs(batch)
        assert set((images // 10).unique().tolist()) <= known
        for image, label in zip(images, labels, strict=True):
            assert len(image.unique()) == 9
            assert all(len((image[label == way] // 10).unique()) == 1 for way in range(3))


def test_an_unknown_benchmark_suggests_the_nearest(l2l):
    with pytest.raises(UserError, match="did you mean 'omniglot'"):
        LEARN2LEARN.split(EpisodeRequest(argument="omniglott"))


def test_a_benchmark_that_cannot_be_loaded(l2l, tmp_path, monkeypatch):
    def offline(url, *args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    request = EpisodeRequest(argument="omniglot", shots=2, data_root=tmp_path)
    with pytest.raises(UserError, match=r"could not load 'omniglot' from .*no route to host"):
        LEARN2LEARN.split(request)


@pytest.mark.skipif(REAL is None, reason="METAPLAST_TEST_DATA names no folder of data sets")
def test_real_omniglot_benchmark(l2l, tmp_path, monkeypatch):
    for part in ("background", "evaluation"):
        with zipfile.ZipFile(Path(REAL) / "omniglot-py" / f"images_{part}.zip") as archive:
            archive.extractall(tmp_path / "omniglot-py")
    # The data set is unpacked from other zip files than torchvision knows the md5 of.
    monkeypatch.setattr("torchvision.datasets.Omniglot._check_integrity", lambda self: True)
    request = EpisodeRequest(argument="omniglot", shots=3, queries=2, data_root=tmp_path)
    split = LEARN2LEARN.split(request)
    assert (split.inputs, split.outputs, split.held_out) == (784, 5, "classes")
    train, test = (
        {data.index for _ in range(40) for data in side.tasks.sample_task_description()}
        for side in (split.train, split.test)
    )
    # Places in the whole data set, 20 drawings of each character: no character is on both sides.
    assert not {index // 20 for index in train} & {index // 20 for index in test}
    batch = split.train.sample(3, seeded())
    assert torch.equal(batch.support_x, split.train.sample(3, seeded()).support_x)
    assert 0.03 < batch.support_x.mean() < 0.2
    too_many = EpisodeRequest(argument="omniglot", shots=15, queries=10, data_root=tmp_path)
    with pytest.raises(UserError, match="has 20 images of a class"):
        LEARN2LEARN.split(too_many)
