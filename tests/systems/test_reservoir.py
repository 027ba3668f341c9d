"""The system `reservoir` learns step by step what the plain loop of its algorithm computes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import assert_close, named, refusal, seeded

from metaplast import unroll
from metaplast.reservoirs.algorithm import published, repaired
from metaplast.reservoirs.network import Dynamics, Noise, Schedule, draw
from metaplast.reservoirs.plain_loop import run_plainly, step_by_step
from metaplast.reservoirs.targets import butterfly
from metaplast.reservoirs.tasks import PEN, get_task
from metaplast.systems.learner import Learner
from metaplast.systems.reservoir import Reservoir
from metaplast.systems.state import View
from metaplast.systems.system import Examples
from metaplast.tasks.drawing import drawing_batch

DYNAMICS = Dynamics(6, 0.5, time_step=1.0)
SCHEDULE = Schedule(period=12, training=2, test=2, lag=2, mastery_every=4)
ARM, ARM3 = get_task("arm:2"), get_task("arm:3")
COSTS = (0.1, 0.05, 0.02)
CASES = {
    "force": (PEN, published("force", PEN)),
    "rmhl": (PEN, published("rmhl", PEN)),
    "supertrex": (PEN, replace(published("supertrex", PEN), threshold=0.4)),
    "arm": (ARM, replace(published("supertrex", ARM), threshold=3.0)),
    "costs": (ARM3, replace(published("supertrex", ARM3, COSTS), threshold=9.0)),
    "repaired": (ARM3, replace(repaired(ARM3, COSTS), threshold=9.0)),
}


def learned(task, algorithm):
    """Return the system, its state after learning, and all outputs z of learning."""
    system = Reservoir(task, algorithm, DYNAMICS, SCHEDULE.mastery_every)
    network, target = draw(DYNAMICS, task.outputs, 1), butterfly(SCHEDULE.period)
    parts = (network.dense(), network.feedback, network.start)
    state = system.start(*(torch.from_numpy(part)[None] for part in parts))
    rates = {"exploration": algorithm.exploration_rate, "mastery": algorithm.mastery_rate}
    names = {"exploration": "node_perturbation", "mastery": "recursive_least_squares"}
    learner = Learner(system, named(*(names[site] for site in system.sites)))
    rows = [[rates[site] for site in system.sites]] * learner.sites
    theta = torch.tensor([rows], dtype=torch.float64)
    noise, outputs = step_by_step(Noise(DYNAMICS, task.outputs, 1, 5)), []
    for step in range(SCHEDULE.learning):
        of_rates, of_outputs = next(noise)
        both = np.concatenate([of_rates / DYNAMICS.noise, of_outputs])
        example = Examples(
            torch.zeros(1, task.outputs).double(),
            torch.from_numpy(target[step % SCHEDULE.period])[None],
            torch.from_numpy(both)[None],
        )
        state = learner.step(state, theta, example)
        outputs.append(state.carry["z"])
    return learner, state, torch.stack(outputs, 1)


@pytest.mark.parametrize("case", CASES)
def test_learning_step_by_step_is_the_plain_loop(case):
    task, algorithm = CASES[case]
    network, target = draw(DYNAMICS, task.outputs, 1), butterfly(SCHEDULE.period)
    noise = step_by_step(Noise(DYNAMICS, task.outputs, 1, 5))
    plain = run_plainly(task, algorithm, target, DYNAMICS, SCHEDULE, network, noise)
    learner, state, z = learned(task, algorithm)
    for name in learner.system.sites:
        expected = torch.from_numpy(getattr(plain, name))[None]
        assert expected.abs().max() > 1e-8
        assert_close(state.matrices[name], expected, 1e-12)
    if algorithm.masters:
        assert_close(state.matrices["P"], torch.from_numpy(plain.inverse)[None], 1e-12)
        assert plain.gate.max() > 0
    # The test: the last two periods, with what is fed back as input.
    wanted = torch.from_numpy(target).repeat(SCHEDULE.test, 1)[None]
    fed = z[:, -SCHEDULE.lag * SCHEDULE.period :] if task.is_arm else wanted
    positions = learner.system.output(View.of(state), fed)
    assert_close(positions, torch.from_numpy(plain.position[SCHEDULE.learning :])[None], 1e-12)
    loss, score = learner.query(state, Examples(fed, wanted))
    distance = (positions - wanted).square().sum(-1).mean(-1)
    assert_close(loss, distance / 2, 1e-12)
    assert_close(score, -distance / 2, 1e-12)


def test_exploration_follows_the_reward():
    """A step with a smaller error than usual moves the output as its noise did."""
    learner, state, _ = learned(*CASES["supertrex"])
    system = learner.system
    noise = system.noise(1, 1, seeded(3), torch.float64)[:, 0]
    free = Examples(torch.zeros(1, 2).double(), torch.zeros(1, 2).double(), noise)
    target = system.present(View.of(state), free, learner.reads).carry["z"]
    lucky = system.present(View.of(state), free._replace(target=target), learner.reads)
    far = system.present(View.of(state), free._replace(target=target + 9), learner.reads)
    found = [each.synapses["exploration"].scalars["reward"] for each in (lucky, far)]
    usual = float(state.carry["error_mean"])
    assert math.isclose(float(found[0]), 5 * (0.8 * usual) ** 0.25, rel_tol=1e-9)
    assert float(found[1]) == 0.0


def test_a_fresh_reservoir_is_drawn_as_published():
    system = Reservoir(dynamics=Dynamics(200))
    state = system.draw(2, seeded(), torch.float64)
    J = state.matrices["J"]
    assert abs(float((J != 0).double().mean()) - 0.1) < 0.01
    assert abs(float(J[J != 0].std()) / (1.5 / math.sqrt(20)) - 1) < 0.05
    assert not state.matrices["mastery"].any()
    assert_close(state.matrices["P"][0], torch.eye(200).double() / 10)
    assert state.matrices["Q"].abs().max() <= 1
    assert state.carry["x"].abs().max() <= 0.5
    noise = system.noise(2, 3, seeded(), torch.float64)
    assert noise.shape == (2, 3, 202)
    assert noise.abs().max() <= 1
    assert noise.std() > 0.5


def test_readouts_are_those_that_the_algorithm_has():
    names = {case: Reservoir(*CASES[case], DYNAMICS).sites for case in ("force", "rmhl", "arm")}
    assert names == {
        "force": ("mastery",), "rmhl": ("exploration",), "arm": ("exploration", "mastery"),
    }  # fmt: skip
    rmhl = Reservoir(*CASES["rmhl"], DYNAMICS)
    assert "P" not in rmhl.shapes
    text = refusal(Learner, rmhl, named("recursive_least_squares"))
    assert 'scalar("consolidation")' in text
    spec = Reservoir(*CASES["costs"], DYNAMICS).spec()
    assert spec["task"] == "arm:3"
    assert spec["algorithm"]["costs"] == COSTS


def test_costs_must_fit_the_task():
    text = refusal(Reservoir, ARM, published("supertrex", ARM3, COSTS))
    assert "arm:2 has 2 outputs, so it needs as many costs, not 3" in text
    assert "mastery_every" in refusal(Reservoir, mastery_every=0)


def test_a_rule_learns_to_draw_in_episodes():
    """An unroll of the published coefficients is the plain loop, and its gradient is exact."""
    system = Reservoir(PEN, CASES["supertrex"][1], DYNAMICS, 4)
    terms = named("node_perturbation", "recursive_least_squares")
    learner = Learner(system, terms)
    target = butterfly(12)
    batch = drawing_batch(system, target, 2, 16, 5, seeded(1), torch.float64)
    state = learner.draw(2, seeded(2), torch.float64)
    theta = torch.tensor([5e-4, 0.5], dtype=torch.float64)
    found = unroll(learner, theta, state, batch)
    after = state
    rows = theta.expand(2, 2, 2)
    for step in range(16):
        after = learner.step(after, rows, batch.example(step))
    loss, _ = learner.query(after, batch.query)
    assert_close(found.loss, loss)
    nudged = []
    for sign in (1, -1):
        moved = theta + sign * torch.tensor([0.0, 1e-6])
        nudged.append(unroll(learner, moved, state, batch, gradient=False).loss)
    assert_close(found.theta_gradient[:, 1], (nudged[0] - nudged[1]) / 2e-6, 1e-6)
    assert torch.equal(batch.query_y[0, 0], torch.from_numpy(target[4]))
    arm = Reservoir(ARM, CASES["arm"][1], DYNAMICS)
    fed = drawing_batch(arm, target, 1, 2, 3, seeded(), torch.float64).query_x
    assert fed.shape == (1, 3, 2)
    assert not fed.any()
    assert "steps must be" in refusal(drawing_batch, system, target, 1, 0, 1, seeded())
