"""A user's own tensors and data sets."""

import numpy as np
import pytest
import torch
from PIL import Image
from support import seeded
from torch.utils.data import TensorDataset

from episodes import from_dataset, from_tensors
from metaplast.base.errors import UserError
from metaplast.tasks.request import EpisodeRequest

REQUEST = EpisodeRequest(ways=2, shots=2, queries=1)
LABELS = torch.arange(4).repeat(8)
IMAGES = torch.arange(32 * 6).view(32, 2, 3) / 200


def test_tensors_keep_their_values():
    batch = from_tensors(IMAGES, LABELS).split(REQUEST).train.sample(9, seeded())
    known = {tuple(image) for image in IMAGES.flatten(1).tolist()}
    assert {tuple(image) for image in batch.support_x.flatten(0, 1).tolist()} <= known
    assert torch.equal((batch.support_x[..., 0] * 200 / 6).round().long() % 4, batch.support_y)


@pytest.mark.parametrize(("dtype", "brightest"), [(np.uint8, 255), (np.bool_, 1), (np.float64, 1)])
def test_arrays_of_every_type_are_scaled(dtype, brightest):
    images = np.full((32, 5), brightest, dtype)
    batch = from_tensors(images, LABELS.numpy()).split(REQUEST).train.sample(2, seeded())
    assert batch.support_x.dtype == torch.float32
    assert (batch.support_x == 1).all()


def test_classes_are_numbered_in_the_order_of_their_labels():
    split = from_tensors(IMAGES, LABELS * 10 + 3, held_out_classes=[3, 33]).split(REQUEST)
    assert (split.outputs, split.held_out) == (4, "classes")
    assert set(split.test.sample(9, seeded()).query_y.unique().tolist()) == {0, 3}


@pytest.mark.parametrize("as_image", [np.array, Image.fromarray, torch.tensor])
def test_a_map_style_dataset_is_read(as_image):
    class Squares:
        def __len__(self):
            return 32

        def __getitem__(self, index):
            return as_image(np.full((4, 4), index, np.uint8)), index % 4

    batch = from_dataset(Squares(), name="squares").split(REQUEST).train.sample(9, seeded())
    assert batch.support_x.shape == (9, 4, 16)
    assert torch.equal((batch.support_x[..., 0] * 255).round().long() % 4, batch.support_y)


def test_a_tensor_dataset_equals_its_tensors():
    first = from_dataset(TensorDataset(IMAGES, LABELS)).split(REQUEST).test.sample(3, seeded())
    second = from_tensors(IMAGES, LABELS).split(REQUEST).test.sample(3, seeded())
    assert torch.equal(first.query_x, second.query_x)


def with_nan():
    images = IMAGES.clone()
    images[7, 1, 1] = float("nan")
    return images


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (IMAGES[:, 0, 0], LABELS, r"got shapes \(32,\) and \(32,\)"),
        (IMAGES, LABELS[:-1], r"got shapes \(32, 2, 3\) and \(31,\)"),
        (IMAGES, LABELS[:, None], r"got shapes \(32, 2, 3\) and \(32, 1\)"),
        (IMAGES[:0], LABELS[:0], "as many labels"),
        (IMAGES, LABELS - 1, "labels must be 0 or more, got -1"),
        (with_nan(), LABELS, "NaN or infinity in 1 images, the first at index 7"),
        ((IMAGES * 255).int(), LABELS, "must be uint8, bool or floating point, got torch.int32"),
        ([[1.0, 2.0], [3.0]], LABELS, "images must be a tensor or an array"),
    ],
)
def test_bad_tensors_are_refused(images, labels, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        from_tensors(images, labels, name="mine")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("mine")


@pytest.mark.parametrize(
    ("items", "sentence"),
    [
        ([], "got an empty data set"),
        ([torch.ones(3)], r"mine\[0\] must be a pair of an image and a label, got Tensor"),
        ([(torch.ones(3), 0), (torch.ones(4), 1)], r"shape \(4,\) at 1 after torch.float32 of"),
        ([(torch.ones(3), [0, 1])], r"mine\[0\] must have one integer label, got shape \(2,\)"),
        ([(torch.ones(3), True)], "labels must be integers"),
        ([(torch.ones(3), 0.5), (torch.ones(3), 1)], "got both floating point and whole numbers"),
        ([(torch.ones(3), [0.5]), (torch.ones(3), [0.5, 1.0])], r"got shapes \(1,\) and \(2,\)"),
        ([(torch.ones(3), [[0.5, 1.0]])], r"one integer label, got shape \(1, 2\)"),
        ([(torch.full((3,), float("inf")), 0)], "pixels must be finite"),
    ],
)
def test_bad_datasets_are_refused(items, sentence):
    with pytest.raises(UserError, match=sentence):
        from_dataset(items, name="mine")


def test_strange_held_out_classes_are_refused():
    with pytest.raises(UserError, match=r"labels in the data, got \[9\]; choose among 0 … 3"):
        from_tensors(IMAGES, LABELS, held_out_classes=[1, 9])


def test_too_few_held_out_classes_are_refused():
    source = from_tensors(IMAGES, LABELS, held_out_classes=[1])
    with pytest.raises(UserError, match="meta-training would have 3 and the test 1"):
        source.split(REQUEST)
