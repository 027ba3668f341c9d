"""Names that change with the source code, for compiled functions that are cached on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def named_by_source(function: Function, *sources: Path) -> Function:
    """Add a hash of source files to the qualified name of a function, and return the function.

    numba notices if a cached function's own file changes, but not if another file changes whose
    functions it calls. With this hash in the function's name, stale code never runs.

    Args:
        function: the function, before it is compiled.
        sources: the files on which it depends, and folders with such files.
    """
    function.__qualname__ = f"{function.__qualname__}_{_fingerprint(sources)}"
    return function


def _fingerprint(sources: tuple[Path, ...]) -> str:
    files = (sorted(p.glob("*.py")) if p.is_dir() else [p] for p in sources)
    contents = b"".join(file.read_bytes() for each in files for file in each)
    return hashlib.sha256(contents).hexdigest()[:16]
