"""Engines unroll episodes: online learning, the query loss, and the exact gradient ∂loss/∂θ."""

from metaplast.engines.choose import ENGINES, choose_engine, get_engine, unroll
from metaplast.engines.contract import Engine, Outcome, Problem

__all__ = ["ENGINES", "Engine", "Outcome", "Problem", "choose_engine", "get_engine", "unroll"]
