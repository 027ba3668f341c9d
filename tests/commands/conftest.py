"""Compile the kernel first, because tests of commands read what a command prints."""

import pytest
import torch
from support import named, random_problem

from metaplast.engines.fused import FusedEngine


@pytest.fixture(scope="session", autouse=True)
def _kernel_is_compiled():
    """Run the engine once: the first run on a machine prints that it compiles the kernel."""
    for dtype in (torch.float32, torch.float64):
        FusedEngine().run(random_problem(named("error_hebbian"), dtype=dtype))
