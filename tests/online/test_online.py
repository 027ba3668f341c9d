"""Online training against a plain loop; the same data for every rule; divergence is counted."""

import pytest
import torch
from support import Clouds, assert_close, assert_is_one_sentence, named, seeded

import episodes
from metaplast.base.errors import UserError
from metaplast.base.seeds import generator
from metaplast.online.probes import PROBES, term_norms
from metaplast.online.train import OnlineSettings, spaced_records, train_online
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.state import View
from metaplast.systems.system import Examples
from metaplast.tasks.library import open_stream
from metaplast.tasks.request import StreamRequest

WIDTHS = (6, 5, 4, 3)


class CloudStream:
    """A stream over easy tasks, one batch of which is a network's course."""

    def sample(self, steps, queries, generator):
        return Clouds(steps=steps, queries=queries).sample(1, generator)


def learner_of(*names, feedback="fixed"):
    return Learner.on_stack(FullyConnected(WIDTHS), feedback, named(*names))


def settings(records=(0, 4, 9), **options):
    return OnlineSettings(records, **{"seeds": 3, "queries": 7, **options})


@pytest.mark.parametrize("engine", ["fused", "batched"])
@pytest.mark.parametrize("names", [("error_hebbian",), ("error_hebbian", "error_error", "oja")])
def test_training_equals_a_plain_loop_over_single_examples(engine, names):
    learner = learner_of(*names)
    theta = torch.tensor([0.05, -0.03, 0.02][: len(names)], dtype=torch.float64)
    run = train_online(learner, theta, CloudStream(), settings(engine=engine))
    for network in range(3):
        batch = CloudStream().sample(9, 7, generator(0, "online", "images", network))
        state = learner.draw(1, generator(0, "online", "weights", network), torch.float64)
        each = theta.expand(1, learner.network.layers, -1)
        for step in range(10):
            if step in run.samples:
                record = run.samples.index(step)
                loss, accuracy = learner.query(state, batch.query)
                assert_close(run.loss[network, record], loss[0])
                assert float(run.score[network, record]) == pytest.approx(float(accuracy[0]))
            if step < 9:
                state = learner.step(state, each, batch.example(step))
        for got, wanted in zip(run.final.weights, state.weights, strict=True):
            assert_close(got[network], wanted[0])


def test_records_change_nothing_but_what_is_seen():
    learner, theta = learner_of("error_hebbian"), torch.tensor([0.05], dtype=torch.float64)
    few = train_online(learner, theta, CloudStream(), settings((9,)))
    many = train_online(learner, theta, CloudStream(), settings((0, 1, 2, 5, 9)))
    assert_close(few.loss[:, 0], many.loss[:, -1])


def test_more_networks_or_other_groups_leave_the_first_ones_as_they_are():
    learner, theta = learner_of("error_hebbian"), torch.tensor([0.05], dtype=torch.float64)
    few = train_online(learner, theta, CloudStream(), settings(seeds=2))
    more = train_online(learner, theta, CloudStream(), settings(seeds=5, together=2))
    assert_close(more.loss[:2], few.loss)
    assert len({float(x) for x in more.loss[:, 0]}) == 5


def test_every_rule_starts_from_the_same_weights_and_meets_the_same_images():
    zero = torch.zeros(1, dtype=torch.float64)
    runs = [
        train_online(learner_of("error_hebbian", feedback=name), zero, CloudStream(), settings())
        for name in ("fixed", "symmetric", "direct")
    ]
    for run in runs[1:]:
        assert torch.equal(run.loss, runs[0].loss)
        for a, b in zip(run.final.weights, runs[0].final.weights, strict=True):
            assert torch.equal(a, b)


def test_another_purpose_gives_other_networks_and_images():
    learner, theta = learner_of("error_hebbian"), torch.tensor([0.05], dtype=torch.float64)
    a, b = (
        train_online(learner, theta, CloudStream(), settings(purpose=purpose))
        for purpose in ("online", "tuning")
    )
    assert not torch.isclose(a.loss, b.loss).any()


def test_diverged_networks_count_as_zero_and_are_told():
    learner = learner_of("activity_error", "error_hebbian")
    theta = torch.tensor([-1e30, 1e30])
    run = train_online(learner, theta, CloudStream(), settings((0, 5, 9)))
    assert run.diverged.all()
    assert run.band().mean == 0
    assert (run.score[:, 1:][~torch.isfinite(run.loss[:, 1:])] == 0).all()


def test_probes_measure_what_they_say():
    learner = learner_of("error_hebbian", "oja", "decay")
    theta = torch.tensor([0.05, 0.02, 0.01], dtype=torch.float64)
    run = train_online(
        learner, theta, CloudStream(), settings((9,)), probes={**PROBES, "term_norm": term_norms}
    )
    network = 1
    state = run.final.select(slice(network, network + 1))
    batch = CloudStream().sample(9, 7, generator(0, "online", "images", network))
    angles = learner.error_angles(state, batch.query)
    assert_close(run.measures["angle"][network, -1], angles[0])
    norms = torch.stack([w[0].square().sum().sqrt() for w in state.weights])
    assert_close(run.measures["weight_norm"][network, -1], norms)
    forward = learner.network.forward(View.of(state).weights, batch.query_x)
    sizes = torch.stack([y[0].square().sum(1).sqrt().mean() for y in forward.activities[1:]])
    assert_close(run.measures["activity_norm"][network, -1], sizes)
    updates = []
    for i in range(7):
        example = Examples(batch.query_x[:, i], batch.query_y[:, i])
        after = learner.step(state, theta.expand(1, 3, 3), example)
        pairs = zip(after.weights, state.weights, strict=True)
        updates.append(torch.stack([(b - a)[0].norm() for b, a in pairs]))
    assert_close(run.measures["update_norm"][network, -1], torch.stack(updates).mean(0))
    decay = run.measures["term_norm"][network, -1, :, 2]
    assert_close(decay, 0.01 * norms)


def test_backprop_learns_real_digits():
    split = open_stream("digits", StreamRequest())
    learner = Learner.on_stack(FullyConnected((64, 16, 10)), "symmetric", named("error_hebbian"))
    settings = OnlineSettings((0, 300), seeds=2, queries=100, engine="batched")
    run = train_online(learner, torch.tensor([0.05]), split.final, settings, probes={})
    assert run.score[:, 0].max() < 0.3
    assert run.score[:, 1].min() > 0.5


def test_backprop_learns_to_tell_two_clouds_apart():
    split = episodes.from_tensors(*_two_clouds()).stream(StreamRequest())
    learner = Learner.on_stack(FullyConnected((2, 8, 2)), "symmetric", named("error_hebbian"))
    run = train_online(
        learner, torch.tensor([0.3]), split.final, OnlineSettings((0, split.images), seeds=3)
    )
    assert run.band().mean > 0.95


def _two_clouds():
    labels = torch.arange(800) % 2
    noise = 0.1 * torch.randn(800, 2, generator=seeded())
    return torch.stack([labels, 1 - labels], 1) + noise, labels


def test_spaced_records_rise_from_0_to_the_end():
    for samples in (1, 3, 100, 5000):
        records = spaced_records(samples)
        assert records[0] == 0
        assert records[-1] == samples
        assert list(records) == sorted(set(records))


@pytest.mark.parametrize(
    "bad", [{"records": ()}, {"records": (0,)}, {"records": (3, 3)}, {"seeds": 0}, {"queries": 0}]
)
def test_bad_settings_are_refused(bad):
    with pytest.raises(UserError) as refused:
        settings(**bad)
    assert_is_one_sentence(refused.value)
