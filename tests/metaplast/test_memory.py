"""What cannot fit into memory is refused before anything is made."""

import pytest
import torch
from support import assert_is_one_sentence, named

from metaplast.base.errors import UserError
from metaplast.engines import memory_need as memory
from metaplast.engines.memory_need import (
    _group_bytes,
    _spell,
    available_bytes,
    episode_bytes,
    history_bytes,
    require_memory,
)
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.timing import Timing
from metaplast.terms.algebra import outer, post, pre, trace
from metaplast.terms.term import Term

CPU = torch.device("cpu")


def test_an_episode_takes_its_weights_and_images():
    learner = Learner.on_stack(FullyConnected((4, 3, 2)), "fixed", named("error_hebbian"))
    weights, images = 4 * 3 + 3 * 2, (7 + 5) * 4
    for engine, gradient, copies in (
        ("fused", True, 2), ("batched", True, 2 + 2 + 2), ("reference", True, 9),
        ("batched", False, 2), ("reference", False, 2),
    ):  # fmt: skip
        found = episode_bytes(learner, engine, 7, 5, torch.float64, gradient=gradient)
        assert found == 8 * (copies * weights + weights + images)


def test_the_fused_engine_keeps_the_traces_of_every_step_of_one_episode():
    slow = Term("slow", outer(trace(post.error, 3), trace(pre.activity, 3)), "made up")
    learner = Learner(FullyConnected((4, 3, 2)), (slow,))
    assert history_bytes(learner, "fused", 7, torch.float64) == 8 * 7 * ((3 + 4) + (2 + 3))
    assert history_bytes(learner, "batched", 7, torch.float64) == 0
    plain = Learner(FullyConnected((4, 3, 2)), named("error_hebbian"))
    assert history_bytes(plain, "fused", 7, torch.float64) == 0


def test_what_does_not_fit_is_refused_in_a_sentence(monkeypatch):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    require_memory(100, 10, "--meta-batch", "4-2", CPU)
    for count, at_once in ((11, 1), (4, 3)):
        with pytest.raises(UserError, match=r"--meta-batch .* network 4-2.* of memory") as caught:
            require_memory(100, count, "--meta-batch", "4-2", CPU, at_once=at_once)
        assert_is_one_sentence(caught.value)
    assert "in 3 processes, needs about 1.2 kB" in str(caught.value)
    require_memory(100, 9, "--meta-batch", "4-2", CPU, kept=100)
    with pytest.raises(UserError, match=r"needs about 1\.01 kB of memory"):
        require_memory(100, 9, "--meta-batch", "4-2", CPU, kept=110)
    monkeypatch.setattr(memory, "available_bytes", lambda device: None)
    require_memory(10**30, 1, "--meta-batch", "4-2", CPU)


def test_limits_of_a_container_count(tmp_path):
    (tmp_path / "cgroup").write_text("0::/a/b\n")
    place = tmp_path / "root" / "a"
    (place / "b").mkdir(parents=True)
    (place / "memory.max").write_text("5000\n")
    (place / "memory.current").write_text("3000\n")
    (place / "memory.stat").write_text("anon 1\ninactive_file 1000\n")
    (place / "b" / "memory.max").write_text("max\n")
    assert _group_bytes(tmp_path / "root", tmp_path / "cgroup") == [3000]
    old = tmp_path / "root" / "memory"
    old.mkdir()
    (tmp_path / "cgroup").write_text("7:cpu,memory:/outside\n3:pids:/x\n")
    (old / "memory.limit_in_bytes").write_text("700")
    (old / "memory.usage_in_bytes").write_text("800")
    assert _group_bytes(tmp_path / "root", tmp_path / "cgroup") == [0]
    assert _group_bytes(tmp_path, tmp_path / "none") == []


def test_this_machine_tells_how_much_is_free():
    room = available_bytes(CPU)
    assert room is None or room > 2**20


def test_bytes_in_words():
    words = {0: "0 B", 999: "999 B", 21.4e9: "21.4 GB", 7.68e12: "7.68 TB", 9e18: "9,000,000 TB"}
    assert {number: _spell(number) for number in words} == words


def test_a_sequence_takes_its_frames_and_not_its_steps():
    sizes = []
    for frames, time in ((1, 5), (1, 50), (3, 50)):
        learner = Learner(Recurrent((4, 3, 2), Timing(frames, 1, time)), named("error_hebbian"))
        sizes.append(episode_bytes(learner, "fused", 7, 5, torch.float64))
    assert sizes[0] == sizes[1] == sizes[2] - 8 * 2 * 12 * 4
