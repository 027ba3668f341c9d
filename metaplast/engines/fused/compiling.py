"""Compile a kernel of the fused engine: `DTYPE [relaxing]`; see `jit.load`."""

import gc
import sys

import torch

from metaplast.base.family import module_ends_with_parent
from metaplast.engines.fused.batch import run_smallest
from metaplast.scans.compiling import announcement

if __name__ == "__main__":
    module_ends_with_parent()
    announcement.is_due = False  # The parent process has already printed what is compiled.
    gc.disable()  # Garbage collection would take a sixth of the compile time.
    run_smallest(getattr(torch, sys.argv[1]), "relaxing" in sys.argv)
