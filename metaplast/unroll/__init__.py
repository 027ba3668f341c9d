"""Unroll episodes: online learning, the query loss and its exact gradient to θ, by any engine."""

from metaplast.unroll.contract import Engine, Outcome, Problem
from metaplast.unroll.engines import ENGINES, choose_engine, get_engine, unroll

__all__ = ["ENGINES", "Engine", "Outcome", "Problem", "choose_engine", "get_engine", "unroll"]
