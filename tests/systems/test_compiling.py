"""When loops are compiled for the first time on a machine, a line says so."""

import importlib
import sys

import pytest
from numba.core import event

from metaplast.scans import compiling

SOURCE = """
from metaplast.scans.compiling import compiled

@compiled
def double(x):
    return 2 * x

@compiled
def triple(x):
    return 3 * x
"""


@pytest.fixture
def announcement(monkeypatch):
    """The announcement, due again; its state comes back after the test."""
    found = compiling.announcement
    monkeypatch.setattr(found, "of", dict(found.of))
    monkeypatch.setattr(found, "is_due", True)
    return found


@pytest.fixture
def loops(tmp_path, monkeypatch):
    """Two loops in a new module, which no cache on disk knows."""
    (tmp_path / "loops_of_a_test.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("loops_of_a_test")
    del sys.modules["loops_of_a_test"]


def test_the_first_compilation_is_announced_and_no_other(announcement, loops, capsys):
    assert not capsys.readouterr().err
    assert loops.double(1.0) == 2.0
    line = capsys.readouterr().err
    assert line.startswith("metaplast: compiling loops")
    assert "kept on disk" in line
    assert line.count("\n") == 1
    assert loops.triple(1.0) == 3.0
    assert loops.double(1) == 2
    assert not capsys.readouterr().err


def test_what_is_on_disk_is_not_announced(announcement, loops, capsys):
    loops.double(1.0)
    capsys.readouterr()
    announcement.is_due = True
    again = importlib.reload(loops)
    assert again.double(1.0) == 2.0
    assert not capsys.readouterr().err
    assert announcement.is_due


def test_nothing_is_promised_without_a_place_on_disk(announcement, capsys):
    space = {}
    exec(SOURCE, space)
    assert space["double"](1.0) == 2.0
    line = capsys.readouterr().err
    assert line.startswith("metaplast: compiling loops")
    assert "disk" not in line


def test_functions_of_others_are_not_announced(announcement, capsys):
    event.broadcast(event.Event("numba:compile", event.EventStatus.START, {"dispatcher": print}))
    assert not capsys.readouterr().err
    assert announcement.is_due
