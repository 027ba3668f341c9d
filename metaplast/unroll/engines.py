"""The engines by name; each module is imported when its engine is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

import torch
from torch import Tensor

from metaplast.episode import EpisodeBatch
from metaplast.errors import UserError, unknown_name
from metaplast.learner import Learner, State
from metaplast.unroll.contract import Engine, Outcome, Problem

# Name → module:class. `auto` takes the first of AUTO that serves the problem.
ENGINES: Mapping[str, str] = MappingProxyType(
    {
        "reference": "metaplast.unroll.reference:ReferenceEngine",
        "batched": "metaplast.unroll.batched:BatchedEngine",
        "fused": "metaplast.unroll.fused.engine:FusedEngine",
        "compiled": "metaplast.unroll.batched:CompiledEngine",
    }
)
AUTO = ("fused", "batched")


@cache
def get_engine(name: str) -> Engine:
    """Return the engine called `name`.

    Raises:
        UserError: if there is none; suggests the nearest name.
    """
    if name not in ENGINES:
        raise unknown_name("engine", name, ("auto", *ENGINES))
    module, _, attribute = ENGINES[name].partition(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)()
    return engine


def choose_engine(name: str, learner: Learner, device: torch.device) -> Engine:
    """Return the engine called `name`, or for "auto" the fastest that serves the learner.

    Raises:
        UserError: if the name is unknown or the engine refuses the learner.
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
    """Return loss, accuracy and the exact gradient to θ of each episode.

    Args:
        learner: network, feedback and the rule's terms.
        theta: the rule's coefficients, [term] or [layer, term].
        state: explicit initial weights, as `learner.draw` gives them.
        episodes: support and query sets.
        engine: "auto" or the name of one; all give the same answer.
        gradient: whether to differentiate.

    Raises:
        UserError: if shapes do not fit, or the engine is unknown or refuses the learner.
    """
    problem = Problem(learner, theta, state, episodes)
    device = episodes.support_x.device
    return choose_engine(engine, learner, device).run(problem, gradient=gradient)
