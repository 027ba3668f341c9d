"""Sources of sequences: delayed images, rows of images, and a user's own sequences."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import refusal, seeded

from episodes import from_sequences, from_tensors
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.own import OwnData
from metaplast.discovery.run import Discovery
from metaplast.systems.timing import Timing
from metaplast.tasks.digest import sampler_digest
from metaplast.tasks.library import default_source, open_source, open_stream
from metaplast.tasks.request import EpisodeRequest, StreamRequest

REQUEST = EpisodeRequest(ways=2, shots=3, queries=2)


def opened(text, **changes):
    return open_source(text, replace(REQUEST, **changes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_delayed_image_is_stored_once(dtype):
    split, images = (
        opened("delayed:digits,show=2,time=7", dtype=dtype),
        opened("digits", dtype=dtype),
    )
    assert (split.timing, split.inputs, split.outputs) == (Timing(1, 2, 7), 64, 10)
    assert "shown for 2 of 7 steps" in split.description
    assert split.held_out == images.held_out
    for side in ("train", "test"):
        one, other = (getattr(s, side).sample(3, seeded(5)) for s in (split, images))
        assert one.support_x.shape == (3, 6, 1, 64)
        assert one.support_x.numel() == other.support_x.numel()
        assert torch.equal(one.support_x[:, :, 0], other.support_x)
        assert torch.equal(one.query_x[:, :, 0], other.query_x)
        assert torch.equal(one.support_y, other.support_y)


def test_the_rows_of_an_image_follow_each_other():
    split, images = opened("rows"), opened("digits")
    assert (split.timing, split.inputs) == (Timing(8, 1, 8), 8)
    one, other = (s.train.sample(2, seeded(5)) for s in (split, images))
    assert torch.equal(one.query_x[1, 3, 2], other.query_x[1, 3, 16:24])
    assert opened("rows:digits,width=16").timing == Timing(4, 1, 4)


def test_the_default_of_the_recurrent_network_is_the_delayed_digits():
    assert default_source("recurrent") == "delayed:digits"
    assert default_source() == default_source("fully-connected") == "digits"
    config = DiscoveryConfig.for_system("recurrent")
    assert config.dataset_name == "delayed:digits"
    assert opened("delayed").timing == Timing(1, 5, 50)
    assert config.request.shots == 10


def test_other_sources_and_their_arguments_can_be_delayed():
    split = opened("delayed:clusters:6,12,time=9")
    assert (split.inputs, split.timing) == (6, Timing(1, 5, 9))
    assert opened("delayed:diabetes", ways=5).targets == "numbers"


def test_digests_know_images_and_timing():
    found = [
        sampler_digest(opened(f"delayed:{text}").train)
        for text in ("digits", "digits", "digits,show=4", "digits,time=40", "clusters")
    ]
    assert found[0] == found[1]
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("delayed:digits,show=6,time=5", "shows the image for 6 time steps"),
        ("delayed:digits,show=1,time=1", "at least 2 time steps"),
        ("delayed:digits,time=x", "whole number"),
        ("delayed:digits,time=", "whole number"),
        ("delayed:digits,delay=4", "unknown setting of delayed 'delay'; choose one of: show, time"),
        ("delayed:digits,show=1,show=2", "takes each setting once, as name=value, got 'show=2'"),
        ("delayed:digits,time=999999999", "whole number"),
        ("delayed:rows:digits", "plain images"),
        ("delayed:planted:bio", "plain images"),
        ("delayed:nosuch", "nosuch"),
        ("rows:clusters", "rows"),
        ("rows:digits,width=7", "rows of 7"),
        ("rows:digits,time=7", "width"),
    ],
)
def test_impossible_sequences_are_refused(text, words):
    assert words in refusal(opened, text)


@pytest.mark.parametrize(
    ("text", "frames"), [("delayed:digits,time=9", (1, 64)), ("rows:digits", (8, 8))]
)
def test_streams_of_sequences_hold_the_images_of_the_stream(text, frames):
    plain, split = (open_stream(name, StreamRequest()) for name in ("digits", text))
    assert (split.inputs, split.outputs, split.images) == (frames[1], 10, plain.images)
    assert split.timing == opened(text).timing
    for side in ("tuning", "final"):
        images, found = (
            getattr(each, side).sample(5, 3, seeded()) for each in (plain, split)
        )  # fmt: skip
        assert found.support_x.shape == (1, 5, *frames)
        assert torch.equal(found.support_x.flatten(2), images.support_x)
        assert torch.equal(found.query_x.flatten(2), images.query_x)
        assert torch.equal(found.support_y, images.support_y)
    assert split.final.range_is_known == plain.final.range_is_known


def test_a_stream_of_what_is_no_image_is_refused():
    for text in ("delayed:rows:digits", "rows:delayed:digits"):
        assert "plain images" in refusal(open_stream, text, StreamRequest())


# --- a user's own sequences ---

X = np.random.default_rng(0).random((40, 5, 3))
CLASSES = np.arange(40) % 4
NUMBERS = X.sum(2)[..., None]


def own(targets, sequences=X, **options):
    return from_sequences(sequences, targets, name="mine", **options)


def sampled(source, **changes):
    split = source.split(replace(REQUEST, dtype=torch.float64, **changes))
    return split, split.train.sample(2, seeded())


def test_classes_at_the_end():
    split, batch = sampled(own(CLASSES))
    assert split.timing == Timing(5, 1, 5)
    assert (split.inputs, split.outputs, split.targets) == (3, 4, "classes")
    assert batch.support_x.shape == (2, 6, 5, 3)
    known = {tuple(x.flatten()): y for x, y in zip(X.round(9), CLASSES, strict=True)}
    for x, y in zip(batch.query_x[0].numpy().round(9), batch.query_y[0].tolist(), strict=True):
        assert known[tuple(x.flatten())] == y
    words = np.array(list("abcd"))[CLASSES]
    assert sampled(own(words, held_out_classes=["a", "b"]))[0].held_out == "classes"


def test_numbers_at_the_end():
    split, batch = sampled(own(NUMBERS[:, -1]), ways=5)
    assert (split.outputs, split.targets, split.timing.each) == (1, "numbers", False)
    assert torch.allclose(batch.query_x[:, :, -1].sum(-1, keepdim=True), batch.query_y)


def test_classes_at_each_step():
    split, batch = sampled(own((X.sum(2) > 1.5).astype(int)), ways=5)
    assert split.timing == Timing(5, 1, 5, each=True)
    assert (split.outputs, split.targets) == (2, "classes")
    assert batch.support_y.dtype == torch.int64
    assert torch.equal(batch.support_y, (batch.support_x.sum(-1) > 1.5).long())


def test_numbers_at_each_step():
    split, batch = sampled(own(NUMBERS), ways=5)
    assert (split.outputs, split.targets, split.timing.each) == (1, "numbers", True)
    assert torch.allclose(batch.query_y, batch.query_x.sum(-1, keepdim=True))


def test_all_steps_share_a_scale():
    # The first output is always zero at the first step, which is no reason to warn.
    targets = np.concatenate([X.cumsum(1)[..., :1] - X[:, :1, :1], NUMBERS], 2)
    source = own(targets, scale="standard", target_scale="standard")
    split, _ = sampled(source, ways=5)
    pool = split.train.pool
    fit = pool.images[split.train.members].view(-1, 3), pool.targets[split.train.members]
    for values in (fit[0], fit[1].flatten(0, 1)):
        assert torch.allclose(values.mean(0), torch.zeros(1).double(), atol=1e-9)
        assert torch.allclose(values.std(0, correction=0), torch.ones(1).double())


def test_one_feature_needs_no_axis():
    split, batch = sampled(own(CLASSES, X[..., 0]))
    assert split.inputs == 1
    assert batch.support_x.shape == (2, 6, 5, 1)


def test_the_record_of_own_sequences_has_the_true_sizes():
    each = own((X.sum(2) > 1.5).astype(int)).split(EpisodeRequest(shots=3, queries=2))
    found = OwnData.of(each, torch.device("cpu"))
    assert (found.support, found.queries, found.inputs, found.outputs) == (3, 2, 3, 2)
    again = own((X.sum(2) > 1).astype(int))
    other = OwnData.of(again.split(EpisodeRequest(shots=3, queries=2)), torch.device("cpu"))
    assert found.train != other.train


@pytest.mark.parametrize(
    ("sequences", "targets", "words"),
    [
        ([X[0], X[1][:4]], [0, 1], "one length, got 4 to 5 time steps"),
        ([[1, 2], [1, 2, 3]], [0, 1], "one length, got 2 to 3 time steps"),
        (X[:, :1], CLASSES, "at least 2 time steps"),
        (X[0, 0], [0, 1, 2], "[sequence, time, feature]"),
        (X, CLASSES[:-1], "targets [sequence]"),
        (X, CLASSES[:, None].repeat(4, 1), "targets [sequence]"),
        (X, NUMBERS[:, :4], "targets [sequence]"),
        (X[:, :, :, None], CLASSES, "[sequence, time, feature]"),
        (X * np.nan, CLASSES, "finite"),
        (X, -CLASSES, "0 or more"),
        (X, np.full((40, 5), 7), "two classes or more"),
    ],
)
def test_wrong_sequences_are_refused(sequences, targets, words):
    assert words in refusal(own, targets, sequences)


def test_one_number_at_each_step_without_an_axis_is_warned_of():
    with pytest.warns(UserWarning, match=r"5 outputs at the end .* give them as \[sequence, time"):
        source = own(NUMBERS[..., 0])
    assert not sampled(source, ways=5)[0].timing.each


def test_numbers_that_the_dtype_cannot_hold_are_refused():
    for source in (
        own(CLASSES, 1e300 * X, scale="none"),
        own(1e300 * NUMBERS, target_scale="none"),
    ):
        ways = 2 if source.summary.endswith("5 steps") else 5
        said = refusal(source.split, replace(REQUEST, ways=ways))
        assert "float32 can hold" in said
        source.split(replace(REQUEST, ways=ways, dtype=torch.float64))


def test_a_source_of_own_data_can_be_pickled():
    for source in (own(CLASSES), from_tensors(X, CLASSES)):
        again = pickle.loads(pickle.dumps(source))
        digests = [sampler_digest(each.split(REQUEST).train) for each in (source, again)]
        assert digests[0] == digests[1]


def test_options_that_mean_nothing_are_refused():
    each = (X.sum(2) > 1.5).astype(int)
    assert "held_out_classes means nothing" in refusal(own, each, held_out_classes=[1])
    assert "target_scale" in refusal(own, each, target_scale="standard")
    assert "scale must be" in refusal(own, CLASSES, scale="nosuch")
    assert "a target at each step" in refusal(sampled, own(each), ways=3)
    assert "sequences" in refusal(own(CLASSES).stream, StreamRequest())


# --- which system reads what ---


def trial(split, system, **options):
    options = {"ways": 2, "shots": 3, "queries": 2, **options}
    config = DiscoveryConfig.for_system(system, **options)
    return Discovery(config, split=split and split.split(config.request)).split


def test_vectors_are_refused_by_the_recurrent_network():
    said = refusal(trial, None, "recurrent", dataset="digits")
    assert "reads sequences" in said
    assert "--dataset delayed:digits or rows:digits" in said
    said = refusal(trial, from_tensors(X[:, 0], CLASSES, name="flat"), "recurrent")
    assert "from_sequences" in said


def test_sequences_are_refused_by_the_stack():
    for split, dataset in ((None, "delayed:digits"), (own(CLASSES), "")):
        said = refusal(trial, split, "fully-connected", dataset=dataset)
        assert "--system recurrent" in said
    assert trial(own(CLASSES), "recurrent").timing == Timing(5, 1, 5)


def test_the_objective_must_fit_the_targets():
    assert "--objective mse" in refusal(trial, own(NUMBERS), "recurrent", ways=5)
