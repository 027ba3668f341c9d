"""Shared basics: user errors, files, seeds, threads, checkpoints and the plug-in registry.

It imports nothing else of metaplast. Plug-ins may use `UserError`, `require` and `generator`.
"""

from metaplast.base.errors import UserError, require
from metaplast.base.seeds import generator

__all__ = [
    "UserError",
    "generator",
    "require",
]
