"""Episodes of several lengths: `--shots 2,5`."""

import json
from dataclasses import replace

import pytest
import torch
from support import Clouds

from metaplast.base.errors import UserError
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.discover import discover
from metaplast.discovery.run import Discovery
from metaplast.discovery.run_folder import RunFiles, summary
from metaplast.discovery.same_tasks import tasks_of
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.lengths import MixedLengths, each_length, with_lengths
from metaplast.tasks.library import open_source
from metaplast.tasks.mini_batches import MiniBatches
from metaplast.tasks.source import EpisodeSplit

TINY = {
    "hidden": (5,), "ways": 3, "queries": 2, "episodes": 8, "meta_batch": 2, "refit": 4,
    "refit_batch": 2, "look": 4, "validation": 6, "test_episodes": 7, "dataset": "digits",
    "terms": "F0,F2", "shots": (2, 4),
}  # fmt: skip


def split(**changes):
    config = DiscoveryConfig(**TINY | changes)
    return config, open_source(config.dataset_name, config.request)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shots", [1, 2, 3, 4])
def test_the_first_examples_of_each_class_are_kept(shots):
    _, whole = split()
    mixed = MixedLengths(whole.train, (shots,), 4)
    generator = draw()
    torch.randint(1, (), generator=generator)  # The length is drawn first.
    base = whole.train.sample(3, generator)
    cut = mixed.sample(3, draw())
    for episode in range(3):
        seen, kept = {}, []
        for step, label in enumerate(base.support_y[episode].tolist()):
            seen[label] = seen.get(label, 0) + 1
            if seen[label] <= shots:
                kept.append(step)
        assert len(kept) == 3 * shots
        assert torch.equal(cut.support_x[episode], base.support_x[episode, kept])
        assert torch.equal(cut.support_y[episode], base.support_y[episode, kept])
    assert torch.equal(cut.query_x, base.query_x)


def test_targets_that_are_numbers_have_no_classes_to_balance():
    class Numbers:
        def sample(self, episodes, generator):
            x = torch.rand(episodes, 6, 2, generator=generator)
            return EpisodeBatch(x, x[..., :1], x[:, :2], x[:, :2, :1])

    cut = MixedLengths(Numbers(), (4,), 6).sample(2, draw())
    assert cut.steps == 4
    assert torch.equal(cut.support_x[..., :1], cut.support_y)


def test_each_length_is_drawn_equally_often_and_the_seed_decides():
    _, whole = split()
    mixed = MixedLengths(whole.train, (1, 2, 4), 4)
    counts = [mixed.sample(1, draw(seed)).steps for seed in range(120)]
    assert all(25 < counts.count(steps) < 56 for steps in (3, 6, 12))
    assert counts == [mixed.sample(1, draw(seed)).steps for seed in range(120)]


def test_one_length_leaves_the_split_as_it_is():
    _, whole = split()
    assert with_lengths(whole, (4,)) is whole
    assert with_lengths(whole, ()) is whole


def test_the_lengths_are_found_through_other_samplers():
    _, whole = split()
    mixed = MixedLengths(whole.train, (2, 4), 4)
    parts = each_length(MiniBatches(mixed, 3))
    assert [part.sample(1, draw()).steps for part in parts] == [2, 4]
    assert each_length(whole.train) == (whole.train,)
    (same,) = each_length(MiniBatches(whole.train, 3))
    assert same.size == 3
    assert mixed.digest() != replace(mixed, shots=(1, 4)).digest() != whole.train.digest()


def test_nothing_held_out_is_trained_on_at_another_length():
    config, whole = split(held_out="images", shots=(1, 30))
    mixed = with_lengths(whole, config.lengths)
    for short, long in ((mixed.test, mixed.train), (mixed.train, mixed.test)):
        one, other = each_length(short)[0], each_length(long)[1]
        few = one.sample(40, draw()).support_x.flatten(0, 1)
        many = other.sample(10, draw()).support_x.flatten(0, 1)
        assert torch.cdist(few, many).min() > 0


@pytest.mark.slow
def test_the_test_takes_every_length_in_turn_and_shows_each():
    result = discover(**TINY)
    found = result.heldout["discovered"]
    assert sorted(found.steps.tolist()) == [6] * 4 + [12] * 3
    assert set(found.by_steps) == {6, 12}
    for steps, band in found.by_steps.items():
        assert band.mean == pytest.approx(float(found.score[found.steps == steps].mean()))
    written = json.loads(json.dumps(summary(result)))["heldout"]["discovered"]["by_steps"]
    assert written["6"]["mean"] == found.by_steps[6].mean
    same = discover(**TINY | {"shots": 4})
    assert same.heldout["discovered"].by_steps == {}
    assert "by_steps" not in summary(same)["heldout"]["discovered"]


def test_meta_training_draws_the_lengths():
    discovery = Discovery(DiscoveryConfig(**TINY))
    search = discovery._search()
    steps = {search.problem(step, 2, search.theta).episodes.steps for step in range(12)}
    assert steps == {6, 12}


@pytest.mark.parametrize("engine", ["fused", "batched"])
def test_engines_agree(engine):
    found = {
        name: Discovery(DiscoveryConfig(**TINY | {"engine": name, "dtype": "float64"}))
        for name in ("reference", engine)
    }
    first, second = (
        discovery.engine.run(discovery._search().problem(1, 2, discovery._search().theta + 0.01))
        for discovery in found.values()
    )
    assert torch.allclose(first.theta_gradient, second.theta_gradient, rtol=1e-9, atol=1e-12)


@pytest.mark.slow
def test_an_interrupted_run_continues_bit_for_bit(tmp_path):
    class Stop:
        def begin(self, discovery): ...
        def tested(self, name, episodes): ...
        def finish(self, result): ...
        def record(self, loop, record):
            if record.step == 2:
                raise KeyboardInterrupt

    whole = discover(**TINY)
    with pytest.raises(KeyboardInterrupt):
        discover(**TINY, folder=tmp_path, observers=[Stop()])
    again = Discovery.resume(tmp_path, observers=[RunFiles(tmp_path)]).run()
    assert again.rule.coefficients == whole.rule.coefficients
    tasks = tasks_of(tmp_path)
    learner = tasks.learner(again.rule, "it")
    assert torch.equal(
        tasks.test(learner, again.rule, lambda count: None).score,
        whole.heldout["discovered"].score,
    )


def test_mini_batches_and_own_data():
    x, y = torch.rand(60, 4), torch.arange(60) % 3
    result = discover(data=(x, y), **{k: v for k, v in TINY.items() if k != "dataset"})
    assert set(result.heldout["discovered"].by_steps) == {6, 12}


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="give one number of --shots"):
        Discovery(DiscoveryConfig(**TINY | {"dataset": "planted:F0=0.01"})).run()
    clouds = EpisodeSplit(Clouds(), Clouds(), "classes", inputs=6, outputs=3, description="clouds")
    with pytest.raises(UserError, match=r"Clouds decides how long .* give one"):
        Discovery(DiscoveryConfig(**TINY), split=clouds).run()


@pytest.mark.parametrize(
    ("given", "lengths"),
    [(None, ()), (5, (5,)), ([5], (5,)), ((20, 5, 5), (5, 20)), (torch.tensor([2, 3]), (2, 3))],
    ids=str,
)
def test_one_number_or_several(given, lengths):
    config = DiscoveryConfig(shots=given)
    assert config.lengths == lengths
    assert config.request.shots == max(lengths, default=50)


@pytest.mark.parametrize("given", ["5", True, 2.5, (2, "x"), (2, 0), (), -1])
def test_other_values_are_refused(given):
    with pytest.raises(UserError, match="shots"):
        DiscoveryConfig(shots=given)
