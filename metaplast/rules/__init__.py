"""Terms with coefficients: a rule as a file, an equation, a torch optimizer, a notebook table.

`differentiable` registers the optimizer's twin with `higher`; import it only to use `higher`.
"""

from metaplast.rules.optimizer import RuleOptimizer
from metaplast.rules.rule import Rule

__all__ = [
    "Rule",
    "RuleOptimizer",
]
