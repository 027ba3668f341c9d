"""Pools of candidate terms: one module each, imported here so that `metaplast.terms` finds them."""

from rule_library.pools.all_backward import all_with_backward
from rule_library.pools.all_forward import all_forward
from rule_library.pools.gated_products import products_and_gates
from rule_library.pools.monomials import monomials_2, monomials_3
from rule_library.pools.outer_products import products
from rule_library.pools.outer_products_backward import products_with_backward

__all__ = [
    "all_forward",
    "all_with_backward",
    "monomials_2",
    "monomials_3",
    "products",
    "products_and_gates",
    "products_with_backward",
]
