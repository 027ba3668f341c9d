"""Unroll episodes: online learning, the query loss and its exact gradient to θ, by any engine."""

from metaplast.unroll.contract import Engine, Outcome, Problem
from metaplast.unroll.engines import ENGINES, get_engine, unroll

__all__ = ["ENGINES", "Engine", "Outcome", "Problem", "get_engine", "unroll"]
