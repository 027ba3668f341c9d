"""Compile the kernel for the dtypes given as arguments; see `fused.jit.load`."""

import gc
import sys

import torch

from metaplast.base.family import module_ends_with_parent
from metaplast.engines.fused_recurrent.batch import run_smallest

if __name__ == "__main__":
    module_ends_with_parent()
    gc.disable()
    for name in sys.argv[1:]:
        run_smallest(getattr(torch, name))
