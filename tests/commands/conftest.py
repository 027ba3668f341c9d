"""Compile the kernel first, because tests of commands read what a command prints."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _kernel_is_compiled(compiled_kernel):
    """Compile or load: the first run on a machine prints that it compiles the kernel."""
