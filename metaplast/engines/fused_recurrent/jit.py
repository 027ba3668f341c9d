"""How the kernel of recurrent networks is compiled; see `fused.jit`.

Sums are not reordered: the activations of `scans.activations` round by adding a large number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba

from metaplast.engines.fused import vector_code
from metaplast.scans import activations

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Return `function` compiled by numba on first use, without the interpreter lock."""
    return cast(Function, _jit(function, cached=False))


def entry_point(function: Function) -> Function:
    """Return `function` compiled and kept on disk; its name changes with any file of the kernel."""
    function.__qualname__ = f"{function.__qualname__}_{_fingerprint()}"
    return cast(Function, _jit(function, cached=True))


def _jit(function: Callable[..., Any], *, cached: bool) -> Any:
    njit: Any = numba.njit  # numba's stub omits two of the options.
    return njit(
        fastmath={"contract", "nsz", "arcp"}, error_model="numpy", nogil=True, cache=cached,
        no_cpython_wrapper=not cached, no_cfunc_wrapper=True, _nrt=False,
    )(function)  # fmt: skip


@cache
def _fingerprint() -> str:
    others = (Path(str(module.__file__)) for module in (vector_code, activations))
    files = [*sorted(Path(__file__).parent.glob("*.py")), *others]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
