"""Rules, which are terms with coefficients: as files, equations, torch optimizers, notebook tables.

`differentiable` registers the optimizer's twin with `higher`; import it only to use `higher`.
"""

from metaplast.rules.optimizer import RuleOptimizer
from metaplast.rules.rule import Rule

__all__ = [
    "Rule",
    "RuleOptimizer",
]
