"""Compile a kernel of the fused engine: `DTYPE [relaxing]`; see `jit.load`."""

import gc
import sys

import torch

from metaplast.base.family import module_ends_with_parent
from metaplast.engines.fused.batch import run_smallest

if __name__ == "__main__":
    module_ends_with_parent()
    gc.disable()  # Garbage collection would take a sixth of the compile time.
    run_smallest(getattr(torch, sys.argv[1]), "relaxing" in sys.argv)
