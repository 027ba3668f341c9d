"""Shared basics: user errors, files, seeds, threads, checkpoints and the plug-in registry.

It imports nothing else of metaplast. Plug-ins may use `UserError`, `require` and `generator`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from metaplast.base.errors import UserError, require

if TYPE_CHECKING:
    from metaplast.base.seeds import generator

__all__ = [
    "UserError",
    "generator",
    "require",
]


def __getattr__(name: str) -> Any:
    """Load `generator` when it is first used: it needs torch, which takes seconds to load."""
    if name != "generator":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from metaplast.base.seeds import generator

    return generator
