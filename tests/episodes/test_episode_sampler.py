"""The shared sampler draws uniformly, and the split is what it says."""

import pytest
import torch
from support import seeded

from episodes import from_tensors
from episodes.sampler import distinct
from metaplast.tasks.request import EpisodeRequest


def numbered_images(counts):
    """A source whose images carry their own number as only pixel; class c has counts[c] of them."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return from_tensors(torch.arange(len(labels)).double()[:, None], labels, scale="none")


def within_five_sigma(counts, draws):
    """Whether `counts` of equally likely outcomes in `draws` draws are near their mean."""
    chance = 1 / len(counts)
    sigma = (draws * chance * (1 - chance)) ** 0.5
    return bool(((counts - draws * chance).abs() < 5 * sigma).all())


def test_distinct_gives_every_ordered_pair_equally_often():
    drawn = distinct(torch.full((12_000,), 3), 2, seeded())
    pairs = torch.bincount(drawn[:, 0] * 3 + drawn[:, 1], minlength=9)
    assert pairs[[0, 4, 8]].sum() == 0
    assert within_five_sigma(pairs[[1, 2, 3, 5, 6, 7]].double(), 12_000)


def test_distinct_keeps_below_each_size():
    sizes = torch.tensor([2, 5, 9]).repeat(500)
    drawn = distinct(sizes, 2, seeded())
    assert (drawn < sizes[:, None]).all()
    assert (drawn[:, 0] != drawn[:, 1]).all()
    assert [drawn[k::3].max().item() for k in range(3)] == [1, 4, 8]


def test_classes_and_images_are_drawn_uniformly():
    counts = [12, 30, 12, 21, 12, 12]
    request = EpisodeRequest(ways=3, shots=2, queries=1, held_out="images", dtype=torch.float64)
    split = numbered_images(counts).split(request)
    batch = split.train.sample(6000, seeded())
    assert within_five_sigma(torch.bincount(batch.query_y.flatten()).double(), 18_000)
    drawn = torch.cat([batch.support_x, batch.query_x], dim=1).flatten().long()
    first_class = torch.bincount(drawn[drawn < 12], minlength=12)
    seen = first_class[first_class > 0].double()
    assert len(seen) == 9  # three of twelve are held out
    assert within_five_sigma(seen, int(seen.sum()))


def test_support_order_is_shuffled():
    request = EpisodeRequest(ways=2, shots=5, queries=1, labels="remapped")
    labels = (
        numbered_images([20] * 8).split(request).train.sample(4000, seeded()).support_y.double()
    )
    place = labels.mean(dim=0)
    assert ((place - 0.5).abs() < 5 * 0.5 / 4000**0.5).all()


def test_labels_belong_to_images():
    request = EpisodeRequest(ways=3, shots=4, queries=2, dtype=torch.float64)
    split = numbered_images([10] * 12).split(request)
    batch = split.test.sample(50, seeded())
    assert torch.equal(batch.support_x[..., 0].long() // 10, batch.support_y)
    assert torch.equal(batch.query_x[..., 0].long() // 10, batch.query_y)


@pytest.mark.parametrize("needed", [2, 5])
def test_held_out_images_are_a_quarter_or_as_many_as_an_episode_takes(needed):
    request = EpisodeRequest(ways=2, shots=needed - 1, queries=1, held_out="images")
    split = numbered_images([12, 16, 40]).split(request)
    counts = split.test.counts
    assert counts.tolist() == [max(12 // 4, needed), max(16 // 4, needed), 10]
    assert (split.train.counts + counts).tolist() == [12, 16, 40]


def test_held_out_classes_are_a_quarter_and_never_fewer_than_ways():
    for ways, number in ((2, 5), (7, 7)):
        request = EpisodeRequest(ways=ways, shots=1, queries=1, held_out="classes")
        split = numbered_images([2] * 20).split(request)
        assert (len(split.test.classes), len(split.train.classes)) == (number, 20 - number)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_cpu_generator_gives_the_same_episodes_on_a_gpu():
    source = numbered_images([30] * 12)
    here, there = (
        source.split(EpisodeRequest(shots=3, queries=2, device=torch.device(device)))
        for device in ("cpu", "cuda")
    )
    first, second = (split.train.sample(20, seeded()) for split in (here, there))
    assert second.support_x.is_cuda
    assert torch.equal(first.support_x, second.support_x.cpu())
    on_device = there.train.sample(20, torch.Generator("cuda").manual_seed(0))
    assert on_device.query_y.is_cuda
