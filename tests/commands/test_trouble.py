"""Errors of the machine and interrupts: one sentence, an exit code, and no lost work."""

import contextlib
import errno
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from support import SMALL_RUN, assert_close, fail_to_write, named, random_problem

from metaplast import _start
from metaplast.base import background
from metaplast.base.trouble import trouble
from metaplast.commands import command_names, discover, guard, recover, reproduce, sweep
from metaplast.discovery.stages import CHECKPOINT
from metaplast.engines import memory_need as memory
from metaplast.engines.fused.engine import FusedEngine, Settings
from metaplast.meta.outer_loop import OuterLoop
from metaplast.rules.rule import Rule
from metaplast.watch.console import ProgressBar

ROOT = Path(__file__).parents[2]


def run(*arguments):
    return guard(discover.main, [*map(str, arguments)])


def assert_told(capsys, *expected):
    """Check that standard error has one sentence; return standard output."""
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    for text in expected:
        assert text in captured.err
    return captured.out


# --- disk and folder ---


@pytest.mark.slow
def test_a_result_that_cannot_be_written_is_shown(tmp_path, monkeypatch, capsys):
    fail_to_write(monkeypatch, "rule.json", errno.EDQUOT)
    assert run(*SMALL_RUN, "--quiet", f"--out={tmp_path / 'run'}") == 2
    again = f"continue with metaplast discover --resume {tmp_path / 'run'}"
    printed = assert_told(capsys, "rule.json", "free some space", again)
    assert "Discovered rule" in printed
    monkeypatch.undo()
    assert run(f"--resume={tmp_path / 'run'}", "--quiet") == 0
    assert str(Rule.load(tmp_path / "run" / "rule.json")) in printed


def test_a_checkpoint_that_cannot_be_written_ends_a_run_in_a_sentence(
    tmp_path, monkeypatch, capsys
):
    fail_to_write(monkeypatch, CHECKPOINT, errno.ENOSPC)
    assert run(*SMALL_RUN, f"--out={tmp_path / 'run'}") == 2
    assert_told(capsys, CHECKPOINT, os.strerror(errno.ENOSPC), "--resume")
    assert not [each for each in tmp_path.rglob(".*") if each.is_file()]


def test_a_folder_may_be_deleted_in_the_middle(tmp_path, monkeypatch, capsys):
    def record(self, loop, record):
        if record.step == 1:
            shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(ProgressBar, "record", record)
    assert run(*SMALL_RUN, f"--out={tmp_path / 'run'}") == 2
    *warnings, told = capsys.readouterr().err.splitlines()
    assert all(text.startswith("warning: TensorBoard's files end here") for text in warnings)
    assert told.startswith("error: cannot write")
    assert f"continue with metaplast discover --resume {tmp_path / 'run'}." in told


# --- memory and threads ---

REFUSALS = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate "
                 "memory: you tried to allocate 40000000000 bytes. Error code 12"),
    RuntimeError("Storage size calculation overflowed with sizes=[100000000000, 100000000000]"),
    RuntimeError("can't start new thread"),
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.EIO, "Input/output error", "/a/file"),
    OSError("no number"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda error: type(error).__name__)
def test_what_the_machine_refuses_is_one_sentence(refusal, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise refusal

    monkeypatch.setattr(OuterLoop, "_step", refuse)
    assert run(*SMALL_RUN, f"--out={tmp_path / 'run'}") == 2
    assert_told(capsys, f"continue with metaplast discover --resume {tmp_path / 'run'}.")
    assert guard(refuse, []) == 2
    assert_told(capsys)


@pytest.mark.parametrize("name", command_names())
def test_out_of_memory_a_command_names_only_options_that_it_has(name, monkeypatch, capsys):
    module = importlib.import_module(f"metaplast.commands.{name}")

    def refuse(_):
        raise MemoryError

    monkeypatch.setattr(refuse, "__module__", module.__name__)
    assert guard(refuse, []) == 2
    flags = set(re.findall(r"--[a-z-]+", capsys.readouterr().err))
    assert flags or not hasattr(module, "LESS_MEMORY")
    with contextlib.suppress(SystemExit):
        module.main(["--help-all"])
    assert flags <= set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    # Outside of a command, no option is named.
    assert "--" not in trouble(MemoryError()).mend


@pytest.mark.parametrize("fault", [ValueError("x"), RuntimeError("shapes do not fit")])
def test_a_fault_of_ours_keeps_its_traceback(fault):
    def main(_):
        raise fault

    assert trouble(fault) is None
    with pytest.raises(type(fault)):
        guard(main, [])


@pytest.mark.slow
@pytest.mark.parametrize("big", ["--hidden=100000,100000", "--meta-batch=100000000"])
@pytest.mark.parametrize("command", [discover, sweep, recover], ids=lambda c: c.__name__[19:])
def test_too_little_memory_leaves_no_folder(command, big, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(memory, "available_bytes", lambda device: 2**34)
    monkeypatch.chdir(tmp_path)
    assert guard(command.main, [*SMALL_RUN, big]) == 2
    assert_told(capsys, "of memory", "17.2 GB is free", "--meta-batch")
    assert list(tmp_path.iterdir()) == []


def test_without_new_threads_episodes_run_one_by_one(monkeypatch):
    problem = random_problem(named("error_hebbian"), episodes=3)
    engine = FusedEngine(Settings(threads=2))
    expected = engine.run(problem)
    refused = []

    def start(thread):
        refused.append(thread)
        raise RuntimeError("can't start new thread")

    # Threads that were started before are kept.
    background.forget_threads()
    monkeypatch.setattr(threading.Thread, "start", start)
    found = engine.run(problem)
    assert refused
    assert torch.equal(found.loss, expected.loss)
    assert_close(found.final.weights[0], expected.final.weights[0], 0)


# --- refusals leave nothing ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        (recover, ["--ways=99"]),
        (recover, ["--processes=-1"]),
        (recover, ["--dataset=mnist", "--data-root=missing"]),
        (sweep, ["--processes=-1"]),
        (sweep, ["--resume=missing"]),
        (recover, ["--resume=missing"]),
        (discover, ["--resume=missing"]),
        (reproduce, ["feedback_alignment", "--data-root=missing", "--seeds=1"]),
        (reproduce, ["all", "--data-root=missing", "--seeds=1"]),
    ],
)
def test_a_refusal_leaves_no_folder(command, arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert guard(command.main, arguments) == 2
    assert_told(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_command_that_ends_before_its_first_file_leaves_no_folder(tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(discover, "write_config", stop)
    assert run(*SMALL_RUN) == 130
    assert run(*SMALL_RUN, "--out=a/b") == 130
    assert list(tmp_path.iterdir()) == []


# --- signals ---


@pytest.fixture
def heeding_interrupts():
    """Handle signals as usual: some launchers, such as nohup, have processes ignore them."""
    usual = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    before = {number: signal.signal(number, handler) for number, handler in usual.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.slow
@pytest.mark.usefixtures("heeding_interrupts")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_keeps_the_work_and_says_how_to_continue(tmp_path, monkeypatch, capsys, number):
    real = ProgressBar.record

    def record(self, loop, record):
        real(self, loop, record)
        if record.step == 1:
            os.kill(os.getpid(), number)

    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)]
    monkeypatch.setattr(ProgressBar, "record", record)
    assert run(*SMALL_RUN, f"--out={tmp_path / 'run'}") == 128 + number
    captured = capsys.readouterr()
    assert f"Continue with:  metaplast discover --resume {tmp_path / 'run'}" in captured.out
    assert captured.err == ""
    assert (tmp_path / "run" / CHECKPOINT).exists()
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)] == before


def test_ctrl_c_while_the_heavy_parts_are_loaded_is_one_line(tmp_path):
    heavy = tmp_path / "metaplast"
    heavy.mkdir()
    (heavy / "__init__.py").touch()
    (heavy / "_start.py").write_text(Path(_start.__file__).read_text(encoding="utf-8"))
    (heavy / "commands.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGINT)\n")
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from metaplast._start import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


def test_an_interrupt_that_a_module_turned_into_an_error_is_one():
    def main(_):
        try:
            signal.default_int_handler(signal.SIGINT, None)
        except KeyboardInterrupt:
            raise ImportError("numpy could not be loaded") from None

    assert guard(main, []) == 130


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
def test_numbers_of_threads_are_checked(name, monkeypatch):
    for value in ("0", "-1", "abc", "1.5", "1e3", "9" * 30, "²", "0,1"):
        monkeypatch.setenv(name, value)
        assert f"{name} must be" in _start.wrong_threads()
    for value in ("1", " 8 ", "", *(["4,2"] if name.startswith("OMP") else [])):
        monkeypatch.setenv(name, value)
        assert _start.wrong_threads() is None


def test_python_m_starts_like_the_command():
    command = [sys.executable, "-m", "metaplast", "discover"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "abc"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "error: the environment variable OMP_NUM_THREADS must be" in done.stderr


# --- output ---


def test_a_run_whose_reader_leaves_is_finished(tmp_path, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert run(*SMALL_RUN, f"--out={tmp_path / 'run'}") == 0
    assert (tmp_path / "run" / "rule.json").exists()


def test_output_that_does_not_fit_is_told_at_the_end(monkeypatch, capsys):
    with open("/dev/full", "w") as stream:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", stream)
        assert guard(lambda _: print("x"), []) == 2
        monkeypatch.undo()
    assert_told(capsys, "standard output could not be written: No space left")


def test_a_process_without_standard_output_runs(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)

    def main(_):
        print("x")
        sys.stdout.write("y")

    assert guard(main, []) == 0
