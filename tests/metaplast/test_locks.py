"""A folder in use is locked, a kill frees it, and what the killed process left is removed."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from support import LIGHT, assert_is_one_sentence, entries

from metaplast.base import locks
from metaplast.base.errors import UserError
from metaplast.base.files import LOCK
from metaplast.base.locks import locked, one_at_a_time, require_free
from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.run import CONFIG, Discovery, write_config

HOLD = (
    LIGHT
    + """
from pathlib import Path
from metaplast.base.locks import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder until it is killed or its input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def take(folder, **options):
    with locked(folder, **options):
        pass


def test_the_second_is_told_who_holds_a_folder(tmp_path, holder):
    for use in (take, require_free):
        with pytest.raises(
            UserError, match=rf"in use by another process .process {holder.pid}"
        ) as e:
            use(tmp_path)
        assert_is_one_sentence(e.value)
        assert "since" in str(e.value)
    assert entries(tmp_path) == [LOCK]


def test_a_kill_frees_a_folder_and_left_overs_are_removed(tmp_path, holder):
    mine = (".notes", ".x.0123456789abcdeg", "y.0123456789abcdef")
    for name in (".config.json.0123456789abcdef", *mine):
        (tmp_path / name).write_text("x")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".checkpoint.pt.fedcba9876543210").write_text("x")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    require_free(tmp_path)
    with locked(tmp_path):
        assert entries(tmp_path) == sorted([*mine, LOCK, "run"])
        assert entries(tmp_path / "run") == []
    assert entries(tmp_path) == sorted([*mine, "run"])


def test_an_ended_holder_frees_a_folder(tmp_path, holder):
    holder.stdin.close()
    take(tmp_path, patience=30)
    assert entries(tmp_path) == []


def test_a_thread_may_lock_twice_and_another_may_not(tmp_path):
    refused = []

    def other():
        try:
            take(tmp_path)
        except UserError as error:
            refused.append(error)

    with locked(tmp_path), locked(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert_is_one_sentence(*refused)
    assert not locks._held
    take(tmp_path)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="cannot write to the folder"):
        take(tmp_path / "none")

    def read_only(path):
        raise OSError(30, os.strerror(30))

    monkeypatch.setattr(locks, "_open_locked", read_only)
    with pytest.raises(UserError, match="Read-only file system") as caught:
        take(tmp_path)
    assert_is_one_sentence(caught.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"[" * 9000, b'{"pid": "a\\nb. c"}'])
def test_a_lock_file_is_read_with_care(tmp_path, holder, content):
    (tmp_path / LOCK).write_bytes(content)
    with pytest.raises(UserError, match="in use by another process") as caught:
        require_free(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_system_without_locks_is_used_without(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(locks._LOCKLESS[0], "no locks")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    with locked(tmp_path):
        require_free(tmp_path)
    monkeypatch.setattr(locks, "fcntl", None)
    with locked(tmp_path):
        require_free(tmp_path)
    assert entries(tmp_path) == []


def test_a_discovery_in_use_is_neither_resumed_nor_begun(tmp_path, holder):
    config = DiscoveryConfig(episodes=2, meta_batch=1, refit=0, test_episodes=2, hidden=(3,))
    write_config(tmp_path, config)
    with pytest.raises(UserError, match="in use"):
        Discovery.resume(tmp_path)
    with pytest.raises(UserError, match="in use"):
        Discovery(config, folder=tmp_path).run()
    assert entries(tmp_path) == [LOCK, CONFIG]


# --- what one process does and others wait for ---

ALONE = (
    LIGHT
    + """
from pathlib import Path
from metaplast.base.locks import one_at_a_time

with one_at_a_time(Path(sys.argv[1]), lambda: print("waits", flush=True)):
    print("held", flush=True)
    sys.stdin.read()
"""
)


def begin_alone(path):
    return subprocess.Popen(
        [sys.executable, "-c", ALONE, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )


@pytest.mark.skipif(locks.fcntl is None, reason="files are not locked here")
@pytest.mark.parametrize("end", ["closed", "killed"])
def test_a_process_waits_until_another_has_done_it_or_was_killed(tmp_path, end):
    path = tmp_path / "work.lock"
    with begin_alone(path) as first:
        assert first.stdout.readline() == b"held\n"
        with begin_alone(path) as second:
            assert second.stdout.readline() == b"waits\n"
            assert first.poll() is None
            first.kill() if end == "killed" else first.stdin.close()
            assert second.stdout.readline() == b"held\n"


def test_where_nothing_can_be_held_nobody_waits(tmp_path, monkeypatch):
    missing = tmp_path / "none" / "work.lock"
    with one_at_a_time(missing, pytest.fail), one_at_a_time(missing, pytest.fail):
        assert not missing.exists()
    monkeypatch.setattr(locks, "fcntl", None)
    path = tmp_path / "work.lock"
    with one_at_a_time(path, pytest.fail), one_at_a_time(path, pytest.fail):
        pass
