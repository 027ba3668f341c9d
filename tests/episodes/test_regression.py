"""Regression: numbers as targets, from the embedded data set and from a user's own arrays."""

import pickle
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from support import Clouds, assert_close, named, refusal, seeded

from episodes import from_dataset, from_tensors
from metaplast.discovery.own import OwnData
from metaplast.engines import Problem, get_engine
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.objective import all_objectives, get_objective
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.checks import require_targets
from metaplast.tasks.digest import batch_digest
from metaplast.tasks.input_range import far_range
from metaplast.tasks.library import get_source, open_source, open_stream
from metaplast.tasks.request import EpisodeRequest, StreamRequest
from metaplast.tasks.source import EpisodeSplit

REQUEST = EpisodeRequest(shots=12, queries=7, dtype=torch.float64)
INPUTS = torch.rand(80, 3, generator=seeded(), dtype=torch.float64)
TWO = INPUTS @ torch.randn(3, 2, generator=seeded(1), dtype=torch.float64)
ONE = TWO[:, 0]
MEASURED, PROGRESSION = map(torch.from_numpy, load_diabetes(return_X_y=True, scaled=False))


def stack(inputs, outputs, objective="mse", hidden=(20,), activation="tanh"):
    return FullyConnected(
        (inputs, *hidden, outputs),
        activation,
        feedback_name="symmetric",
        objective_name=objective,
    )


def rows(batch):
    """Every sample of a batch, inputs and targets, as a list of tuples."""
    x = torch.cat([batch.support_x, batch.query_x], 1)
    y = torch.cat([batch.support_y, batch.query_y], 1)
    return [tuple(row) for row in torch.cat([x, y], 2).flatten(0, 1).tolist()]


# --- the embedded data set ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_task_has_shots_and_queries_samples_with_numbers(dtype):
    split = open_source("diabetes", replace(REQUEST, dtype=dtype))
    assert (split.inputs, split.outputs, split.targets) == (10, 1, "numbers")
    assert (split.held_out, split.name) == ("images", "diabetes")
    assert split.description == (
        "diabetes: 442 samples, 10 inputs, 1 target; 110 samples held out, 332 for meta-training; "
        "inputs and target standardised"
    )
    for side in (split.train, split.test):
        batch = side.sample(5, seeded())
        assert (batch.support_x.shape, batch.support_y.shape) == ((5, 12, 10), (5, 12, 1))
        assert (batch.query_x.shape, batch.query_y.shape) == ((5, 7, 10), (5, 7, 1))
        assert {x.dtype for x in (*batch.support, *batch.query) if x is not None} == {dtype}


def test_the_targets_belong_to_the_inputs():
    split = open_source("diabetes", REQUEST)
    seen = split.train.members
    inputs = (MEASURED - MEASURED[seen].mean(0)) / MEASURED[seen].std(0, correction=0)
    targets = (PROGRESSION - PROGRESSION[seen].mean()) / PROGRESSION[seen].std(correction=0)
    for side in (split.train, split.test):
        batch = side.sample(4, seeded())
        for part in (batch.support, batch.query):
            distance, nearest = torch.cdist(part.input.flatten(0, 1), inputs).min(1)
            assert distance.max() < 1e-6
            assert_close(part.target.flatten(), targets[nearest], 1e-12)


def test_each_sample_is_drawn_at_most_once_a_task_and_sides_share_none():
    split = open_source("diabetes", REQUEST)
    both = []
    for side in (split.train, split.test):
        batch = side.sample(60, seeded())
        for episode in range(60):
            assert len(set(rows(batch.select(slice(episode, episode + 1))))) == 19
        both.append(set(rows(batch)))
    assert not both[0] & both[1]
    # Every sample that may be drawn is drawn at least once.
    assert len(both[0] | both[1]) > 400


def test_support_and_queries_are_drawn_uniformly():
    source = from_tensors(torch.arange(40.0)[:, None] / 40, torch.arange(40.0) / 40)
    batch = source.split(EpisodeRequest(shots=3, queries=2)).train.sample(6000, seeded())
    for part, each in ((batch.support_y, 3), (batch.query_y, 2)):
        counts = torch.bincount((part * 40).round().long().flatten(), minlength=40)
        counts = counts[counts > 0].double()
        assert len(counts) == 30
        sigma = (6000 * each / 30) ** 0.5
        assert ((counts - 6000 * each / 30).abs() < 5 * sigma).all()


def test_scaling_looks_at_meta_training_only():
    source = from_tensors(MEASURED, PROGRESSION, scale="standard", target_scale="standard")
    split = source.split(REQUEST)
    seen = split.train.pool.targets[split.train.members]
    assert_close(seen.mean(0), torch.zeros(1).double(), 1e-12)
    assert_close(seen.std(0, correction=0), torch.ones(1).double(), 1e-12)
    # The held-out samples do not affect the scaling, whatever they are.
    held_out = split.test.members
    inputs, targets = MEASURED.clone(), PROGRESSION.clone()
    inputs[held_out], targets[held_out] = 5e4, 1e6
    changed = from_tensors(inputs, targets, scale="standard", target_scale="standard")
    again = changed.split(REQUEST)
    assert rows(again.train.sample(5, seeded())) == rows(split.train.sample(5, seeded()))
    assert rows(again.test.sample(5, seeded())) != rows(split.test.sample(5, seeded()))
    # The registered source does the same.
    assert torch.equal(
        open_source("diabetes", REQUEST).train.pool.targets, split.train.pool.targets
    )


def test_the_seed_decides_the_split_and_the_generator_the_tasks():
    first, again, other = (
        open_source("diabetes", replace(REQUEST, seed=seed)).test for seed in (1, 1, 5)
    )
    assert rows(first.sample(3, seeded(2))) == rows(again.sample(3, seeded(2)))
    assert rows(first.sample(3, seeded(2))) != rows(first.sample(3, seeded(3)))
    assert set(first.members.tolist()) != set(other.members.tolist())
    assert first.digest() == again.digest() != other.digest()


def test_inputs_and_targets_are_in_a_usual_range():
    stream = open_stream("diabetes", StreamRequest()).final.sample(20, 20, seeded())
    split = open_source("diabetes", REQUEST).train.sample(2, seeded())
    for batch in (stream, split):
        for numbers in (batch.support_x, batch.support_y, batch.query_x, batch.query_y):
            assert far_range(numbers) is None
    assert far_range(MEASURED) is not None
    assert far_range(PROGRESSION) is not None


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"ways": 3}, "--ways 3 means nothing"),
        ({"labels": "remapped"}, "cannot be remapped; give --labels global"),
        ({"held_out": "classes"}, "--held-out classes means nothing"),
        ({"shots": 220}, "442 samples, but --shots 220 and --queries 7 take 227 for meta-training"),
        ({"argument": "x"}, "takes nothing after a colon"),
    ],
)
def test_requests_that_do_not_fit_are_refused(changes, sentence):
    changes = dict(changes)
    argument = changes.pop("argument", "")
    request = EpisodeRequest(**{**vars(REQUEST), **changes})
    name = f"diabetes:{argument}" if argument else "diabetes"
    assert sentence in refusal(open_source, name, request)


def test_the_default_sizes_fit():
    source, _ = get_source("diabetes")
    batch = source.split(EpisodeRequest(shots=source.shots)).test.sample(3, seeded())
    assert (batch.steps, batch.query_x.shape[1]) == (source.shots, 10)
    assert EpisodeRequest(ways=3, shots=2, queries=4).sizes("classes") == (6, 12)
    assert EpisodeRequest(shots=2, queries=4).sizes("numbers") == (2, 4)


# --- streams ---


def test_a_stream_has_halves_that_share_no_sample():
    split = open_stream("diabetes", StreamRequest(dtype=torch.float64))
    assert (split.inputs, split.outputs, split.targets, split.images) == (10, 1, "numbers", 166)
    assert split.description.startswith("diabetes: 442 samples, 10 inputs, 1 target; 166 samples")
    found = []
    for half in (split.tuning, split.final):
        batch = half.sample(len(half.train), 1000, seeded())
        assert batch.support_y.shape == (1, len(half.train), 1)
        assert len(set(rows(batch))) == len(half.train) + len(half.test)
        found.append(set(rows(batch)))
    assert not found[0] & found[1]
    assert len(found[0] | found[1]) == 442
    assert "--ways 2 means nothing" in refusal(open_stream, "diabetes", StreamRequest(ways=2))


def test_a_stream_keeps_each_target_with_its_inputs():
    split = from_tensors(INPUTS, TWO).stream(StreamRequest(dtype=torch.float64))
    known = {(*x, *y) for x, y in zip(INPUTS.tolist(), TWO.tolist(), strict=True)}
    assert set(rows(split.tuning.sample(50, 9, seeded()))) <= known


def test_a_stream_is_scaled_by_what_rates_are_found_with():
    options = {"scale": "standard", "target_scale": "standard"}
    first = from_tensors(MEASURED, PROGRESSION, **options).stream(StreamRequest())
    inputs, targets = MEASURED.clone(), PROGRESSION.clone()
    for held_out in (first.final.train, first.final.test, first.tuning.test):
        inputs[held_out], targets[held_out] = 5e4, 1e6
    second = from_tensors(inputs, targets, **options).stream(StreamRequest())
    draws = [stream.tuning.sample(9, 1, seeded()) for stream in (first, second)]
    assert torch.equal(draws[0].support_x, draws[1].support_x)
    assert torch.equal(draws[0].support_y, draws[1].support_y)


def test_a_stream_of_too_few_samples_is_refused():
    source = from_tensors(INPUTS[:3], ONE[:3])
    assert "has 3 samples, but a stream needs at least 4" in refusal(source.stream, StreamRequest())


# --- a user's own arrays ---


def drawn(source, request=REQUEST):
    return source.split(request).train.sample(6, seeded())


KINDS = {
    "tensor": ONE,
    "column": ONE[:, None],
    "requires grad": ONE.clone().requires_grad_(),
    "array": ONE.numpy(),
    "list": ONE.tolist(),
    "series": pd.Series(ONE.numpy()),
    "nullable series": pd.Series(ONE.numpy(), dtype="Float64"),
    "data frame": pd.DataFrame({"y": ONE.numpy()}),
    "objects": ONE.numpy().astype(object),
    "long double": ONE.numpy().astype(np.longdouble),
    "big endian": ONE.numpy().astype(">f8"),
}


@pytest.mark.parametrize("targets", KINDS.values(), ids=KINDS.keys())
def test_targets_of_every_kind_are_the_same_data(targets):
    got, expected = drawn(from_tensors(INPUTS, targets)), drawn(from_tensors(INPUTS, ONE))
    assert rows(got) == rows(expected)
    assert set(rows(got)) <= {(*x, y) for x, y in zip(INPUTS.tolist(), ONE.tolist(), strict=True)}


@pytest.mark.parametrize("targets", [TWO, TWO.numpy(), pd.DataFrame(TWO.numpy()), TWO.tolist()])
def test_vectors_are_learned_as_vectors(targets):
    split = from_tensors(INPUTS, targets, name="mine").split(REQUEST)
    assert (split.outputs, split.targets) == (2, "numbers")
    assert split.description.startswith("mine: 80 samples, 3 inputs, 2 targets; 20 samples held")
    known = {(*x, *y) for x, y in zip(INPUTS.tolist(), TWO.tolist(), strict=True)}
    assert set(rows(split.train.sample(6, seeded()))) <= known


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_floating_point_type_is_accepted(dtype):
    targets = (torch.arange(80) % 7 / 8).to(dtype)
    batch = drawn(from_tensors(INPUTS, targets))
    assert batch.support_y.dtype == torch.float64
    assert set(batch.support_y.flatten().tolist()) <= {k / 8 for k in range(7)}


@pytest.mark.parametrize("target", [ONE, TWO, ONE[:, None]])
def test_a_dataset_equals_its_tensors(target):
    pairs = [(x, y) for x, y in zip(INPUTS, target, strict=True)]
    assert rows(drawn(from_dataset(pairs))) == rows(drawn(from_tensors(INPUTS, target)))
    plain = [(x.numpy(), y.numpy().tolist()) for x, y in pairs]
    assert rows(drawn(from_dataset(plain))) == rows(drawn(from_tensors(INPUTS, target)))


def test_data_are_copied():
    inputs, targets = INPUTS.clone(), TWO.clone()
    source = from_tensors(inputs, targets)
    inputs[:], targets[:] = 0.5, 0.5
    assert rows(drawn(source)) == rows(drawn(from_tensors(INPUTS, TWO)))


def test_targets_far_from_0_to_1_are_warned_of():
    with pytest.warns(UserWarning, match="targets are from 25 to 346, far from") as caught:
        from_tensors(MEASURED, PROGRESSION, scale="standard")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "target_scale='standard'" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = from_tensors(MEASURED, PROGRESSION, scale="standard", target_scale="none")
    assert set(drawn(kept).support_y.flatten().tolist()) <= set(PROGRESSION.tolist())


def test_each_output_has_its_own_scale():
    targets = TWO * torch.tensor([100.0, 0.001]) + 7
    split = from_tensors(INPUTS, targets, target_scale="columns").split(REQUEST)
    seen = split.train.pool.targets[split.train.members]
    assert seen.amin(0).tolist() == [0, 0]
    assert seen.amax(0).tolist() == [1, 1]
    assert "target scale columns" in split.description


@pytest.mark.parametrize(
    ("labels", "options", "sentence"),
    [
        (ONE, {"held_out_classes": [1]}, "no classes, so held_out_classes means nothing"),
        (ONE, {"target_scale": "minmax"}, "target_scale must be auto or none or unit"),
        (torch.arange(80) % 4, {"target_scale": "standard"}, "has classes as targets"),
        (TWO[None], {}, r"got shapes (80, 3) and (1, 80, 2)"),
        (TWO[:, :0], {}, "got shapes (80, 3) and (80, 0)"),
        (ONE + 0j, {}, "real numbers"),
    ],
)
def test_what_does_not_fit_is_refused(labels, options, sentence):
    assert sentence in refusal(from_tensors, INPUTS, labels, **options)


def test_own_data_are_recorded_with_their_targets():
    def record(targets, request=REQUEST):
        split = from_tensors(INPUTS, targets, name="mine").split(request)
        return OwnData.of(split, torch.device("cpu"))

    first = record(TWO)
    assert (first.support, first.queries, first.outputs) == (12, 7, 2)
    assert "80 samples, 3 inputs, 2 targets" in first.line
    # The same numbers of another type are the same data; another number is not.
    rounded = replace(REQUEST, dtype=torch.float32)
    assert record(TWO, rounded).digest == record(TWO.float().numpy(), rounded).digest
    split = from_tensors(INPUTS, TWO).split(REQUEST)
    for side, said in (("train", "other meta-training"), ("test", "other held-out")):
        changed = TWO.clone()
        changed[getattr(split, side).members[3], 1] += 1e-9
        assert record(changed).differences(first) == [f"{said} images or labels"]
    assert record(ONE).digest != first.digest


def test_samplers_are_pickled():
    sampler = from_tensors(INPUTS, TWO).split(REQUEST).train
    again = pickle.loads(pickle.dumps(sampler))
    assert rows(again.sample(3, seeded())) == rows(sampler.sample(3, seeded()))
    assert again.digest() == sampler.digest()


# --- batches of numbers ---


def test_batches_keep_numbers_as_numbers():
    batch = drawn(from_tensors(INPUTS, TWO))
    single = batch.to(torch.float32)
    assert single.support_y.dtype == single.query_y.dtype == torch.float32
    both = EpisodeBatch.cat([batch, batch.select(slice(0, 2))])
    assert both.support_y.shape == (8, 12, 2)
    assert torch.equal(both.query_y[6:], batch.query_y[:2])
    assert batch_digest(batch) != batch_digest(replace(batch, query_y=batch.query_y + 1e-6))
    assert batch.example(3).target.shape == (6, 2)


def test_numbers_without_an_axis_for_outputs_are_refused_with_a_mend():
    batch = drawn(from_tensors(INPUTS, ONE))
    said = refusal(replace, batch, support_y=batch.support_y[..., 0])
    assert "give numbers to learn as vectors [episode, query, output]" in said


def test_targets_of_another_precision_are_converted():
    batch, system = drawn(from_tensors(INPUTS, TWO)), stack(3, 2)
    learner, theta = Learner(system, named("error_hebbian")), torch.tensor([0.1]).double()
    state = learner.draw(6, seeded(), torch.float64)
    mixed = replace(batch, support_y=batch.support_y.float())
    problem = Problem(learner, theta, state, mixed)
    assert problem.episodes.support_y.dtype == torch.float64


# --- data and objective ---


@pytest.mark.parametrize(
    ("data", "objective", "sentence"),
    [
        ("digits", "mse", "mse learns numbers, but digits has classes as targets; choose"),
        (
            "diabetes",
            "cross-entropy",
            "learns classes, but diabetes has numbers as targets",
        ),
        ("planted:bio@digits", "mse", "but digits has classes as targets"),
        ("planted:bio@diabetes", "cross-entropy", "but diabetes has numbers as targets"),
    ],
)
def test_data_of_the_other_kind_are_refused(data, objective, sentence):
    split = open_source(data, EpisodeRequest(shots=5, queries=5))
    other = {"mse": "cross-entropy", "cross-entropy": "mse"}[objective]
    said = refusal(split.bind, stack(split.inputs, split.outputs, objective))
    assert sentence in said
    assert f"choose --objective {other}" in said
    require_targets(split, get_objective(other))


def test_streams_and_own_data_of_the_other_kind_are_refused():
    objectives = get_objective("mse"), get_objective("cross-entropy")
    for name, objective in zip(("digits", "diabetes"), objectives, strict=True):
        stream = open_stream(name, StreamRequest())
        assert f"but {name} has" in refusal(require_targets, stream, objective)
    whole = from_tensors(INPUTS, (torch.arange(80) % 5) / 1.0, target_scale="none", name="mine")
    said = refusal(require_targets, whole.split(REQUEST), objectives[1])
    assert "but mine has numbers as targets" in said
    assert "classes are whole numbers, as from y.long() or y.astype(int)" in said
    mine = EpisodeSplit(Clouds(), Clouds(), "images", 6, 3, "clouds")
    assert "EpisodeSplit(…, targets='numbers')" in refusal(require_targets, mine, objectives[0])
    require_targets(replace(mine, targets="numbers"), objectives[0])


def test_an_objective_takes_the_kind_that_it_names():
    given = {"classes": torch.zeros(2, 5).long(), "numbers": torch.rand(2, 5, 3) - 3}
    assert {each.target_kind for each in all_objectives().values()} >= set(given)
    for objective in all_objectives().values():
        for kind, targets in given.items():
            if kind == objective.target_kind:
                objective.targets(targets, (2, 5), 3)
            elif objective.target_kind is not None:
                refusal(objective.targets, targets, (2, 5), 3)


# --- learning ---


def online_score(rate):
    """Return the query −MSE of backprop on held-out samples, a mean over tasks."""
    split = open_source("diabetes", EpisodeRequest(shots=100, queries=10)).bind(stack(10, 1))
    learner = Learner(stack(10, 1), named("error_hebbian"))
    batch = split.test.sample(60, seeded())
    state = learner.draw(60, seeded(1), torch.float32)
    problem = Problem(learner, torch.tensor([rate]), state, batch)
    return float(get_engine("batched").run(problem, gradient=False).score.mean())


def test_backprop_learns_online_nearly_as_well_as_least_squares():
    split = open_source("diabetes", REQUEST)
    pool, train, test = split.train.pool, split.train.members, split.test.members
    x, y = pool.images.numpy(), pool.targets[:, 0].numpy()
    best = LinearRegression().fit(x[train], y[train])
    least = -float(((best.predict(x[test]) - y[test]) ** 2).mean())
    assert online_score(0.0) < -1
    assert least - 0.15 < online_score(0.01) < least + 0.05


@pytest.mark.parametrize("rule", ["F0=0.02,F9=0.01", "error_hebbian"])
def test_a_planted_rule_is_the_least_of_the_loss(rule):
    system = stack(10, 1, hidden=(7,))
    split = open_source(f"planted:{rule}@diabetes", REQUEST).bind(system)
    assert split.targets == "numbers"
    batch = split.test.sample(3, seeded())
    assert batch.query_y.shape == (3, 7, 1)
    assert batch.support_y.shape == (3, 12, 1)
    learner = Learner(system, split.planted.terms)
    theta = split.planted.tensor(torch.float64)
    outcome = get_engine("batched").run(Problem(learner, theta, batch.initial, batch))
    assert outcome.loss.max() < 1e-20
    assert outcome.theta_gradient.abs().max() < 1e-10
    worse = Problem(learner, 1.1 * theta, batch.initial, batch)
    assert (get_engine("batched").run(worse, gradient=False).loss > 1e-8).all()


@pytest.mark.parametrize("scale", ["auto", "none", "standard", "columns"])
def test_targets_that_never_vary_are_named(scale):
    with pytest.warns(UserWarning, match="output 1 is always 0.5, so there is nothing to learn"):
        from_tensors(INPUTS, torch.stack([ONE, torch.full_like(ONE, 0.5)], 1), target_scale=scale)


def test_text_among_numbers_is_refused():
    assert "all text" in refusal(from_tensors, INPUTS, [1.5, "a"] * 40)
    assert "all text" in refusal(from_tensors, INPUTS, ("a", 1) * 40)


def test_a_single_sample_is_too_few():
    source = from_tensors(INPUTS[:1], ONE[:1])
    assert "has 1 samples" in (sentence := refusal(source.split, REQUEST))
    assert sentence.endswith("; give at least 4.")
