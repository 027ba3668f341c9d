"""Which images an experiment's variants see; choices are made on separate images."""

import itertools
from dataclasses import replace

import pytest
import torch
from sides import Half, Sources
from support import Clouds

from metaplast.base.seeds import generator
from metaplast.reproduce import heldout, meta, online
from metaplast.reproduce.direct import DirectVariant
from metaplast.reproduce.experiment import Setting, all_experiments, get_experiment
from metaplast.reproduce.heldout import GivenVariant, RuleVariant
from metaplast.reproduce.meta import SEPARATE, MetaVariant
from metaplast.reproduce.online import OnlineVariant
from metaplast.rules.rule import Rule
from metaplast.systems.system import Examples
from metaplast.systems.timing import Timing
from metaplast.tasks.stream import StreamSplit
from rule_library.experiments import coding_runs, memory_runs, rate_classifier, supertrex_learned
from rule_library.experiments.coding_runs import CodingTraining
from rule_library.experiments.coding_sweeps import CodingSweeps
from rule_library.experiments.found_rates import FoundVariant
from rule_library.experiments.memory_runs import MemorySetup, MemoryVariant, coefficient
from rule_library.experiments.rate_classifier import RateVariant
from rule_library.experiments.supertrex_learned import LearnedVariant
from rule_library.experiments.three_factor import RewardVariant
from rule_library.experiments.tuned_rates import TunedVariant

QUICK = Setting(quick=True)
# Two generations with one drawing each.
QUICK_DRAWINGS = 2
VARIANTS = {v.name: v for each in all_experiments().values() for v in each.variants}
KINDS = (
    MetaVariant, OnlineVariant, RuleVariant, DirectVariant, CodingTraining, CodingSweeps,
    MemoryVariant, GivenVariant, RewardVariant, LearnedVariant, RateVariant, FoundVariant,
    TunedVariant,
)  # fmt: skip


@pytest.fixture
def sources(monkeypatch):
    found = Sources()
    monkeypatch.setattr("metaplast.discovery.parts.open_source", found.open)
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


def test_probes_measure_the_networks_of_their_own_step():
    # θ changes at every step, and the row of a step has the θ before it.
    tiny = {
        "dataset": "clusters", "hidden": (5,), "ways": 3, "shots": 2, "queries": 2,
        "meta_batch": 2, "episodes": 8, "engine": "batched", "terms": "error_hebbian",
    }  # fmt: skip
    probe = {"seen": lambda snapshot: snapshot.theta[..., :1].expand(2, 1)}
    rows = MetaVariant("made_up", tiny, probes=probe).run(0, Setting(), {})
    assert len(rows) == 4
    assert [row["seen_1"] for row in rows] == [row["theta_error_hebbian"] for row in rows]
    assert len({row["seen_1"] for row in rows}) == 4


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
    # The test of the discovery itself is left to this variant.
    assert set(sources.sides) == {"train"}
    learned = sources.seeds("train")
    found_with = sources.requests[0]
    sources.log.clear()
    sources.requests.clear()
    setup = replace(variant.quick_setups[0], depth=2, hidden=(5,))
    variant = replace(variant, quick_setups=(setup,))
    for seed in (0, 5):
        variant.run(seed, QUICK, prepared)
    assert set(sources.sides) == {"test"}
    assert not learned & sources.seeds("test")
    assert len(sources.seeds("test")) == 2
    # All seeds use the split of the discovery: rules are tested on what it held out.
    assert {request.seed for request in sources.requests} == {found_with.seed} == {config.seed}
    assert {request.held_out for request in sources.requests} == {found_with.held_out}


@pytest.mark.slow  # It needs the kernel of networks that relax.
def test_a_rule_is_scaled_on_tasks_of_the_search_and_tested_on_others(sources, tmp_path):
    variant = VARIANTS["predictive_few"]
    prepared = variant.prepare(QUICK, tmp_path)
    assert set(sources.sides) == {"train"}
    assert prepared["tried"][str(round(prepared["factor"], 4))] == max(prepared["tried"].values())
    sources.log.clear()
    variant.run(2, QUICK, prepared)
    assert set(sources.sides) == {"test"}


def test_a_given_rule_is_tested_on_held_out_tasks_alone(sources, tmp_path):
    variant = VARIANTS["backprop_0.012"]
    setup = replace(variant.quick_setups[0], depth=2, hidden=(5,))
    variant = replace(variant, quick_setups=(setup,))
    prepared = variant.prepare(QUICK, tmp_path)
    assert sources.sides == []
    assert list(prepared["theta"].values()) == [0.012]
    variant.run(3, QUICK, prepared)
    assert set(sources.sides) == {"test"}


def test_a_rule_of_rewards_is_tested_on_bandits_that_it_never_met(monkeypatch, tmp_path):
    from rule_library.experiments import three_factor

    log, bandits = [], three_factor._bandits

    class Side:
        def __init__(self, name, base):
            self.name, self.base = name, base

        def sample(self, episodes, generator):
            log.append((self.name, generator.initial_seed()))
            return self.base.sample(episodes, generator)

    def logged(steps):
        split = bandits(steps)
        return replace(split, train=Side("train", split.train), test=Side("test", split.test))

    monkeypatch.setattr(three_factor, "_bandits", logged)
    variant = next(v for v in VARIANTS.values() if isinstance(v, RewardVariant))
    prepared = variant.prepare(QUICK, tmp_path)
    assert {side for side, _ in log} == {"train"}
    met = {seed for _, seed in log}
    log.clear()
    for seed in range(3):
        variant.run(seed, QUICK, prepared)
    assert {side for side, _ in log} == {"test"}
    assert len({seed for _, seed in log} - met) == 3


def test_all_rules_of_a_comparison_meet_the_same_held_out_tasks(sources):
    names = [v.name for v in get_experiment("beyond").variants]
    assert len(names) == 5
    assert len({VARIANTS[name].setups for name in names}) == 1
    assert {VARIANTS[name].config(Setting()).seed for name in names} == {0}
    assert {VARIANTS[name].config(Setting()).held_out for name in names} == {"auto"}


def test_probes_do_not_change_the_other_numbers():
    variant = VARIANTS["feedback_alignment"]
    bare = replace(variant, probes={})
    torch.manual_seed(0)
    for seen, plain in zip(variant.run(0, QUICK, {}), bare.run(0, QUICK, {}), strict=True):
        assert {key: seen[key] for key in plain} == plain


def test_fixed_points_learn_from_training_images_and_are_tested_on_the_whole_test_part(monkeypatch):
    """All rules of a seed begin with the same weights; no test image is learned."""
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
        variant = replace(VARIANTS[name], full={**VARIANTS[name].full, **small})
        rows = variant.run(0, Setting(), {})
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
    # A seed's numbers do not depend on its company.
    for one, other in zip(variant.run_together([5, 0], Setting(), {})[1], rows, strict=True):
        assert one == pytest.approx(other, rel=1e-4)


class SinglePrecision(Half):
    """A half of a stream in single precision."""

    def sample(self, steps, queries, generator):
        return super().sample(steps, queries, generator).to(torch.float32)


@pytest.mark.slow
def test_a_rule_is_found_on_tasks_and_learns_the_images_at_each_factor(
    sources, monkeypatch, tmp_path
):
    log = sources.log
    split = StreamSplit(
        SinglePrecision("tuning", log), SinglePrecision("final", log), 100, 6, 3, "clouds"
    )
    monkeypatch.setattr(rate_classifier, "open_stream", lambda *_: split)
    found = VARIANTS["discovered_rates"]
    stream = {**found.quick_stream, "updates": 3, "batch": 20, "records": (0,)}
    small = replace(
        found, quick={**found.quick, "entry": 2, "look": 2}, quick_stream=stream,
        factors=(1.0, 2.0),
    )  # fmt: skip
    prepared = small.prepare(QUICK, tmp_path)
    assert set(sources.sides) == {"train"}
    # It grows from the terms whose coefficients do not start at zero.
    assert {"error_hebbian", "reparameterised"} <= set(prepared["theta"])
    assert prepared["theta"]["reparameterised"] == pytest.approx(0.5, abs=0.1)
    sources.log.clear()
    tested, evaluate = [], heldout.evaluate

    def watched(learner, theta, sampler, *args, **options):
        tested.append(sampler.sample(1, generator(0, "shapes")))
        return evaluate(learner, theta, sampler, *args, **options)

    monkeypatch.setattr(heldout, "evaluate", watched)
    rows = small.run(0, QUICK, prepared)
    # The tasks are learned in mini-batches of two, as in the search.
    assert [batch.support_x.shape[2] for batch in tested] == [2]
    assert tested[0].support_x.dim() == 4
    assert set(sources.sides) == {"test", "final"}
    rule = Rule.from_json(prepared["rule"])
    twice = replace(rule, theta=(tuple(2 * value for value in rule.theta[0]),))
    again = replace(small, factors=(1.0,)).run(0, QUICK, {"rule": twice.to_json()})

    def by_update(found, column):
        return {row["at"]: row[column] for row in found if column in row}

    doubled = by_update(rows, "accuracy_times_2")
    assert [*doubled] == [0, 3]
    assert doubled == by_update(again, "accuracy")
    # The loss differs between the factors, even where accuracies agree.
    assert by_update(rows, "loss") != by_update(again, "loss")


def test_some_of_the_test_images_are_enough_for_some_experiments(monkeypatch):
    part = Examples(torch.arange(12.0)[:, None], torch.arange(12))
    parts = {"train": part, "test": part}
    monkeypatch.setattr(rate_classifier, "open_parts", lambda name, request: parts)
    images = rate_classifier.open_images({"dataset": "mnist", "every": 5}, Setting())
    assert images.test.target.tolist() == [0, 5, 10]
    assert torch.equal(images.test.input[:, 0], torch.tensor([0.0, 5.0, 10.0]))
    assert len(images.train.target) == 12


# --- short-term memory ---


class Sequences(Half):
    """A half of a stream of sequences with one frame."""

    def sample(self, steps, queries, generator):
        batch = super().sample(steps, queries, generator).to(torch.float32)
        support, query = (x[:, :, None] for x in (batch.support_x, batch.query_x))
        return replace(batch, support_x=support[:, :steps], query_x=query[:, :queries])


@pytest.fixture
def sequences(monkeypatch):
    """Return the log of a stream of sequences from which the variants learn."""
    log = []
    timing = Timing(1, 5, 7)
    split = StreamSplit(
        Sequences("tuning", log), Sequences("final", log), 100, 6, 3, "clouds", timing=timing
    )
    monkeypatch.setattr(memory_runs, "open_stream", lambda *_: split)
    return log


SMALL = MemorySetup(
    "clouds", time=7, neurons=4, images=6, every=2, queries=5, tuning_images=4, tuning_seeds=2,
    tuning_queries=5,
)  # fmt: skip
TERMS = ("error_hebbian", "potential_oja")


def test_networks_with_a_memory_have_coefficients_from_the_tuning_half(sequences, tmp_path):
    variant = MemoryVariant("made_up", TERMS, ((-8, -6), (-8, -6)), SMALL)
    prepared = variant.prepare(Setting(), tmp_path)
    assert {side for side, _ in sequences} == {"tuning"}
    tuned = {seed for _, seed in sequences}
    assert len(tuned) == 2, "all points of the grid learn from the same images"
    sequences.clear()
    rows = variant.run_together([0, 3], Setting(), prepared)
    assert {side for side, _ in sequences} == {"final"}
    assert not tuned & {seed for _, seed in sequences}
    # A seed's numbers do not depend on its company.
    alone = variant.run(3, Setting(), prepared)
    assert [list(row) for row in alone] == [list(row) for row in rows[1]]
    for one, other in zip(alone, rows[1], strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    assert rows[0] != rows[1]
    assert [row["at"] for row in alone if "accuracy" in row] == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("best", "axes", "points", "edges"),
    [
        # In the middle, nothing grows.
        ((-8, -8), ((-10, -8, -6), (-10, -8, -6)), 9, []),
        # At a corner, a row and a column are added; then the best is inside.
        ((-12, -4), ((-12, -10, -8), (-8, -6, -4)), 16, []),
        # Beyond the grid, it grows twice, and says where it stopped.
        ((-99, -8), ((-10, -8, -6), (-10, -8, -6)), 15, ["error_hebbian"]),
        # On a line, by four points at a time.
        ((-4,), ((-8, -6, -4),), 7, []),
        ((99,), ((-8, -6, -4),), 11, ["error_hebbian"]),
    ],
)
def test_a_grid_grows_at_the_edge_where_its_best_point_lies(
    best, axes, points, edges, sequences, monkeypatch, tmp_path
):
    def near(lanes, tried, every):
        return [-sum(abs(a - b) for a, b in zip(point, best, strict=True)) for point in tried]

    monkeypatch.setattr(memory_runs, "_scores", near)
    variant = MemoryVariant("made_up", TERMS[: len(axes)], axes, SMALL)
    found = variant.prepare(Setting(), tmp_path)
    assert len(found["tried"]) == points
    assert found["at_edge"] == edges
    if not edges:
        wanted = [coefficient(quarter) for quarter in best]
        assert list(found["theta"].values()) == pytest.approx(wanted)


def test_all_rules_have_the_same_effort_and_the_same_networks():
    for name in ("short-term-memory", "short-term-memory-sizes"):
        variants = get_experiment(name).variants
        sizes = {len(list(itertools.product(*variant.grid))) for variant in variants}
        assert len(sizes) == 1
        assert len({variant.growths for variant in variants}) == 1
        by_size = {}
        for variant in variants:
            by_size.setdefault((variant.full.time, variant.full.neurons), []).append(variant.full)
        assert {len(each) for each in by_size.values()} == {3}
        assert all(len(set(each)) == 1 for each in by_size.values())


def test_lanes_learn_like_single_networks_and_measure_what_they_say(sequences):
    """A plain loop over one network gives the same accuracy, norms and singular values."""
    variant = MemoryVariant("made_up", TERMS, ((-8, -6), (-8, -6)), SMALL)
    rows = variant.run_together([0, 1], Setting(), {"theta": {TERMS[0]: 0.1, TERMS[1]: 0.03}})[1]
    split = memory_runs.open_stream()
    learner = SMALL.learner(split, TERMS)
    batch = split.final.sample(6, 5, generator(0, "short-term memory", "images", "final", 1))
    w_x, w_h, w_o = (
        matrix[0].double()
        for matrix in learner.draw(
            1, generator(0, "short-term memory", "weights", "final", 1)
        ).matrices.values()
    )

    def read(x, y):
        z, errors = [w_x @ x], []
        for t in range(1, 7):
            z.append(w_h @ torch.tanh(z[-1]) + (w_x @ x if t < 5 else 0))
        out = torch.softmax(w_o @ torch.tanh(z[-1]), 0)
        out_error = out - torch.nn.functional.one_hot(y, 3)
        back = w_o.T @ out_error
        for t in reversed(range(7)):
            errors.insert(0, back * (1 - torch.tanh(z[t]) ** 2))
            back = w_h.T @ errors[0]
        return torch.stack(z), torch.stack(errors), out, out_error

    for x, y in zip(batch.support_x[0, :, 0].double(), batch.support_y[0], strict=True):
        z, e, _, out_error = read(x, y)
        s = torch.tanh(z)
        u = s[:-1] @ w_h.T
        shown = x.expand(5, -1)
        # The term lowers the loss: its coefficient is that of −e yᵀ.
        change_h = -0.1 * e[1:].T @ s[:-1] + 0.03 * (u.T @ z[:-1] - u.T @ u @ w_h)
        change_x, change_o = -0.1 * e[:5].T @ shown, -0.1 * torch.outer(out_error, s[-1])
        w_x, w_h, w_o = w_x + change_x, w_h + change_h, w_o + change_o
    found = [
        read(x, y) for x, y in zip(batch.query_x[0, :, 0].double(), batch.query_y[0], strict=True)
    ]
    right = [out.argmax() == y for (_, _, out, _), y in zip(found, batch.query_y[0], strict=True)]
    last = next(row for row in rows if row["at"] == 6 and "accuracy" in row)
    assert last["accuracy"] == pytest.approx(float(torch.stack(right).double().mean()))
    for column, index in (("activity_norm", 0), ("error_norm", 1)):
        signals = torch.stack([each[index] for each in found])
        signals = torch.tanh(signals) if index == 0 else signals
        wanted = signals.norm(dim=-1).log().mean(0).exp()
        got = [row[column] for row in rows if column in row]
        assert got == pytest.approx(wanted.tolist(), rel=1e-4)
    got = [row["singular"] for row in rows if "singular" in row]
    assert got == pytest.approx(torch.linalg.svdvals(w_h).tolist(), rel=1e-4)


def test_coefficients_of_reservoirs_are_learned_on_curves_that_no_test_has(monkeypatch, tmp_path):
    variant, drawn = VARIANTS["coefficients"], []

    class Learning:
        """Instead of the search: remembers what is drawn."""

        scores = ()

        def __init__(self, task, start, drawings, *, search, **_):
            self.algorithm = start
            drawn.extend(each for g in range(search.generations) for each in drawings(g))

    monkeypatch.setattr(supertrex_learned, "learn_coefficients", Learning)
    variant.prepare(QUICK, tmp_path)
    seeds = [each.seed for each in drawn]
    assert len(seeds) == len(set(seeds)) == QUICK_DRAWINGS
    # A test's curve and reservoir have its seed, which is far below.
    assert min(seeds) >= 1_000_000
    assert get_experiment("supertrex-learned").seeds < 1000
    first = supertrex_learned.random_curve(len(drawn[0].target), seeds[0])
    assert (drawn[0].target == first).all()
