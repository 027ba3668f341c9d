"""The pool of every outer product of the algebra on the forward weights, plain and gated."""

from functools import cache

from metaplast.terms.algebra import W
from metaplast.terms.generated import gated
from metaplast.terms.pool import Pool
from metaplast.terms.term import Term
from rule_library import forward
from rule_library.pools.outer_products import products


class ProductsAndGates(Pool):
    """The products and decay on W, then each of them times each gate of the algebra."""

    name = "products*gates"
    summary = "the products on W, and each times every scalar product of two of their vectors"
    grows = True

    @cache  # noqa: B019 - one instance.
    def terms(self) -> tuple[Term, ...]:
        """Return the candidates; see `Pool.terms`."""
        known = [value for value in vars(forward).values() if isinstance(value, Term)]
        return (*products.terms(), *gated(W, known))

    def waiting(self) -> frozenset[str]:
        """Return the names of the terms with a gate; see `Pool.waiting`."""
        return frozenset(t.name for t in self.terms()) - {t.name for t in products.terms()}


products_and_gates = ProductsAndGates()
