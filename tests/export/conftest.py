"""What the tests of exported programs share."""

import sys
import types

import pytest

from metaplast.export import _runner, check


@pytest.fixture(autouse=True)
def _precision_of_jax():
    """Put back what an exported program sets: other tests compute in single precision."""
    before = "jax" in sys.modules and sys.modules["jax"].config.jax_enable_x64
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].config.update("jax_enable_x64", before)


@pytest.fixture
def in_process(monkeypatch):
    """Run generated code in this process: the same comparison, without a start of Python each."""

    def execute(folder, exporter):
        pytest.importorskip(exporter.package)
        _runner.run(folder)

    monkeypatch.setattr(check, "_execute", execute)
    # Two random states, of five steps each: a third would test no further code.
    monkeypatch.setattr(check, "STATES", 2)
    yield
    for name in ("exported", "driver"):
        sys.modules.pop(name, None)


@pytest.fixture
def alone(monkeypatch):
    """Return a function that runs a program where nothing of metaplast can be imported."""

    def run(text):
        for name in [name for name in sys.modules if name.partition(".")[0] == "metaplast"]:
            monkeypatch.setitem(sys.modules, name, None)
        program = types.ModuleType("program")
        exec(compile(text, "program.py", "exec"), program.__dict__)
        return program

    return run
