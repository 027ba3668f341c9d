"""The fused engine: numba is imported when it is first run, not before."""

from metaplast.unroll.fused.engine import FusedEngine, ReversalError, Settings

__all__ = ["FusedEngine", "ReversalError", "Settings"]
