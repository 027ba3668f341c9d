"""Compile the kernel first, because tests of commands read what a command prints."""

import pytest

from metaplast.report.observer import ReportFiles


@pytest.fixture(scope="session", autouse=True)
def _kernel_is_compiled(compiled_kernel):
    """Compile or load: the first run on a machine prints that it compiles the kernel."""


@pytest.fixture(autouse=True)
def _no_report(monkeypatch):
    """Leave out the pages and figures at the end of each discovery; tests/report is about them."""
    monkeypatch.setattr(ReportFiles, "finish", lambda self, result: None)
