"""Meta-learning of synaptic plasticity rules.

>>> from metaplast import discover
>>> print(discover(terms="bio", episodes=200).rule)  # doctest: +SKIP
"""

from importlib.metadata import version

from metaplast.algebra import B, W, dot, outer, post, pre, total
from metaplast.config import DiscoveryConfig
from metaplast.discovery import Discovery, discover
from metaplast.episode import (
    EpisodeBatch,
    EpisodeRequest,
    EpisodeSampler,
    EpisodeSource,
    EpisodeSplit,
)
from metaplast.errors import UserError
from metaplast.evaluation import evaluate
from metaplast.learner import Learner, State
from metaplast.library import KnownRule, all_terms, get_term, known_rules, open_source
from metaplast.network import FullyConnected
from metaplast.optimizer import RuleOptimizer
from metaplast.result import Result
from metaplast.rule import Rule
from metaplast.term import DenseFormula, Synapses, Term
from metaplast.unroll import Outcome, Problem, unroll

__version__ = version("metaplast")

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
    "FullyConnected",
    "KnownRule",
    "Learner",
    "Outcome",
    "Problem",
    "Result",
    "Rule",
    "RuleOptimizer",
    "State",
    "Synapses",
    "Term",
    "UserError",
    "W",
    "all_terms",
    "discover",
    "dot",
    "evaluate",
    "get_term",
    "known_rules",
    "open_source",
    "outer",
    "post",
    "pre",
    "total",
    "unroll",
]
