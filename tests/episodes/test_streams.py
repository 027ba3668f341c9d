"""Streams: halves that share no image, every class, the same images for the same generator."""

import numpy as np
import pytest
import torch
from support import assert_is_one_sentence, seeded

import episodes
from metaplast.base.errors import UserError
from metaplast.tasks.library import get_source, open_stream
from metaplast.tasks.request import StreamRequest


def numbered_source(classes=4, each=20):
    """A data set in which an image's pixels are its own number, thrice."""
    number = torch.arange(classes * each, dtype=torch.float32)
    return episodes.from_tensors(
        number[:, None].expand(-1, 3), torch.arange(classes * each) % classes, scale="none"
    )


def images(batch):
    return set(batch.support_x[0, :, 0].int().tolist()), set(batch.query_x[0, :, 0].int().tolist())


def test_halves_and_their_sides_share_no_image_and_hold_every_class():
    split = numbered_source().stream(StreamRequest())
    sides = []
    for half in (split.tuning, split.final):
        batch = half.sample(len(half.train), 1000, seeded())
        sides += images(batch)
        assert set(batch.support_y[0].tolist()) == set(batch.query_y[0].tolist()) == set(range(4))
        assert torch.equal(batch.support_y[0], batch.support_x[0, :, 0].long() % 4)
    assert sum(map(len, sides)) == len(set.union(*sides)) == 80
    assert split.images == len(sides[2])


def test_a_pass_meets_each_image_once_and_the_next_in_another_order():
    split = numbered_source().stream(StreamRequest())
    n = split.images
    met = split.final.sample(2 * n, 1, seeded()).support_x[0, :, 0].tolist()
    assert sorted(met[:n]) == sorted(met[n:])
    assert len(set(met)) == n
    assert met[:n] != met[n:]


def test_the_generator_alone_decides_and_more_steps_go_on_as_fewer_do():
    split = numbered_source().stream(StreamRequest())
    a, b = (split.final.sample(10, 5, seeded(3)) for _ in range(2))
    assert torch.equal(a.support_x, b.support_x)
    assert torch.equal(a.query_x, b.query_x)
    assert not torch.equal(a.support_x, split.final.sample(10, 5, seeded(4)).support_x)


def test_with_ways_each_network_meets_its_own_classes_renumbered():
    split = numbered_source(classes=9).stream(StreamRequest(ways=3))
    assert split.outputs == 3
    chosen = set()
    for seed in range(6):
        batch = split.final.sample(split.images, 100, seeded(seed))
        pairs = {
            (int(x) % 9, int(y))
            for x, y in zip(batch.support_x[0, :, 0], batch.support_y[0], strict=True)
        }
        pairs |= {
            (int(x) % 9, int(y))
            for x, y in zip(batch.query_x[0, :, 0], batch.query_y[0], strict=True)
        }
        assert len(pairs) == 3
        assert {y for _, y in pairs} == {0, 1, 2}
        chosen.add(frozenset(c for c, _ in pairs))
    assert len(chosen) > 1


def test_bytes_are_scaled_and_dtype_kept():
    batch = open_stream("digits", StreamRequest(dtype=torch.float64)).final.sample(50, 9, seeded())
    assert batch.support_x.dtype == torch.float64
    assert float(batch.support_x.max()) == 1.0
    assert batch.query_x.shape == (1, 9, 64)


def test_a_source_of_tasks_alone_refuses_with_a_sentence():
    source, _ = get_source("learn2learn:omniglot")
    with pytest.raises(UserError, match="needs a stream of single images") as refused:
        source.stream(StreamRequest())
    assert_is_one_sentence(refused.value)


@pytest.mark.parametrize(
    ("ways", "each", "text"),
    [(5, 20, "--ways asks for 5"), (None, 3, "at least 4"), (1, 20, "at least 2")],
)
def test_what_does_not_fit_is_refused(ways, each, text):
    with pytest.raises(UserError, match=text) as refused:
        numbered_source(each=each).stream(StreamRequest(ways=ways))
    assert_is_one_sentence(refused.value)


def test_a_name_with_an_argument_opens_that_stream():
    with pytest.raises(UserError, match="takes nothing after a colon"):
        open_stream("digits:3", StreamRequest())
    assert open_stream("clusters:8,5", StreamRequest()).inputs == 8
    assert np.isclose(open_stream("clusters:8,5", StreamRequest()).outputs, 5)
