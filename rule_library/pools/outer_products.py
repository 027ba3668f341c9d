"""The pool of every outer product of the algebra on the forward weights, and decay."""

from functools import cache

from metaplast.terms.algebra import W
from metaplast.terms.generated import products as products_of
from metaplast.terms.pool import Pool
from metaplast.terms.term import Term
from rule_library import forward


class Products(Pool):
    """{y, e, 1} ⊗ {y, e, 1, Wᵀy, Wᵀe} and decay; a published term replaces its product."""

    name = "products"
    summary = "{y, e, 1} ⊗ {y, e, 1, Wᵀy, Wᵀe} on W, and decay"
    grows = True

    @cache  # noqa: B019 - one instance.
    def terms(self) -> tuple[Term, ...]:
        """Return the candidates; see `Pool.terms`."""
        known = [value for value in vars(forward).values() if isinstance(value, Term)]
        return (*products_of(W, known), forward.decay)


products = Products()
