"""Outer loops whose coefficients fell short go on in rounds of larger steps."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support import Clouds, named

from metaplast.base.plain_data import DataError
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import Discovery
from metaplast.engines import Outcome
from metaplast.meta.loop_state import read_stages
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.rounds import scheduled, shortfall
from metaplast.meta.settings import OuterSettings
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.tasks.source import EpisodeSplit
from metaplast.terms.coefficients import Coefficients

TERMS = ("error_hebbian", "error_error")
# A coefficient covers at most 40 · 0.02 / 2 = 0.4 in the first round, 0.8 in the next, then 1.6.
SETTINGS = OuterSettings(episodes=40, meta_batch=1, meta_lr=0.02, scaling="none", clip=0.0)
START, FAR, NEAR = 0.5, 2.5, 0.7


class Pull:
    """Stands in for an engine: the loss is Σ|θ − target|."""

    name = "pull"

    def __init__(self, *target):
        self.target = torch.tensor(target, dtype=torch.float64)
        self.firsts = []

    def run(self, problem, *, gradient=True):
        off = (problem.theta - self.target).expand(problem.episodes.episodes, -1)
        self.firsts.append(float(problem.episodes.support_x[0, 0, 0]))
        loss = off.abs().sum(-1)
        return Outcome(loss, torch.ones_like(loss), off.sign(), problem.state)


def loop_of(*target, settings=SETTINGS, **options):
    learner = Learner.on_stack(FullyConnected((6, 5, 3)), "fixed", named(*TERMS))
    theta = Coefficients(TERMS, torch.full((2,), START, dtype=torch.float64))
    engine = Pull(*target)
    # A cold loop takes short steps at first, and so covers less.
    options = {"cold": False, **options}
    return OuterLoop("search", learner, Clouds(), engine, settings, theta, **options), engine


def test_a_loop_goes_on_until_its_coefficients_arrive():
    loop, engine = loop_of(FAR, NEAR, rounds=4)
    loop.run()
    assert loop.progress.step == loop.steps == 3 * 40
    assert loop.theta.tolist() == pytest.approx([FAR, NEAR], abs=0.2)
    assert loop.shortfall is None
    # Every task is new.
    assert len(set(engine.firsts)) == len(engine.firsts) == 120


def test_each_round_has_a_whole_schedule_of_steps_twice_as_large():
    loop, _ = loop_of(99.0, 99.0, rounds=3)
    loop.run()
    values = [record.theta["error_hebbian"][0] for record in loop.progress.history]
    moved = torch.tensor([*values, float(loop.theta[0])], dtype=torch.float64).diff()
    first, second, third = moved.view(3, 40)
    assert float(first[0]) == pytest.approx(0.02, rel=1e-6)
    torch.testing.assert_close(second, 2 * first, rtol=0.02, atol=0)
    torch.testing.assert_close(third, 2 * second, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("target", "changes", "rounds"),
    [
        # All that it can cover is 0.4, of which it needs 0.2.
        (NEAR, {}, 4),
        (FAR, {}, 1),
        # The published loop.
        (FAR, {"schedule": "constant"}, 4),
        # Its steps say nothing about the distance.
        (FAR, {"optimizer": "SGD", "meta_lr": 1e-4}, 4),
        # Only a trial.
        (FAR, {"episodes": 29}, 4),
    ],
)
def test_other_loops_end_after_one_round(target, changes, rounds):
    loop, _ = loop_of(target, NEAR, settings=replace(SETTINGS, **changes), rounds=rounds)
    loop.run()
    assert loop.progress.step == loop.settings.steps


def test_the_last_round_says_what_fell_short():
    loop, _ = loop_of(9.0, NEAR, rounds=2)
    assert loop.shortfall is None
    loop.run_step()
    assert loop.shortfall is None
    loop.run()
    found = loop.shortfall
    assert (found.term, found.step) == ("error_hebbian", 0.04)
    assert found.start == pytest.approx(0.9, abs=0.02)
    assert found.end == pytest.approx(1.7, abs=0.03)


@pytest.mark.parametrize("at", [39, 40, 41, 80, 119, 120])
def test_a_loop_stopped_anywhere_goes_on_bit_for_bit(at):
    whole, _ = loop_of(FAR, NEAR, rounds=4)
    whole.run()
    loop, _ = loop_of(FAR, NEAR, rounds=4)
    for _ in range(at):
        loop.run_step()
    again, _ = loop_of(FAR, NEAR, rounds=4)
    again.restore(loop.state())
    again.run()
    assert again.progress.step == whole.progress.step
    assert torch.equal(again.theta, whole.theta)


def test_a_loop_of_an_earlier_version_stays_with_one_round():
    loop, _ = loop_of(FAR, NEAR, rounds=4)
    for _ in range(40):
        loop.run_step()
    assert not loop.is_done
    state = loop.state()
    assert state.pop("rounds") == 4
    again, _ = loop_of(FAR, NEAR, rounds=4)
    again.restore(state)
    assert again.is_done
    assert again.steps == 40
    one, _ = loop_of(FAR, NEAR, rounds=1)
    assert "rounds" not in one.state()


def test_a_loop_takes_over_the_rounds_of_its_checkpoint():
    loop, _ = loop_of(FAR, NEAR, rounds=4)
    for _ in range(41):
        loop.run_step()
    again, _ = loop_of(FAR, NEAR, rounds=1)
    again.restore(loop.state())
    again.run()
    assert again.steps == 120


@pytest.mark.parametrize("rounds", [0, 1001, 2.0, "2"])
def test_a_checkpoint_with_a_strange_number_of_rounds_is_refused(rounds):
    loop, _ = loop_of(FAR, NEAR, rounds=2)
    state = loop.state() | {"rounds": rounds}
    with pytest.raises(DataError, match="rounds"):
        read_stages({"stages": {"search": state}})


def test_both_step_sizes_of_a_step_belong_to_one_round():
    loop, engine = loop_of(FAR, NEAR, rounds=2, settings=replace(SETTINGS, tau_lr=0.1))
    for _ in range(40):
        loop.run_step()
    # Just beyond the bar; the next step goes back, so that the round would not have fallen short.
    loop._theta.u.data[0] = START + 0.905 * 0.02 * sum(
        scheduled("cosine", k / 40) for k in range(40)
    )
    engine.target = torch.zeros(2, dtype=torch.float64)
    rates = []
    ignored = {
        name: lambda *_, **__: None for name in ("stayed_finite", "logs", "passed", "restore")
    }
    loop.taus = SimpleNamespace(
        update=lambda outcome, finite, rate: rates.append(rate), state=dict, named={}, **ignored
    )
    assert loop.round == 1
    loop.run_step()
    assert rates == [pytest.approx(2 * 0.1)]


@pytest.mark.parametrize(
    ("end", "shrunk", "falls_short"),
    [
        (0.1, False, True),
        (0.1, True, False),
        (0.9, True, True),
        (-0.9, True, True),
        # Shrinking does not change a sign.
        (-0.45, True, True),
    ],
)
def test_coming_nearer_to_zero_says_nothing_if_coefficients_shrank(end, shrunk, falls_short):
    names = ("error_hebbian",)
    values = Coefficients(names, torch.tensor([end], dtype=torch.float64))
    units = Coefficients(names, torch.ones(1, dtype=torch.float64))
    found = shortfall(
        SETTINGS, 0, {"error_hebbian": [0.5]}, values, units, cold=False, shrunk=shrunk
    )
    assert (found is not None) == falls_short


def test_a_coefficient_that_needs_no_scale_is_judged_in_its_own_units():
    loop, _ = loop_of(START + 0.0004, START, rounds=2, scale=torch.full((2,), 1e-3).double())
    loop.run()
    # In units of 0.001, this is the whole distance that the first round can cover.
    assert loop.progress.step == 80


class Dim(Clouds):
    """Tasks that need large coefficients."""

    def sample(self, episodes, generator):
        batch = super().sample(episodes, generator)
        batch.support_x.mul_(0.1)
        batch.query_x.mul_(0.1)
        return batch


@pytest.mark.slow
def test_a_discovery_on_dim_tasks_goes_on_and_has_the_same_rounds_after_a_kill(tmp_path):
    settings = {
        "hidden": (5,), "ways": 3, "shots": 2, "queries": 2, "episodes": 320, "meta_batch": 8,
        "refit": 32, "refit_batch": 2, "look": 4, "validation": 4, "test_episodes": 4,
        "engine": "fused", "terms": "error_hebbian,error_error", "meta_lr": 1e-4,
        "feedback": "symmetric",
    }  # fmt: skip
    dim = Dim(steps=30, queries=60)
    split = EpisodeSplit(dim, dim, "classes", inputs=6, outputs=3, description="dim clouds")
    discovery = Discovery(DiscoveryConfig(**settings), split=split, folder=tmp_path)
    result = discovery.run()
    loops = discovery.stages.loops
    assert loops["search"].progress.step > 40
    assert loops["backprop"].progress.step > 40
    # Refits that are compared have equal lengths.
    assert {loop.progress.step for name, loop in loops.items() if "select" in name} <= {16}
    again = Discovery.resume(tmp_path, split=split).run()
    assert again.rule.coefficients == result.rule.coefficients
    assert [each.step for each in again.history] == [each.step for each in result.history]
