"""How the fused kernel is compiled: flags, the disk cache, and the compiling process.

This module imports numba; it is imported only when the engine is first used.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba import extending
from numba.core import event, types

from metaplast import scans
from metaplast.base.family import run_module
from metaplast.base.locks import one_at_a_time
from metaplast.base.source_code import named_by_source

Function = TypeVar("Function", bound=Callable[..., Any])

# Full fast math would let the compiler assume that no NaN occurs; these four flags do not.
FAST = frozenset({"reassoc", "contract", "nsz", "arcp"})
# numba compiles a function again for each literal argument, but not for these.
NO, ZERO, ONE = (cast(int, np.int64(value)) for value in (-1, 0, 1))
_LINE = "metaplast: compiling the fused engine; this happens once, and the result is kept on disk …"
_WAIT = "metaplast: waiting for another process to compile the fused engine …"


class Kernel:
    """How a kernel is compiled.

    The names of its entry points contain a hash of its files, so a change of any file makes numba
    compile the kernel again.

    Args:
        flags: the flags of fast math.
        sources: files of the kernel, and folders with such files.
    """

    def __init__(self, flags: frozenset[str], *sources: Path) -> None:
        self._flags, self._sources = flags, sources

    def compiled(self, function: Function) -> Function:
        """Return `function` compiled by numba on first use, without the interpreter lock."""
        return cast(Function, self._jit(function, cached=False))

    def entry_point(self, function: Function) -> Function:
        """Return `function` compiled and kept on disk across runs."""
        named = named_by_source(function, *self._sources)
        return cast(Function, self._jit(named, cached=True))

    def _jit(self, function: Callable[..., Any], *, cached: bool) -> Any:
        njit: Any = numba.njit  # numba's stub omits two of the options.
        # Wrappers of inner functions would never be used.
        return njit(
            **self.options, cache=cached, no_cpython_wrapper=not cached, no_cfunc_wrapper=True
        )(function)

    @property
    def options(self) -> dict[str, Any]:
        """The options with which numba compiles each function."""
        # The caller owns every array, so counting references to them (`_nrt`) would only cost time,
        # mostly compile time.
        return {
            "fastmath": set(self._flags), "error_model": "numpy", "nogil": True, "_nrt": False,
        }  # fmt: skip


_kernel = Kernel(FAST, Path(__file__).parent, Path(scans.__file__).parent)
compiled, entry_point = _kernel.compiled, _kernel.entry_point


def inlined(function: Function) -> Function:
    """Return `function`, inlined into its callers, in any kernel.

    Use it for functions that only call others. At each level of calls, numba optimises everything
    below it again, so deep nesting would multiply the compile time.
    """
    return cast(Function, numba.njit(inline="always")(function))


def where_given(field: str, function: Function, otherwise: Function) -> Function:
    """Return a kernel function that calls one of two, depending on whether the program has a part.

    numba compiles only the one that is called.

    Args:
        field: the name of the part; the program, which is the first argument, has None there if it
            lacks the part.
        function: called if the program has the part.
        otherwise: called, with the same arguments, if it does not.
    """

    def called(*arguments: Any) -> Any:
        """Stand for one of the two functions in compiled code; Python never calls this."""
        raise NotImplementedError("only compiled code calls this")

    def choose(*arguments: Any) -> Any:
        """Return what to compile for arguments of some numba types."""
        program = arguments[0]
        found = program.types[program.fields.index(field)]
        return otherwise if isinstance(found, types.NoneType) else function

    choose.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    options: Any = _kernel.options
    extending.overload(called, jit_options=options)(choose)
    return cast(Function, called)


class _NotOnDiskError(Exception):
    """The kernel is not on disk and has to be compiled."""


class _Refusal(event.Listener):
    """Raises `_NotOnDiskError` when numba is about to compile a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def on_start(self, event: event.Event) -> None:
        if event.data["dispatcher"] is self._function:
            raise _NotOnDiskError

    def on_end(self, event: event.Event) -> None:
        """Do nothing: the compilation that ended was done for other callers."""


def load(function: Callable[..., Any], call: Callable[[], None], module: str, *to: str) -> None:
    """Load `function` from disk for the argument types that `call` gives it; compile it if needed.

    To compile, this prints a line to stderr and starts another process, `python -m module *to`. If
    several processes need the same kernel, the first one compiles it and the others wait.

    This process does not compile, because the first run on a machine would then give other last
    digits than later runs. numba links inner functions by name: a process that compiles runs copies
    of them that were optimised separately, and that round differently from the copies on disk.
    """
    if _loads(function, call):
        return
    with _alone(function, *to):
        if _loads(function, call):  # Another process has compiled it meanwhile.
            return
        print(_LINE, file=sys.stderr, flush=True)
        with suppress(OSError):
            run_module(module, *to)
        if not _loads(function, call):
            call()  # No cache or subprocess: compile here; the last digits may differ.


def _alone(function: Any, *to: str) -> AbstractContextManager[None]:
    """Return a context in which no other process compiles the same kernel."""
    folder = function.stats.cache_path
    if folder is None:  # Compiled code cannot be kept, so there is nothing to wait for.
        return nullcontext()
    path = Path(folder, f"compiling-{'-'.join(to)}.lock")
    return one_at_a_time(path, lambda: print(_WAIT, file=sys.stderr, flush=True))


def _loads(function: Callable[..., Any], call: Callable[[], None]) -> bool:
    """Make a call that must not compile `function`; return False if it would have to."""
    try:
        with event.install_listener("numba:compile", _Refusal(function)):
            call()
    except _NotOnDiskError:
        return False
    return True
