"""The queue by itself: answers, ticks, errors, dead workers, interrupts, and where calls run."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch
from calls import die, square, threads, where
from support import LIGHT, assert_is_one_sentence, interruptible

from metaplast.base.errors import UserError
from metaplast.base.threads import torch_on_one_thread
from metaplast.batch_jobs import queue
from metaplast.batch_jobs.queue import PROGRESS, ProgressFile, Queue, cores, guarded

CALLS = {str(value): (value,) for value in range(6)}
ANSWERS = {str(value): {"square": value * value} for value in range(6) if value != 3} | {
    "3": {"error": "three is not squared; give another number."}
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "made", [Queue(1), Queue(2), Queue(3), Queue(1, inline=True)], ids=["1", "2", "3", "inline"]
)
def test_answers_do_not_depend_on_the_number_of_workers(made):
    assert dict(made.run(square, CALLS)) == ANSWERS


@pytest.mark.slow
def test_one_worker_answers_in_order_and_tells_the_time(monkeypatch):
    ticks = []
    assert [name for name, _ in Queue(1).run(square, CALLS, lambda: ticks.append(1))] == [*CALLS]
    assert ticks


@pytest.mark.slow
def test_a_worker_loads_torch_if_its_call_does_and_then_on_one_thread(monkeypatch):
    # Workers of the tests are on one thread anyway.
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    calls = {"none": (False,), "first": (True,), "again": (True,)}
    assert dict(Queue(1).run(threads, calls)) == {
        "none": {"loaded": False},
        "first": {"loaded": False, "threads": 1},
        "again": {"loaded": True, "threads": 1},
    }
    assert os.environ["OMP_NUM_THREADS"] == "2"


def test_a_call_in_this_process_runs_on_one_thread_and_the_number_is_put_back(monkeypatch):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        answer = {"a": {"loaded": True, "threads": 1}}
        assert dict(Queue(1, inline=True).run(threads, {"a": (True,)})) == answer
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("value", [None, "3"])
def test_without_torch_its_number_of_threads_is_left_to_the_environment(value, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if value is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", value)
    with torch_on_one_thread():
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ.get("OMP_NUM_THREADS") == value


def test_no_calls_start_no_worker(monkeypatch):
    monkeypatch.setattr(queue, "ProcessPoolExecutor", None)
    assert not list(Queue().run(square, {}))


@pytest.mark.slow
def test_a_worker_that_dies_is_told_in_one_sentence():
    with pytest.raises(UserError, match="a worker process died") as caught:
        list(Queue(2).run(die, {"0": (0,), "1": (1,), "2": (2,)}))
    assert_is_one_sentence(caught.value)


@pytest.mark.slow
def test_one_process_is_this_one_only_if_it_is_asked_to_be():
    here = {"pid": os.getpid()}
    assert dict(Queue(1, inline=True).run(where, {"a": ()})) == {"a": here}
    assert dict(Queue(1).run(where, {"a": ()}))["a"] != here
    assert dict(Queue(2, inline=True).run(where, {"a": ()}))["a"] != here


@pytest.mark.slow
def test_kept_workers_answer_again_and_then_end():
    with Queue(1).kept(2) as run:
        first = dict(run(where, {"a": (), "b": ()}))
        assert dict(run(square, {})) == {}
        again = dict(run(where, {"a": ()}))
        assert dict(run(square, CALLS)) == ANSWERS
    assert first["a"] == first["b"] == again["a"] != {"pid": os.getpid()}
    assert not [child for child in queue.multiprocessing.active_children() if child.is_alive()]


def test_as_many_workers_are_kept_as_the_longest_run_needs(monkeypatch):
    numbers = []

    def threads_instead(number, *_):
        numbers.append(number)
        return ThreadPoolExecutor(number)

    monkeypatch.setattr(queue, "ProcessPoolExecutor", threads_instead)
    for most in (0, 1, 2, 9):
        with Queue(3).kept(most) as run:
            assert not list(run(where, {}))
    assert numbers == [1, 1, 2, 3]
    with Queue(1, inline=True).kept(3) as run:
        assert dict(run(where, {"a": ()})) == {"a": {"pid": os.getpid()}}
    assert numbers == [1, 1, 2, 3]


def test_as_many_run_at_once_as_there_are_calls_processes_or_cores():
    assert Queue(4).at_once(10) == 4
    assert Queue(4).at_once(3) == 3
    assert Queue().at_once(10**6) == cores()
    # Each worker of a cluster has its own memory.
    assert Queue(4, ray="auto").at_once(10) == 1


INTERRUPTED = """
import sys, time
from pathlib import Path
from metaplast.batch_jobs.queue import Queue

def wait(name, folder):
    place = Path(folder)
    (place / f"{name}-begun").touch()
    try:
        time.sleep(600)
    except KeyboardInterrupt:
        (place / f"{name}-saved").touch()
        raise
    return {}

if __name__ == "__main__":
    try:
        list(Queue(2).run(wait, {name: (name, sys.argv[1]) for name in "abcd"}))
    except KeyboardInterrupt:
        sys.exit(7)
"""


@pytest.mark.slow
def test_an_interrupt_stops_all_workers_and_lets_them_save(tmp_path):
    (tmp_path / "main.py").write_text(LIGHT + INTERRUPTED)
    out = tmp_path / "out"
    out.mkdir()
    process = subprocess.Popen(
        interruptible(tmp_path / "main.py", out), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while len(list(out.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    # The workers hold this pipe too, so it closes when all have ended.
    process.communicate(timeout=60)
    assert process.returncode == 7
    begun = {path.name.partition("-")[0] for path in out.iterdir()}
    assert len(begun) == 2
    assert {path.name for path in out.iterdir()} == {
        f"{name}-{what}" for name in begun for what in ("begun", "saved")
    }


def test_a_worker_that_has_just_ended_does_not_hide_the_interrupt(monkeypatch):
    def gone(pid, number):
        raise ProcessLookupError

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(queue.os, "kill", gone)
    children = [SimpleNamespace(pid=1)]
    monkeypatch.setattr(queue.multiprocessing, "active_children", lambda: children)
    monkeypatch.setattr(queue, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))

    with pytest.raises(KeyboardInterrupt):
        list(queue.on_cores(dict, {"a": ()}, 1, interrupt))


def test_a_worker_that_was_told_to_stop_begins_nothing(monkeypatch):
    monkeypatch.setattr(queue, "_stopped", SimpleNamespace(is_set=lambda: True))
    with pytest.raises(KeyboardInterrupt):
        guarded(square, 2)


def test_a_reader_that_stops_early_ends_the_workers():
    answers = Queue(1).run(square, CALLS)
    assert next(answers)[0] in CALLS
    answers.close()
    assert not [child for child in queue.multiprocessing.active_children() if child.is_alive()]


class Cluster:
    """Ray, as far as the queue uses it; the call "lost" is lost with its worker."""

    class exceptions:
        RayError = type("RayError", (Exception,), {})

    def __init__(self):
        self.calls, self.closed, self.cancelled = {}, 0, []

    def init(self, address, **_):
        if address == "nowhere":
            raise ConnectionError

    def remote(self, **_):
        return lambda guard: SimpleNamespace(remote=lambda *call: self._submit(guard, call))

    def _submit(self, guard, call):
        self.calls[len(self.calls)] = (guard, call)
        return len(self.calls) - 1

    def wait(self, references, **_):
        return references[:1], references[1:]

    def get(self, reference):
        guard, call = self.calls[reference]
        if call[1] == "lost":
            raise self.exceptions.RayError
        return guard(*call)

    def cancel(self, reference):
        self.cancelled.append(reference)

    def shutdown(self):
        self.closed += 1


def test_a_cluster_gives_the_same_answers(monkeypatch):
    cluster = Cluster()
    monkeypatch.setitem(sys.modules, "ray", cluster)
    made = Queue(ray="auto")
    made.check()
    ticks = []
    answers = dict(made.run(square, CALLS | {"lost": ("lost",)}, lambda: ticks.append(1)))
    assert answers == ANSWERS | {"lost": {"error": "Ray: RayError"}}
    assert len(ticks) == len(answers)
    assert (cluster.closed, cluster.cancelled) == (1, [])
    partly = made.run(square, {"a": (1,), "b": (2,)})
    next(partly)
    partly.close()
    assert (cluster.closed, len(cluster.cancelled)) == (2, 1)
    with pytest.raises(UserError, match="no Ray cluster was found at 'nowhere'") as caught:
        list(Queue(ray="nowhere").run(square, CALLS))
    assert_is_one_sentence(caught.value)


def test_without_ray_a_cluster_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    for refused in (Queue(ray="auto").check, lambda: list(Queue(ray="auto").run(square, CALLS))):
        with pytest.raises(UserError, match=r"install metaplast\[ray\]") as caught:
            refused()
        assert_is_one_sentence(caught.value)
    Queue().check()


def test_progress_is_read_by_the_one_that_waits(tmp_path):
    seen = ProgressFile(str(tmp_path))
    assert seen.fraction() == 0
    often = ProgressFile(tmp_path, seconds=0.0)
    for done, fraction in ((0, 0.0), (5, 0.5), (10, 1.0), (20, 1.0)):
        often.write(done, 10)
        assert seen.fraction() == fraction
    often.write(0, 0)
    assert seen.fraction() == 0
    rarely = ProgressFile(tmp_path, seconds=1000.0)
    rarely.write(1, 4)
    rarely.write(2, 4)
    assert seen.fraction() == 0.25
    (tmp_path / PROGRESS).write_text("half a fi")
    assert seen.fraction() == 0
