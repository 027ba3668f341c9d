"""Kept threads: what they compute, what errors do, and that they never change a result."""

import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial

import pytest
import torch
from support import Clouds, named

from metaplast.base import background
from metaplast.base.background import ahead, begun, meanwhile, on_threads
from metaplast.base.notices import collected, notice
from metaplast.engines import get_engine
from metaplast.meta.evaluation import evaluate
from metaplast.meta.outer_loop import OuterLoop
from metaplast.meta.settings import OuterSettings
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.terms.coefficients import Coefficients

SOON = 20  # Seconds after which a thread that should have come counts as missing.
LEARNER = Learner.on_stack(FullyConnected((6, 5, 3)), "fixed", named("error_hebbian"))
START = Coefficients(("error_hebbian",), torch.tensor([0.01], dtype=torch.float64))


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def no_threads(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    background.forget_threads()
    monkeypatch.setattr(threading.Thread, "start", start)


# --- calls on several threads ---


def test_results_come_in_order_and_calls_run_side_by_side():
    together = threading.Barrier(2)

    def call(item):
        together.wait(SOON)
        return item * item

    assert on_threads(call, range(6), 2) == [0, 1, 4, 9, 16, 25]


def test_after_an_error_no_call_still_runs():
    running, done = [], []

    def call(item):
        running.append(item)
        if item == 0:
            raise ValueError("the first")
        threading.Event().wait(0.05)
        done.append(item)

    with pytest.raises(ValueError, match="the first"):
        on_threads(call, range(50), 2)
    assert sorted(running[1:]) == sorted(done)
    assert len(running) < 50


def test_a_call_may_make_calls_of_its_own():
    found = on_threads(lambda item: on_threads(abs, [item, -item], 2), range(4), 2)
    assert found == [[0, 0], [1, 1], [2, 2], [3, 3]]


def test_torch_starts_no_threads_in_them(two_threads):
    inside = on_threads(lambda _: torch.get_num_threads(), range(4), 2)
    assert (inside, torch.get_num_threads()) == ([1, 1, 1, 1], 2)
    assert begun(torch.get_num_threads).result(SOON) == 1


def test_without_new_threads_calls_are_made_here_and_only_once_more(no_threads, monkeypatch):
    made = []
    assert on_threads(lambda item: made.append(item) or item, range(5), 2) == list(range(5))
    assert begun(lambda: made.append(9) or 1).result() == 1
    monkeypatch.undo()
    # What was refused does not run when there are threads again.
    on_threads(abs, range(8), 2)
    assert made == [0, 1, 2, 3, 4, 9]


def test_an_error_of_a_call_that_is_made_here_waits_for_who_asks(no_threads):
    with pytest.raises(ZeroDivisionError):
        begun(lambda: 1 // 0).result()


@pytest.mark.slow
def test_a_forked_process_starts_its_own():
    program = """
import os, sys, warnings
warnings.simplefilter("ignore")
from metaplast.base.background import on_threads
assert on_threads(abs, [-1, -2, -3], 2) == [1, 2, 3]
child = os.fork()
if not child:
    os._exit(on_threads(abs, [-1, -2, -3], 2) != [1, 2, 3])
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=3 * SOON)
    assert done.returncode == 0


def test_a_thread_that_begins_late_keeps_torch_on_one_thread(two_threads, monkeypatch):
    real, first, together = background._begin, [], threading.Barrier(2)

    def late():
        first.append(1)
        if len(first) > 1:
            threading.Event().wait(0.1)
        real()

    background.forget_threads()
    monkeypatch.setattr(background, "_begin", late)
    # The thread that began makes both calls, while the other one still begins.
    on_threads(lambda item: threading.Event().wait(0.03 * (1 - item)), range(2), 2)
    threading.Event().wait(0.3)

    def count(_):
        together.wait(SOON)
        return torch.get_num_threads()

    assert on_threads(count, range(2), 2) == [1, 1]


@pytest.mark.parametrize("call", [partial(begun, int), partial(on_threads, int, range(2), 2)])
def test_an_interrupt_while_threads_start_leaves_none_behind(call, monkeypatch):
    started, start = [], threading.Thread.start

    def interrupted(thread):
        start(thread)
        started.append(thread)
        raise KeyboardInterrupt

    background.forget_threads()
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        call()
    started[0].join(SOON / 4)
    assert not started[0].is_alive()


def test_calls_that_are_refused_do_not_end_those_of_other_threads(monkeypatch):
    found, all_begun, go_on = [], threading.Barrier(3), threading.Event()

    def call(item):
        if item < 2:
            all_begun.wait(SOON)
        go_on.wait(SOON)
        return item

    def refuse(*_):
        raise RuntimeError("cannot schedule new futures after interpreter shutdown")

    other = threading.Thread(target=lambda: found.append(on_threads(call, range(6), 2)))
    other.daemon = True
    other.start()
    all_begun.wait(SOON)
    monkeypatch.setattr(background._kept("calls", 2), "submit", refuse)
    timer = threading.Timer(0.05, go_on.set)
    timer.start()
    assert on_threads(abs, range(4), 2) == [0, 1, 2, 3]
    other.join(SOON / 4)
    background.forget_threads()
    assert found == [[0, 1, 2, 3, 4, 5]]


# --- the next one, while the present one is in use ---


def test_the_next_item_is_made_while_this_one_is_used():
    made = [threading.Event() for _ in range(4)]

    def items():
        for k in range(3):
            made[k].set()
            yield k
        made[3].set()

    found = []
    for k in ahead(items()):
        assert made[k + 1].wait(SOON)
        found.append(k)
    assert found == [0, 1, 2]


def test_an_error_comes_where_its_item_would():
    def items():
        yield 1
        raise ValueError("the second")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="the second"):
        next(found)


def test_what_is_noticed_in_a_thread_is_counted_here():
    with collected() as notices:
        begun(lambda: notice("things", 2, lambda: "this")).result(SOON)
    assert notices.count("things") == 2


def test_work_is_done_while_calls_run():
    arrived = threading.Event()
    with meanwhile(arrived.set):
        # Each call waits for the work, so the work cannot come after them.
        assert on_threads(lambda _: arrived.wait(SOON), range(2), 2) == [True, True]


def test_work_is_done_once_and_at_the_end_if_there_are_no_calls():
    done = []
    with meanwhile(partial(done.append, 1)):
        assert done == []
    with meanwhile(partial(done.append, 2)):
        on_threads(abs, range(4), 2)
        on_threads(abs, range(4), 2)
    assert done == [1, 2]
    with pytest.raises(ValueError, match="before"), meanwhile(partial(done.append, 3)):
        raise ValueError("before")
    assert done == [1, 2]


# --- the outer loop and the evaluation ---


class Watched(Clouds):
    """Notes the threads in which episodes are drawn."""

    def __init__(self, *, safe):
        super().__init__()
        self.is_thread_safe, self.threads = safe, []

    def sample(self, episodes, generator):
        self.threads.append(threading.current_thread())
        return super().sample(episodes, generator)

    @property
    def elsewhere(self):
        return [thread is not threading.current_thread() for thread in self.threads]


def loop_of(sampler, **options):
    settings = replace(OuterSettings(episodes=8, meta_batch=2, scaling="none"), **options)
    return OuterLoop("search", LEARNER, sampler, get_engine("fused"), settings, START)


def test_tasks_are_drawn_ahead_if_the_sampler_allows(two_threads):
    loops = {safe: loop_of(Watched(safe=safe)) for safe in (True, False)}
    for loop in loops.values():
        loop.run()
    assert loops[True].progress == loops[False].progress
    assert loops[True]._drawn._sampler.elsewhere == [False, True, True, True]
    assert loops[False]._drawn._sampler.elsewhere == [False] * 4


def test_evaluations_draw_ahead_too(two_threads):
    found = {}
    for safe in (True, False):
        sampler = Watched(safe=safe)
        found[safe] = evaluate(
            LEARNER, START.tensor, sampler, get_engine("fused"), episodes=5, seed=0, chunk=2
        )
        assert sampler.elsewhere == [safe] * 3
    assert torch.equal(found[True].loss, found[False].loss)


def test_one_thread_draws_nothing_ahead():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        sampler = Watched(safe=True)
        loop_of(sampler).run()
    finally:
        torch.set_num_threads(before)
    assert sampler.elsewhere == [False] * 4


def test_an_observer_sees_the_loop_as_the_step_left_it():
    plain, watched, seen = loop_of(Clouds()), loop_of(Clouds()), []
    watched.run(lambda loop, record: seen.append((record, loop.progress.step, loop.theta.clone())))
    for record, step, theta in seen:
        assert plain.run_step() == record
        assert record.angles
        assert (step, theta) == (plain.progress.step, plain.theta)
    assert len(seen) == 4


def test_a_loop_that_is_interrupted_has_finished_its_last_step():
    class Interrupted(type(get_engine("batched"))):
        calls = 0

        def run(self, problem, *, gradient=True):
            self.calls += 1
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().run(problem, gradient=gradient)

    loop, seen = loop_of(Clouds()), []
    loop._drawn.engine = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        loop.run(lambda _, record: seen.append(record))
    assert loop.progress.history == seen
    assert [bool(record.angles) for record in seen] == [True, True]


def test_a_loop_that_is_given_up_has_shown_its_last_step_before():
    loop, seen = loop_of(Clouds()), []
    loop.run(
        lambda loop, record: seen.append((record.step, loop.given_up)),
        lambda loop: loop.progress.step == 2,
    )
    assert seen == [(0, False), (1, False)]
