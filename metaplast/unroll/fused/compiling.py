"""Compile the fused kernel for the types of number named as arguments; see `jit.load`."""

import gc
import sys

import torch

from metaplast.family import module_ends_with_parent
from metaplast.unroll.fused.batch import run_smallest

if __name__ == "__main__":
    module_ends_with_parent()
    gc.disable()  # A sixth of the time to compile goes into looking for garbage.
    for name in sys.argv[1:]:
        run_smallest(getattr(torch, name))
