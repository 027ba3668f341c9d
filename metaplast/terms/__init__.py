"""The parts of a rule: an algebra of signals, terms written in it, and their compiled form.

A term is declared once as a formula; evaluation, printing, locality and exported code follow from
it.
"""

from metaplast.terms.algebra import B, W, dot, outer, post, pre, scalar, total
from metaplast.terms.dense_formula import DenseFormula
from metaplast.terms.library import KnownRule, all_terms, get_term, known_rules
from metaplast.terms.synapses import Synapses
from metaplast.terms.term import Term

__all__ = [
    "B",
    "DenseFormula",
    "KnownRule",
    "Synapses",
    "Term",
    "W",
    "all_terms",
    "dot",
    "get_term",
    "known_rules",
    "outer",
    "post",
    "pre",
    "scalar",
    "total",
]
