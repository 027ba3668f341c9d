"""The engines by name. The module of an engine is imported when it is first requested."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import torch
from torch import Tensor

from metaplast.base.errors import UserError, unknown_name
from metaplast.engines.contract import Engine, Outcome, Problem
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.tasks.batch import EpisodeBatch

# Name → module:class. "auto" takes the first engine in AUTO that supports the learner.
ENGINES: Mapping[str, str] = MappingProxyType(
    {
        "reference": "metaplast.engines.reference:ReferenceEngine",
        "batched": "metaplast.engines.batched:BatchedEngine",
        "fused": "metaplast.engines.fused.engine:FusedEngine",
        "compiled": "metaplast.engines.batched:CompiledEngine",
    }
)
AUTO = ("fused", "batched")


@cache
def get_engine(name: str) -> Engine:
    """Return the engine called `name`.

    Raises:
        UserError: if there is no such engine; the message suggests the nearest name.
    """
    if name not in ENGINES:
        raise unknown_name("engine", name, ("auto", *ENGINES))
    module, _, attribute = ENGINES[name].partition(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)()
    return engine


def choose_engine(name: str, learner: Learner, device: torch.device) -> Engine:
    """Return the engine called `name`; for "auto", the fastest that supports the learner.

    Raises:
        UserError: if the name is unknown, or the engine does not support the learner.
    """
    if name != "auto":
        engine = get_engine(name)
        refusal = engine.refusal(learner, device)
        if refusal is not None:
            raise UserError(refusal)
        return engine
    return next(e for e in map(get_engine, AUTO) if e.refusal(learner, device) is None)


def unroll(
    learner: Learner,
    theta: Tensor,
    state: State,
    episodes: EpisodeBatch,
    *,
    engine: str = "auto",
    gradient: bool = True,
) -> Outcome:
    """Return loss, score and the exact gradient of the loss with respect to θ, per episode.

    Args:
        learner: the system and the rule's terms.
        theta: the rule's coefficients, [term] or [site, term]. Engines with `takes_each` also
            accept [episode, site, term].
        state: the initial state of each episode, as `learner.draw` returns it.
        episodes: support and query sets.
        engine: "auto" or the name of an engine; all return the same result, up to rounding.
        gradient: whether to compute the gradient.

    Raises:
        UserError: if the arguments do not fit together, the engine is unknown or does not support
            the learner, or a gradient is requested for a system that has none.
    """
    problem = Problem(learner, theta, state, episodes)
    device = episodes.support_x.device
    return choose_engine(engine, learner, device).run(problem, gradient=gradient)
