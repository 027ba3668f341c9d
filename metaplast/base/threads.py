"""The number of torch's threads."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "OMP_NUM_THREADS"


@contextmanager
def torch_on_one_thread() -> Iterator[None]:
    """Keep torch from starting threads, even in threads that first use it here.

    This does not load torch. If torch is first loaded inside the block, it stays on one thread.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        # Torch reads the variable once, when it is loaded.
        value = os.environ.get(_VARIABLE)
        os.environ[_VARIABLE] = "1"
        try:
            yield
        finally:
            if value is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = value
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
