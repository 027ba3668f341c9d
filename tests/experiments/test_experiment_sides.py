"""Which images an experiment's variants see; choices are made on separate images."""

from dataclasses import replace

import pytest
import torch
from sides import Half, Sources
from support import Clouds

from metaplast.reproduce import heldout, meta, online
from metaplast.reproduce.direct import DirectVariant
from metaplast.reproduce.experiment import Setting, all_experiments, get_experiment
from metaplast.reproduce.heldout import RuleVariant
from metaplast.reproduce.meta import SEPARATE, MetaVariant
from metaplast.reproduce.online import OnlineVariant
from metaplast.systems.system import Examples
from metaplast.tasks.stream import StreamSplit
from rule_library.experiments import coding_runs
from rule_library.experiments.coding_runs import CodingSweeps, CodingTraining

QUICK = Setting(quick=True)
VARIANTS = {v.name: v for each in all_experiments().values() for v in each.variants}
KINDS = (MetaVariant, OnlineVariant, RuleVariant, DirectVariant, CodingTraining, CodingSweeps)


@pytest.fixture
def sources(monkeypatch):
    found = Sources()
    monkeypatch.setattr("metaplast.discovery.run.open_source", found.open)
    monkeypatch.setattr(heldout, "open_source", found.open)
    monkeypatch.setattr(online, "open_stream", found.stream)
    return found


def test_every_variant_is_of_a_kind_that_is_looked_at_here():
    assert {type(variant) for variant in VARIANTS.values()} == set(KINDS)


def test_a_meta_learned_rule_meets_the_meta_training_side_alone(sources, tmp_path):
    variant = VARIANTS["feedback_alignment"]
    assert variant.prepare(QUICK, tmp_path) == {}
    rows = variant.run(3, QUICK, {})
    assert sources.sides == ["train"] * len(rows)
    assert [request.seed for request in sources.requests] == [3]


def test_an_outer_loop_is_chosen_on_seeds_that_nothing_else_is_made_with(sources, tmp_path):
    variant = VARIANTS["oja_steady"]
    variant = replace(
        variant, full={**variant.full, **variant.quick, "episodes": 3}, quick={"episodes": 3},
        loops=dict(list(variant.loops.items())[:2]),
    )  # fmt: skip
    prepared = variant.prepare(Setting(), tmp_path)
    assert set(sources.sides) == {"train"}
    assert [request.seed for request in sources.requests] == list(SEPARATE) * 2
    chosen_on = sources.seeds("train")
    sources.log.clear()
    sources.requests.clear()
    variant.run(0, Setting(), prepared)
    assert [request.seed for request in sources.requests] == [0]
    assert not chosen_on & sources.seeds("train")


@pytest.mark.parametrize("name", all_experiments())
def test_no_seed_of_an_experiment_is_one_that_outer_loops_are_chosen_on(name):
    assert not set(range(get_experiment(name).seeds)) & set(SEPARATE)


def test_the_loop_that_is_chosen_does_best_at_the_end_on_the_separate_seeds(monkeypatch, tmp_path):
    # Made-up accuracies: "late" is better at the end, "early" before.
    def setup(self, seed, setting, loop):
        assert seed in SEPARATE
        end = {"early": 0.5, "late": 0.6}[loop]
        start = {"early": 0.9, "late": 0.1}[loop]
        return [{"at": float(i), "accuracy": start if i < 10 else end} for i in range(12)]

    monkeypatch.setattr(meta.MetaVariant, "_run", setup)
    variant = MetaVariant("made_up", {}, loops={"early": {}, "late": {}})
    found = variant.prepare(Setting(), tmp_path)
    assert found["loop"] == "late"
    assert found["tried"] == pytest.approx({"early": 0.5, "late": 0.6})


def test_networks_that_learn_online_have_coefficients_from_the_tuning_half(sources, tmp_path):
    variant = VARIANTS["bp_5_layers"]
    prepared = variant.prepare(QUICK, tmp_path)
    assert set(sources.sides) == {"tuning"}
    tuned = sources.seeds("tuning")
    sources.log.clear()
    variant = replace(variant, tables={}, shown={}, final={})
    variant.run(0, QUICK, prepared)
    assert set(sources.sides) == {"final"}
    # The images examined at the end are the ones that the network was tested on.
    assert len(sources.seeds("final")) == 1
    assert not tuned & sources.seeds("final")


class Pictures(Half):
    """A half of a stream of images with eight pixels in a row."""

    def sample(self, steps, queries, generator):
        self.log.append((self.name, generator.initial_seed()))
        return Clouds(inputs=64, steps=steps, queries=queries).sample(1, generator)


@pytest.mark.parametrize("name", ["fixed_sgd", "fixed", "fixed_sweeps"])
def test_networks_that_learn_from_batches_have_rates_from_the_tuning_half(
    name, monkeypatch, tmp_path
):
    log = []
    split = StreamSplit(Pictures("tuning", log), Pictures("final", log), 60, 64, 3, name)
    monkeypatch.setattr(coding_runs, "open_stream", lambda *_: split)
    variant = VARIANTS[name]
    prepared = variant.prepare(QUICK, tmp_path)
    assert {side for side, _ in log} == ({"tuning"} if name == "fixed_sgd" else set())
    if name == "fixed_sgd":
        assert prepared["tried"][f"{prepared['rate']}"] == max(prepared["tried"].values())
    tuned = {seed for _, seed in log}
    log.clear()
    rows = variant.run(0, QUICK, prepared)
    assert {side for side, _ in log} == {"final"}
    assert not tuned & {seed for _, seed in log}
    # Three batches of twenty are an epoch; the fourth is from another order.
    assert len(log) == 2
    unclocked = [{k: v for k, v in row.items() if k != "seconds"} for row in rows]
    again = [{k: v for k, v in row.items() if k != "seconds"}
             for row in variant.run(0, QUICK, prepared)]  # fmt: skip
    assert unclocked == again


def test_a_found_rule_is_tested_on_what_its_discovery_held_out(sources, tmp_path):
    variant = VARIANTS["discovered"]
    config = variant.config(QUICK)
    small = {"terms": "error_hebbian,oja", "refit": 4, "look": 4, "validation": 4,
             "test_episodes": 4}  # fmt: skip
    variant = replace(variant, quick={**variant.quick, "hidden": (5,), "episodes": 4, **small})
    prepared = variant.prepare(QUICK, tmp_path)
    first = sources.sides.index("test")
    assert "train" not in sources.sides[first:]
    learned = sources.seeds("train") | sources.seeds("test")
    found_with = sources.requests[0]
    sources.log.clear()
    sources.requests.clear()
    setup = replace(variant.quick_setups[0], depth=2, hidden=(5,))
    variant = replace(variant, quick_setups=(setup,))
    for seed in (0, 5):
        variant.run(seed, QUICK, prepared)
    assert set(sources.sides) == {"test"}
    assert not learned & sources.seeds("test"), "other tasks than those of the discovery's own test"
    assert len(sources.seeds("test")) == 2
    # All seeds use the split of the discovery: rules are tested on what it held out.
    assert {request.seed for request in sources.requests} == {found_with.seed} == {config.seed}
    assert {request.held_out for request in sources.requests} == {found_with.held_out}


def test_all_rules_of_a_comparison_meet_the_same_held_out_tasks(sources):
    names = [v.name for v in get_experiment("beyond").variants]
    assert len(names) == 5
    assert len({VARIANTS[name].setups for name in names}) == 1
    assert {VARIANTS[name].config(Setting()).seed for name in names} == {0}
    assert {VARIANTS[name].config(Setting()).held_out for name in names} == {"auto"}


def test_a_witness_changes_nothing_of_what_is_measured():
    variant = VARIANTS["feedback_alignment"]
    bare = replace(variant, probes={})
    torch.manual_seed(0)
    for seen, plain in zip(variant.run(0, QUICK, {}), bare.run(0, QUICK, {}), strict=True):
        assert {key: seen[key] for key in plain} == plain


def test_fixed_points_learn_from_training_images_and_are_tested_on_the_whole_test_part(monkeypatch):
    """All rules of a seed begin with the same weights; no test image is learned."""
    from rule_library.experiments import rate_classifier

    gen = torch.Generator().manual_seed(0)
    parts = {
        "train": Examples(torch.rand(40, 6, generator=gen), torch.arange(40) % 3),
        "test": Examples(1 + torch.rand(12, 6, generator=gen), torch.arange(12) % 3),
    }
    monkeypatch.setattr(rate_classifier, "open_parts", lambda name, request: parts)
    learned, tested, starts = [], [], []
    step, output = rate_classifier.Learner.step, rate_classifier.FixedPoint.output

    def stepping(self, state, theta, example):
        starts.append({name: m.clone() for name, m in state.matrices.items()})
        learned.append(example.input[0])
        return step(self, state, theta, example)

    def reading(self, view, inputs):
        tested.append(inputs[0])
        return output(self, view, inputs)

    monkeypatch.setattr(rate_classifier.Learner, "step", stepping)
    monkeypatch.setattr(rate_classifier.FixedPoint, "output", reading)
    small = {"dataset": "mnist", "neurons": 4, "batch": 16, "updates": 3, "records": (0,)}
    for name in ("error_hebbian_0.01", "reparameterised_0.25"):
        variant = VARIANTS[name]
        settings = {**variant.full, **small}
        rows = rate_classifier.classify(0, settings, Setting())
        assert [row["at"] for row in rows] == [0, 3]
    # Three mini-batches are one pass, of 16, 16 and 8 images.
    for k in (0, 3):
        seen = torch.cat(learned[k : k + 3])
        assert sorted(map(tuple, seen.tolist())) == sorted(
            map(tuple, parts["train"].input.tolist())
        )
    assert torch.equal(learned[0], learned[3])
    assert all(torch.equal(one, parts["test"].input) for one in tested)
    assert len(tested) == 4
    for name, matrix in starts[0].items():
        assert torch.equal(matrix, starts[3][name])
