"""What tests of commands need before any of them reads what a command prints."""

import pytest
import torch
from support import named, random_problem

from metaplast.engines.fused import FusedEngine


@pytest.fixture(scope="session", autouse=True)
def _kernel_is_compiled():
    """The first run on a machine says that it compiles the kernel: have that over with."""
    for dtype in (torch.float32, torch.float64):
        FusedEngine().run(random_problem(named("error_hebbian"), dtype=dtype))
