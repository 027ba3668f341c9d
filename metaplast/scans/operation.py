"""Compiled loops as operations that torch's compiler calls without tracing into them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, ClassVar

import torch


@cache
def kernel() -> ModuleType | None:
    """Return the compiled loops; None without a working numba."""
    try:
        from metaplast.scans import kernel as found
    except (ImportError, ValueError):
        return None
    return found


class Operation:
    """A function that torch's compiler treats as opaque, once `prepare_for_compiler` was called.

    Outside of the compiler, the function is called directly, because a call through torch takes
    tens of microseconds.
    """

    made: ClassVar[list[Operation]] = []

    def __init__(self, function: Callable[..., Any]) -> None:
        self._plain, self._opaque = function, function
        self._shapes: Callable[..., Any] | None = None
        self.made.append(self)

    def shapes(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register the function that only allocates the results."""
        self._shapes = function
        return function

    def prepare(self) -> None:
        """Register the function with torch's compiler."""
        if self._opaque is self._plain and self._shapes is not None:
            name = f"metaplast::{self._plain.__name__.strip('_')}"
            opaque = torch.library.custom_op(name, self._plain, mutates_args=())
            opaque.register_fake(self._shapes)
            self._opaque = opaque

    def __call__(self, *given: Any) -> Any:
        """Call the function; inside the compiler, call the operation made from it."""
        return (self._opaque if torch.compiler.is_compiling() else self._plain)(*given)


def prepare_for_compiler() -> bool:
    """Register all operations with torch's compiler; return whether there are compiled loops.

    This loads the compiler, which takes seconds. The modules that define operations must have been
    imported before.
    """
    if kernel() is None:
        return False
    for operation in Operation.made:
        operation.prepare()
    return True
