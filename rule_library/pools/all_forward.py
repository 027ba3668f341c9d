"""The pool of every installed forward term."""

from metaplast.terms.library import all_terms
from metaplast.terms.pool import Pool
from metaplast.terms.term import Term


class AllForward(Pool):
    """Every installed term of the forward weights, except those with `in_pool=False`."""

    name = "all"
    summary = "every installed term on W"

    def terms(self) -> tuple[Term, ...]:
        """Return the candidates; see `Pool.terms`."""
        return tuple(t for t in all_terms().values() if t.in_pool and not t.is_backward)


all_forward = AllForward()
