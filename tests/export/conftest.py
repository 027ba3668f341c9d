"""What the tests of exported programs share."""

import sys

import pytest

from metaplast.export import _runner, check


@pytest.fixture
def in_process(monkeypatch):
    """Run generated code in this process: the same comparison, without a start of Python each."""

    def execute(folder, exporter):
        pytest.importorskip(exporter.package)
        _runner.run(folder)

    monkeypatch.setattr(check, "_execute", execute)
    # Two random states, of five steps each: a third would see no other code.
    monkeypatch.setattr(check, "STATES", 2)
    yield
    for name in ("exported", "driver"):
        sys.modules.pop(name, None)
