"""Meta-learning of synaptic plasticity rules.

>>> from metaplast import discover
>>> print(discover(terms="bio", episodes=200).rule)  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from metaplast import _moved

if TYPE_CHECKING:
    from metaplast.base.errors import UserError as UserError
    from metaplast.discovery.config import DiscoveryConfig as DiscoveryConfig
    from metaplast.discovery.discover import discover as discover
    from metaplast.discovery.observer import Observer as Observer
    from metaplast.discovery.result import Result as Result
    from metaplast.discovery.run import Discovery as Discovery
    from metaplast.engines import Outcome as Outcome
    from metaplast.engines import Problem as Problem
    from metaplast.engines import unroll as unroll
    from metaplast.meta.evaluation import evaluate as evaluate
    from metaplast.online.train import OnlineSettings as OnlineSettings
    from metaplast.online.train import train_online as train_online
    from metaplast.rules.optimizer import RuleOptimizer as RuleOptimizer
    from metaplast.rules.rule import Rule as Rule
    from metaplast.systems.feedback import Feedback as Feedback
    from metaplast.systems.fixed_point import FixedPoint as FixedPoint
    from metaplast.systems.fully_connected import FullyConnected as FullyConnected
    from metaplast.systems.learner import Learner as Learner
    from metaplast.systems.objective import Objective as Objective
    from metaplast.systems.predictive_coding import predictive_coding as predictive_coding
    from metaplast.systems.recurrent import Recurrent as Recurrent
    from metaplast.systems.state import State as State
    from metaplast.systems.system import Examples as Examples
    from metaplast.systems.system import System as System
    from metaplast.systems.timing import Timing as Timing
    from metaplast.tasks.batch import EpisodeBatch as EpisodeBatch
    from metaplast.tasks.library import open_source as open_source
    from metaplast.tasks.library import open_stream as open_stream
    from metaplast.tasks.request import EpisodeRequest as EpisodeRequest
    from metaplast.tasks.request import StreamRequest as StreamRequest
    from metaplast.tasks.source import EpisodeSampler as EpisodeSampler
    from metaplast.tasks.source import EpisodeSource as EpisodeSource
    from metaplast.tasks.source import EpisodeSplit as EpisodeSplit
    from metaplast.terms.algebra import B as B
    from metaplast.terms.algebra import W as W
    from metaplast.terms.algebra import dot as dot
    from metaplast.terms.algebra import fading as fading
    from metaplast.terms.algebra import magnitude as magnitude
    from metaplast.terms.algebra import outer as outer
    from metaplast.terms.algebra import post as post
    from metaplast.terms.algebra import pre as pre
    from metaplast.terms.algebra import rectified as rectified
    from metaplast.terms.algebra import scalar as scalar
    from metaplast.terms.algebra import sign as sign
    from metaplast.terms.algebra import total as total
    from metaplast.terms.algebra import trace as trace
    from metaplast.terms.dense_formula import DenseFormula as DenseFormula
    from metaplast.terms.library import KnownRule as KnownRule
    from metaplast.terms.library import all_terms as all_terms
    from metaplast.terms.library import get_term as get_term
    from metaplast.terms.library import known_rules as known_rules
    from metaplast.terms.synapses import Synapses as Synapses
    from metaplast.terms.term import Term as Term

# The module of each public name. A name is imported on first use, so `import metaplast` is fast and
# Ctrl-C works while a command loads.
_HOMES: Mapping[str, str] = MappingProxyType(
    {
        "B": "terms.algebra",
        "DenseFormula": "terms.dense_formula",
        "Discovery": "discovery.run",
        "DiscoveryConfig": "discovery.config",
        "EpisodeBatch": "tasks.batch",
        "EpisodeRequest": "tasks.request",
        "EpisodeSampler": "tasks.source",
        "EpisodeSource": "tasks.source",
        "EpisodeSplit": "tasks.source",
        "Examples": "systems.system",
        "Feedback": "systems.feedback",
        "FixedPoint": "systems.fixed_point",
        "FullyConnected": "systems.fully_connected",
        "KnownRule": "terms.library",
        "Learner": "systems.learner",
        "Objective": "systems.objective",
        "Observer": "discovery.observer",
        "OnlineSettings": "online.train",
        "Outcome": "engines",
        "Problem": "engines",
        "Recurrent": "systems.recurrent",
        "Result": "discovery.result",
        "Rule": "rules.rule",
        "RuleOptimizer": "rules.optimizer",
        "State": "systems.state",
        "StreamRequest": "tasks.request",
        "Synapses": "terms.synapses",
        "System": "systems.system",
        "Term": "terms.term",
        "Timing": "systems.timing",
        "UserError": "base.errors",
        "W": "terms.algebra",
        "all_terms": "terms.library",
        "discover": "discovery.discover",
        "dot": "terms.algebra",
        "evaluate": "meta.evaluation",
        "fading": "terms.algebra",
        "get_term": "terms.library",
        "known_rules": "terms.library",
        "magnitude": "terms.algebra",
        "open_source": "tasks.library",
        "open_stream": "tasks.library",
        "outer": "terms.algebra",
        "post": "terms.algebra",
        "pre": "terms.algebra",
        "predictive_coding": "systems.predictive_coding",
        "rectified": "terms.algebra",
        "scalar": "terms.algebra",
        "sign": "terms.algebra",
        "total": "terms.algebra",
        "trace": "terms.algebra",
        "train_online": "online.train",
        "unroll": "engines",
    }
)

__all__ = [
    "B",
    "DenseFormula",
    "Discovery",
    "DiscoveryConfig",
    "EpisodeBatch",
    "EpisodeRequest",
    "EpisodeSampler",
    "EpisodeSource",
    "EpisodeSplit",
    "Examples",
    "Feedback",
    "FixedPoint",
    "FullyConnected",
    "KnownRule",
    "Learner",
    "Objective",
    "Observer",
    "OnlineSettings",
    "Outcome",
    "Problem",
    "Recurrent",
    "Result",
    "Rule",
    "RuleOptimizer",
    "State",
    "StreamRequest",
    "Synapses",
    "System",
    "Term",
    "Timing",
    "UserError",
    "W",
    "all_terms",
    "discover",
    "dot",
    "evaluate",
    "fading",
    "get_term",
    "known_rules",
    "magnitude",
    "open_source",
    "open_stream",
    "outer",
    "post",
    "pre",
    "predictive_coding",
    "rectified",
    "scalar",
    "sign",
    "total",
    "trace",
    "train_online",
    "unroll",
]

# Support the module names of 0.1 for one release.
_moved.install()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = importlib.import_module("importlib.metadata").version("metaplast")
    elif name in _HOMES:
        value = getattr(importlib.import_module(f"metaplast.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'metaplast' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
