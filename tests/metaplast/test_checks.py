"""Every size, axis, kind and device is checked before an engine runs, for all engines alike."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import Clouds, named, random_problem, refusal, seeded

from metaplast import EpisodeBatch, FullyConnected, State, evaluate, unroll
from metaplast.base.tensors import require_count
from metaplast.engines import Outcome, get_engine
from metaplast.online.train import OnlineSettings, train_online
from metaplast.tasks.request import EpisodeRequest, StreamRequest

TERMS = named("error_hebbian", "oja")
ENGINES = ["reference", "batched", "fused"]


def problem():
    return random_problem(TERMS, widths=(4, 3), steps=3, queries=2, episodes=2)


COUNTS = (0, 1, 2, 3)


@pytest.mark.parametrize("part", ["support", "query"])
@pytest.mark.parametrize("sizes", [*itertools.product(COUNTS, COUNTS)], ids=str)
def test_every_pair_of_counts_is_learned_by_all_engines_or_refused(part, sizes):
    """Counts that are not equal, or are zero, would be read out of bounds."""
    images, labels = sizes
    case = problem()
    x = torch.rand(2, images, 4, generator=seeded(), dtype=torch.float64)
    y = torch.randint(3, (2, labels), generator=seeded())

    def spoiled():
        return replace(case.episodes, **{f"{part}_x": x, f"{part}_y": y})

    if images != labels or not images:
        assert refusal(spoiled)
        return
    outcomes = [get_engine(name).run(replace(case, episodes=spoiled())) for name in ENGINES]
    assert all(outcome.finite.all() for outcome in outcomes)
    for outcome in outcomes[1:]:
        torch.testing.assert_close(outcome.theta_gradient, outcomes[0].theta_gradient)


@pytest.mark.parametrize("field", ["support_x", "support_y", "query_x", "query_y"])
@pytest.mark.parametrize("episodes", [0, 1, 3])
def test_every_part_is_of_the_same_episodes(field, episodes):
    batch = problem().episodes
    part = getattr(batch, field)
    other = torch.cat([part, part])[:episodes]
    assert refusal(replace, batch, **{field: other})


def with_batch(**changes):
    return lambda p: replace(
        p.episodes, **{k: f(getattr(p.episodes, k)) for k, f in changes.items()}
    )


BATCHES = {
    "no episodes": lambda p: p.episodes.select(slice(5, 9)),
    "no pixels": with_batch(support_x=lambda x: x[..., :0], query_x=lambda x: x[..., :0]),
    "one image without axes": with_batch(support_x=lambda x: x[0]),
    "square images": with_batch(support_x=lambda x: x[..., None]),
    "bytes": with_batch(support_x=lambda x: x.byte()),
    "complex images": with_batch(query_x=lambda x: x + 1j),
    "an array": with_batch(support_x=lambda x: x.numpy()),
    "no images": with_batch(query_x=lambda x: None),
    "sparse images": with_batch(query_x=lambda x: x.to_sparse()),
    "images without numbers": with_batch(query_x=lambda x: x.to("meta")),
    "other pixels": with_batch(query_x=lambda x: x[..., 1:]),
    "two dtypes": with_batch(query_x=lambda x: x.float()),
    "truths as labels": with_batch(support_y=lambda y: y > 0),
    "floats as labels": with_batch(support_y=lambda y: y.double()),
    "a list of labels": with_batch(support_y=lambda y: y.tolist()),
    "a column of labels": with_batch(support_y=lambda y: y[..., None]),
    "floats as query labels": with_batch(query_y=lambda y: y.double()),
    "whole one-hot rows": with_batch(query_y=lambda y: torch.nn.functional.one_hot(y, 3)),
    "probabilities without a class": with_batch(query_y=lambda y: y[..., None].double()[..., :0]),
    "weights of other episodes": with_batch(initial=lambda _: problem().state.select(slice(1))),
    "weights that are no state": with_batch(initial=lambda _: problem().state.weights),
}
FITS = {
    "a class too many": lambda p: replace(p, episodes=with_batch(support_y=lambda y: y + 3)(p)),
    "a negative class": lambda p: replace(p, episodes=with_batch(query_y=lambda y: y - 3)(p)),
    "theta of a row too many": lambda p: replace(p, theta=torch.zeros(2, 2, dtype=torch.float64)),
    "theta of another length": lambda p: replace(p, theta=p.theta[:1]),
    "one number as theta": lambda p: replace(p, theta=p.theta.sum()),
    "a list as theta": lambda p: replace(p, theta=[0.1, 0.2]),
    "half precision": lambda p: replace(
        p, theta=p.theta.half(), state=p.state.to(torch.half), episodes=p.episodes.to(torch.half)
    ),
    "weights of other episodes": lambda p: replace(p, state=p.state.select(slice(1))),
    "weights of other episodes in one matrix": lambda p: replace(
        p, state=State.stack(p.state.weights, [m[:1] for m in p.state.backward])
    ),
    "weights as a list": lambda p: replace(p, state=list(p.state.matrices.values())),
    "weights as bare matrices": lambda p: replace(p, state=dict(p.state.matrices)),
    "weights of another network": lambda p: replace(
        p, state=State.stack([m.mT for m in p.state.weights], p.state.backward)
    ),
    "no learner": lambda p: replace(p, learner=FullyConnected((4, 3))),
    "no episodes": lambda p: replace(p, episodes=tuple(vars(p.episodes).values())),
    "on no machine": lambda p: replace(p, theta=p.theta.to("meta")),
}


@pytest.mark.parametrize("spoil", BATCHES.values(), ids=BATCHES.keys())
def test_a_batch_that_is_none_is_refused_where_it_is_made(spoil):
    assert refusal(spoil, problem())


@pytest.mark.parametrize("spoil", FITS.values(), ids=FITS.keys())
def test_parts_that_do_not_fit_are_refused(spoil):
    assert refusal(spoil, problem())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.uint16], ids=str)
def test_whole_numbers_of_any_kind_are_labels(engine, dtype):
    case = problem()
    labels = with_batch(support_y=lambda y: y.to(dtype), query_y=lambda y: y.to(dtype))(case)
    expected = get_engine(engine).run(case)
    outcome = get_engine(engine).run(replace(case, episodes=labels))
    assert torch.equal(outcome.theta_gradient, expected.theta_gradient)


@pytest.mark.parametrize("engine", ENGINES)
def test_probabilities_of_another_precision_are_converted(engine):
    case = problem()
    soft = torch.full((2, 2, 3), 1 / 3, dtype=torch.float32)
    batch = replace(case.episodes, query_y=soft)
    outcome = unroll(case.learner, case.theta, case.state, batch, engine=engine)
    assert outcome.loss.dtype == torch.float64
    assert outcome.finite.all()


def test_batches_that_differ_are_not_put_together():
    one, short = problem().episodes, problem().episodes
    short = replace(short, support_x=short.support_x[:, 1:], support_y=short.support_y[:, 1:])
    prescribed = replace(one, initial=problem().state)
    for batches in ([], [one, short], [one, prescribed], [one, one.to(torch.float32)]):
        assert refusal(EpisodeBatch.cat, batches)
    assert EpisodeBatch.cat([one, one]).episodes == 4


def test_an_outcome_is_of_the_same_episodes():
    case = problem()
    loss = torch.zeros(2)
    assert Outcome(loss, loss, None, case.state).finite.all()
    assert refusal(Outcome, loss, loss[:1], None, case.state)
    assert refusal(Outcome, loss, loss, torch.zeros(3, 2), case.state)
    assert refusal(Outcome, loss[:1], loss[:1], None, case.state)
    assert refusal(Outcome, loss.sum(), loss.sum(), None, case.state)


class Other:
    """Draws something other than what was requested."""

    def __init__(self, drawn):
        self.drawn = drawn

    def sample(self, *_):
        return self.drawn


@pytest.mark.parametrize(
    ("options", "sampler"),
    [
        ({"episodes": 0}, None),
        ({"episodes": 2.5}, None),
        ({"episodes": True}, None),
        ({"episodes": 4, "chunk": 0}, None),
        ({"episodes": 4}, Other(None)),
        ({"episodes": 4}, Other(problem().episodes)),
    ],
    ids=["none", "half", "truth", "chunk", "nothing drawn", "too few drawn"],
)
def test_an_evaluation_is_of_as_many_episodes_as_are_asked_for(options, sampler):
    case = problem()
    sampler = sampler or Clouds(4, 3)
    assert refusal(
        evaluate, case.learner, case.theta, sampler, get_engine("batched"), seed=0, **options
    )


def test_numpy_counts_are_counts():
    case = problem()
    found = evaluate(
        case.learner, case.theta, Clouds(4, 3), get_engine("batched"), seed=0, episodes=np.int64(3)
    )
    assert len(found.score) == 3
    assert EpisodeRequest(ways=np.int32(3)).ways == 3
    assert type(require_count(np.uint8(3), "it")) is int


@pytest.mark.parametrize("drawn", [None, problem().episodes, problem().episodes.select(slice(1))])
def test_a_stream_is_one_episode_of_as_many_images_as_are_asked_for(drawn):
    case = problem()
    settings = OnlineSettings((0, 2), seeds=1)
    assert refusal(train_online, case.learner, case.theta, Other(drawn), settings)


@pytest.mark.parametrize(
    "make",
    [
        lambda: OnlineSettings((1.5,)),
        lambda: OnlineSettings("12"),
        lambda: OnlineSettings((0,)),
        lambda: OnlineSettings((2, 1)),
        lambda: OnlineSettings((1,), seeds=True),
        lambda: OnlineSettings((1,), together=0),
        lambda: EpisodeRequest(ways=2.5),
        lambda: EpisodeRequest(shots=True),
        lambda: EpisodeRequest(queries="3"),
        lambda: StreamRequest(ways=1),
        lambda: StreamRequest(ways=None, seed=-1),
        lambda: FullyConnected((4, 2.5)),
        lambda: FullyConnected((4, True)),
        lambda: FullyConnected(4),
        lambda: FullyConnected("43"),
        lambda: FullyConnected((4,)),
        lambda: FullyConnected((4, 3), None),
        lambda: problem().learner.draw(0, seeded()),
        lambda: problem().learner.draw(1.0, seeded()),
    ],
)
def test_sizes_are_whole_numbers(make):
    assert refusal(make)


def test_lists_and_numpy_numbers_make_equal_settings():
    assert FullyConnected([4, np.int64(3)]) == FullyConnected((4, 3))
    assert OnlineSettings([0, np.int64(3)]) == OnlineSettings((0, 3))
