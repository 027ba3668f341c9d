"""The pool of every outer product of the algebra on forward and backward weights, and decay."""

from functools import cache

from metaplast.terms.algebra import B
from metaplast.terms.generated import products as products_of
from metaplast.terms.pool import Pool
from metaplast.terms.term import Term
from rule_library import backward
from rule_library.pools.outer_products import products


class ProductsWithBackward(Pool):
    """The products on W, then their mirror images {y, e, 1} ⊗ {y, e, 1, Bᵀy, Bᵀe} on B."""

    name = "products+backward"
    summary = "the products on W, and their mirror images on B"
    feedback = ("plastic",)
    grows = True

    @cache  # noqa: B019 - one instance.
    def terms(self) -> tuple[Term, ...]:
        """Return the candidates; see `Pool.terms`."""
        known = [value for value in vars(backward).values() if isinstance(value, Term)]
        return (*products.terms(), *products_of(B, known), backward.backward_decay)


products_with_backward = ProductsWithBackward()
