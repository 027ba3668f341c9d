"""An outer loop whose records, observers and next tasks are done while a step is computed."""

import copy
import threading
from dataclasses import replace

import pytest
import torch
from support import Clouds, named

from episodes.sampler import PoolSampler
from metaplast.base.errors import UserError
from metaplast.engines import get_engine
from metaplast.meta import saved_loop
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.settings import OuterSettings
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.tasks.derived import DerivedSampler, is_thread_safe
from metaplast.tasks.lengths import MixedLengths
from metaplast.tasks.mini_batches import MiniBatches
from metaplast.terms.coefficients import Coefficients

LEARNER = Learner.on_stack(FullyConnected((6, 5, 3)), "fixed", named("error_hebbian"))
SETTINGS = replace(OuterSettings(episodes=8, meta_batch=2, scaling="none"))


class Safe(Clouds):
    """Lets another thread draw."""

    is_thread_safe = True


def loop_of(sampler=None, *, engine="fused"):
    start = Coefficients(("error_hebbian",), torch.tensor([0.01], dtype=torch.float64))
    engine = get_engine(engine)
    return OuterLoop("search", LEARNER, sampler or Safe(), engine, SETTINGS, start)


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


# --- records and observers ---


def test_an_interrupt_in_the_angles_of_the_last_step_loses_nothing(monkeypatch):
    whole, loop, calls = loop_of(), loop_of(), []
    whole.run()

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return with_angles(*arguments)

    with_angles = saved_loop.with_angles
    monkeypatch.setattr(saved_loop, "with_angles", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    resumed = loop_of()
    resumed.restore(copy.deepcopy(loop.state()))
    resumed.run()
    assert resumed.progress.history == whole.progress.history
    assert all(record.angles for record in resumed.progress.history)


@pytest.mark.parametrize("engine", ["fused", "batched"])
def test_an_observer_may_not_take_steps_of_its_loop(engine):
    loop, seen = loop_of(engine=engine), []

    def observe(loop, record):
        seen.append(record.step)
        if record.step == 0:
            loop.run_step()

    with pytest.raises(UserError, match="an observer may not take steps"):
        loop.run(observe)
    plain = loop_of(engine=engine)
    assert loop.progress.history == [plain.run_step(), plain.run_step()]


def test_whether_to_give_up_is_asked_when_the_step_is_complete_and_was_observed():
    asked, seen = [], []
    loop_of().run(
        lambda loop, record: seen.append(record),
        lambda loop: asked.append((list(loop.progress.history), list(seen))),
    )
    assert [len(history) for history, _ in asked] == [0, 1, 2, 3]
    assert all(history == seen for history, seen in asked)
    assert all(record.angles for history, _ in asked for record in history)


def test_it_may_be_asked_before_one_step_only():
    asked = []
    loop = loop_of()
    loop.run(None, lambda loop: asked.append(loop.progress.step), asked=2)
    assert asked == [2]
    loop = loop_of()
    loop.run(None, lambda loop: True, asked=2)
    assert loop.given_up
    assert loop.progress.step == 2


# --- tasks drawn ahead ---


def test_a_loop_that_is_given_up_keeps_no_tasks():
    loop = loop_of()
    loop.run(None, lambda loop: loop.progress.step == 2)
    assert loop._drawn._coming == {}


def test_no_draw_is_in_flight_after_a_step():
    class Slow(Safe):
        drawn = 0

        def sample(self, episodes, generator):
            threading.Event().wait(0.1)
            self.drawn += 1
            return super().sample(episodes, generator)

    loop = loop_of(Slow())
    loop.run_step()
    assert loop._drawn._sampler.drawn == 2


def test_a_loop_can_be_copied_between_steps():
    loop = loop_of()
    loop.run_step()
    again = copy.deepcopy(loop)
    loop.run()
    again.run()
    assert again.progress.history == loop.progress.history


def test_tasks_that_cannot_be_drawn_raise_at_their_step():
    class Ends(Safe):
        def sample(self, episodes, generator):
            if generator.initial_seed() in later:
                raise ValueError("no more")
            seeds.append(generator.initial_seed())
            return super().sample(episodes, generator)

    seeds, later = [], ()
    loop_of(Ends()).run()
    later = tuple(seeds[2:])
    loop = loop_of(Ends())
    with pytest.raises(ValueError, match="no more"):
        loop.run()
    assert [bool(record.angles) for record in loop.progress.history] == [True, True]


def test_samplers_that_a_user_derives_are_drawn_in_the_users_thread():
    class Derived(DerivedSampler):
        def sample(self, episodes, generator):
            return self.base.sample(episodes, generator)

    class Pool(PoolSampler):
        def sample(self, episodes, generator):
            return super().sample(episodes, generator)

    pools = [kind(*[None] * 5) for kind in (PoolSampler, Pool)]
    assert [is_thread_safe(pool) for pool in pools] == [True, False]
    assert not is_thread_safe(Derived(pools[0]))
    for safe, pool in zip((True, False), pools, strict=True):
        assert is_thread_safe(MixedLengths(pool, (1, 2), 2)) == safe
        assert is_thread_safe(MiniBatches(MixedLengths(pool, (1, 2), 2), 2)) == safe
