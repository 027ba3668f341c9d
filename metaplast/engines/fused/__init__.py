"""The fused engine. numba is imported when the engine first runs."""

from metaplast.engines.fused.engine import FusedEngine, ReversalError, Settings

__all__ = ["FusedEngine", "ReversalError", "Settings"]
