"""How the kernel of recurrent networks is compiled; see `fused.jit`.

The compiler may not reorder sums, because `scans.activations` rounds by adding a large number.
"""

from __future__ import annotations

from pathlib import Path

from metaplast.engines.fused import jit
from metaplast.scans import activations

_kernel = jit.Kernel(
    jit.FAST - {"reassoc"},
    Path(__file__).parent, Path(jit.__file__).parent, Path(activations.__file__),
)  # fmt: skip
compiled, entry_point = _kernel.compiled, _kernel.entry_point
