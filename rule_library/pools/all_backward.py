"""The pool of every installed term."""

from metaplast.terms.library import all_terms
from metaplast.terms.pool import Pool
from metaplast.terms.term import Term
from rule_library.pools.all_forward import all_forward


class AllWithBackward(Pool):
    """Every installed term of the forward weights, then those of plastic backward weights."""

    name = "all+backward"
    summary = "every installed term on W, and on B"
    feedback = ("plastic",)

    def terms(self) -> tuple[Term, ...]:
        """Return the candidates; see `Pool.terms`."""
        backward = (t for t in all_terms().values() if t.in_pool and t.is_backward)
        return (*all_forward.terms(), *backward)


all_with_backward = AllWithBackward()
