"""The fused simulation computes what a plain loop does, survives what explodes, and resumes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import paths_in, refusal, with_value, without

from metaplast.base.checkpoint import load_checkpoint, save_checkpoint
from metaplast.reservoirs.algorithm import Algorithm, published, repaired
from metaplast.reservoirs.lanes import Lane
from metaplast.reservoirs.mastery import PENDING, InverseCorrelation
from metaplast.reservoirs.network import Dynamics, Noise, Schedule, draw
from metaplast.reservoirs.plain_loop import run_plainly, step_by_step
from metaplast.reservoirs.simulation import CHECKPOINT, Simulation
from metaplast.reservoirs.targets import butterfly
from metaplast.reservoirs.tasks import PEN, Task, get_task
from metaplast.reservoirs.vector_tanh import entry_point, tanh_of

DYNAMICS = Dynamics(7, 0.5, time_step=1.0)
SCHEDULE = Schedule(period=20, training=3, test=3, lag=2, mastery_every=4)
TARGET = butterfly(20)
ARM, ARM3 = get_task("arm:2"), get_task("arm:3")
COSTS = (0.1, 0.05, 0.02)


def open_gate(algorithm):
    """Return an algorithm whose gate opens and closes at these errors, and which learns faster."""
    return replace(algorithm, threshold=3.0, exploration_rate=4 * algorithm.exploration_rate)


LANES = [
    Lane("force", PEN, published("force", PEN)),
    Lane("rmhl", PEN, published("rmhl", PEN)),
    Lane("supertrex", PEN, open_gate(published("supertrex", PEN))),
    Lane("arm", ARM, open_gate(published("supertrex", ARM))),
    Lane("arm, rmhl", ARM, published("rmhl", ARM)),
    Lane("costs", ARM3, open_gate(published("supertrex", ARM3, COSTS))),
    Lane("costs, rmhl", ARM3, published("rmhl", ARM3, COSTS)),
    Lane("repaired", ARM3, open_gate(repaired(ARM3, COSTS))),
]


def simulate(lanes=LANES, **options):
    return Simulation(lanes, TARGET, DYNAMICS, SCHEDULE, seed=3, **options)


@pytest.fixture(scope="module")
def finished():
    simulation = simulate()
    return simulation, simulation.run()


def plainly(lane):
    noise = step_by_step(Noise(DYNAMICS, 3, 3, 6))
    network = draw(DYNAMICS, 3, 3)
    return run_plainly(lane.task, lane.algorithm, TARGET, DYNAMICS, SCHEDULE, network, noise)


@pytest.mark.parametrize("index", range(len(LANES)), ids=[lane.name for lane in LANES])
def test_every_lane_is_a_plain_loop(finished, index):
    simulation, runs = finished
    run, plain = runs[index], plainly(LANES[index])

    def close(actual, expected):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)

    close(run.exploration, plain.exploration)
    close(run.mastery, plain.mastery)
    close(run.position, plain.position[run.drawn_at.astype(int) - 1])
    close(run.distance, plain.distance[run.at.astype(int) - 1])
    tested = plain.distance[SCHEDULE.learning :]
    close(run.deviation, tested.mean())
    close(run.spread, tested.std())
    close(run.mastery_norm[-1], np.linalg.norm(plain.mastery, 2))
    how = LANES[index].algorithm
    if how.masters:
        close(simulation.inverses[index].dense(), plain.inverse)
        close(run.open_share, (plain.gate > 0).mean())
        assert np.abs(plain.mastery).max() > 1e-6
    if how.explores:
        assert np.abs(plain.exploration).max() > 1e-8


def test_a_gate_that_opens_and_closes_was_tested(finished):
    shares = [run.open_share for run in finished[1] if run.lane.algorithm.threshold == 3.0]
    assert any(0 < share < 1 for share in shares)


def test_an_interrupted_simulation_continues_to_the_same_digits(finished, tmp_path):
    seen = []

    class Stop(Exception):
        pass

    def stop(done, of):
        seen.append((done, of))
        if done == 2 * SCHEDULE.period + 4:
            raise Stop

    with pytest.raises(Stop):
        simulate().run(observe=stop, folder=tmp_path)
    continued = simulate()
    steps = []
    runs = continued.run(observe=lambda done, of: steps.append(done), folder=tmp_path)
    # It begins after the last whole period, and shows how far it is.
    assert steps[0] == 2 * SCHEDULE.period + 4
    assert seen[0] == (4, SCHEDULE.steps)
    assert steps[-1] == SCHEDULE.steps
    for one, other in zip(runs, finished[1], strict=True):
        np.testing.assert_array_equal(one.distance, other.distance)
        np.testing.assert_array_equal(one.mastery, other.mastery)
        assert one.deviation == other.deviation
        assert one.open_share == other.open_share
    other = Simulation(LANES[:5], TARGET, DYNAMICS, SCHEDULE, seed=3)
    assert "belongs to a simulation with other settings" in refusal(
        other.load, tmp_path / CHECKPOINT
    )


def test_a_damaged_checkpoint_is_refused_and_changes_nothing(tmp_path):
    lanes = LANES[2:3]
    path, begun = tmp_path / CHECKPOINT, simulate(lanes)
    begun.save(path)
    good = load_checkpoint(path)
    wrong = [None, "x", -1, 2.5, True, [], {}, torch.zeros(2), math.inf]
    paths = [p for p in paths_in(good) if p[0] != "of"]
    assert len(paths) > 20
    spoiled = [with_value(good, path, value) for path in paths for value in wrong]
    spoiled += [without(good, path) for path in paths]
    spoiled += [with_value(good, ("counts", "0"), PENDING), with_value(good, ("step",), 7)]
    for data in spoiled:
        save_checkpoint(path, data)
        assert "is a damaged checkpoint" in refusal(begun.load, path)
        assert begun.step == 0
    for value in wrong:
        save_checkpoint(path, with_value(good, ("of", "seed"), value))
        assert "other settings" in refusal(begun.load, path)


def test_what_explodes_is_named_and_the_others_go_on(finished):
    wild = replace(published("supertrex", ARM), exploration_rate=1e300, noise_size=1e150)
    lanes = [*LANES[:4], Lane("wild", ARM, wild), *LANES[5:]]
    runs = simulate(lanes).run()
    assert runs[4].diverged_at == 4
    assert np.isnan(runs[4].deviation)
    for i in (0, 1, 2, 3, 5, 6, 7):
        assert runs[i].diverged_at is None
        assert runs[i].deviation == finished[1][i].deviation


def test_updates_of_p_that_wait_are_those_that_are_made():
    random = np.random.default_rng(0)
    fast, slow = InverseCorrelation(4), np.eye(4) / 10
    for _ in range(2 * PENDING + 3):
        r = random.standard_normal(4)
        k = slow @ r
        np.testing.assert_allclose(fast.product(r), k, rtol=0, atol=1e-14)
        c = 0.7 / (1 + r @ k)
        fast.subtract(fast.product(r), c)
        slow = slow - c * np.outer(k, k)
    np.testing.assert_allclose(fast.dense(), slow, rtol=0, atol=1e-14)


def test_tanh_is_that_of_numpy():
    x = np.concatenate([np.linspace(-30, 30, 6001), [0.0, 1e-9, -1e-300, np.inf, -np.inf, 1e300]])
    found = np.empty_like(x)

    def call(x, found):
        tanh_of(x, found)

    call = entry_point(call)
    call(x, found)
    np.testing.assert_allclose(found, np.tanh(x), rtol=0, atol=4e-16)
    call(np.array([np.nan]), found)
    assert np.isnan(found[0])


def test_noise_and_reservoirs_do_not_depend_on_blocks_or_outputs():
    few, many = draw(DYNAMICS, 2, 5), draw(DYNAMICS, 3, 5)
    assert (few.feedback == many.feedback[:, :2]).all()
    assert (few.dense() == many.dense()).all()
    one, other = (step_by_step(Noise(DYNAMICS, k, 5, block)) for k, block in ((2, 3), (3, 7)))
    for _ in range(9):
        (rates, outputs), (same_rates, more) = next(one), next(other)
        assert (rates == same_rates).all()
        assert (outputs == more[:2]).all()
    assert (draw(DYNAMICS, 2, 6).start != few.start).any()


def test_a_reservoir_has_the_published_statistics():
    network = draw(Dynamics(400), 3, 0)
    J = network.dense()
    assert abs((J != 0).mean() - 0.1) < 0.005
    assert abs(J[J != 0].std() / (1.5 / np.sqrt(0.1 * 400)) - 1) < 0.02
    assert abs(np.abs(np.linalg.eigvals(J)).max() - 1.5) < 0.15
    for part, limit in ((network.feedback, 1.0), (network.start, 0.5)):
        assert 0.95 * limit < np.abs(part).max() <= limit


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (lambda: Dynamics(0), "neurons must be at least 1"),
        (lambda: Dynamics(density=0.0), "density must be in (0, 1]"),
        (lambda: Dynamics(time_step=11.0), "time_step must be positive"),
        (lambda: Dynamics(time_constant=math.inf), "and both finite"),
        (lambda: Dynamics(gain=math.nan), "gain must be a finite number"),
        (lambda: Dynamics(noise=math.inf), "noise must be a finite number of at least 0"),
        (lambda: Dynamics(noise=-1.0), "noise must be a finite number of at least 0"),
        (lambda: Task(("long", 1.0)), "the lengths of an arm must be positive"),
        (lambda: Schedule(period=45), "period must be a multiple of mastery_every"),
        (lambda: Schedule(lag=11), "lag must be at most the 10 periods"),
        (lambda: Algorithm("nothing", 0.0, 0.0), "nothing learns"),
        (
            lambda: Algorithm("wild", float("nan")),
            "exploration_rate must be a number of at least 0",
        ),
        (lambda: Algorithm("both", supervised=True), "exploration_rate 0"),
        (lambda: Algorithm("long", memory=1.0), "memory must be below 1"),
        (lambda: published("force", ARM), "force learns from the target output"),
        (lambda: published("adam", PEN), "unknown algorithm 'adam'"),
        (lambda: published("rmhl", ARM, (0.1,)), "needs as many costs, not 1"),
        (lambda: Simulation([], TARGET), "at least one lane"),
        (lambda: Simulation(LANES, TARGET), "the target must have 50000 points"),
        (
            lambda: simulate([Lane("short", Task((1.0, 0.5)), published("rmhl", ARM))]),
            "reaches 1.5 from its shoulder",
        ),
    ],
)
def test_a_mistake_is_told_in_one_sentence(wrong, sentence):
    assert sentence in refusal(wrong)
