"""The pools of every product of powers of a synapse's own signals and weight, up to a degree."""

from functools import cache

from metaplast.terms.algebra import W
from metaplast.terms.generated import monomials
from metaplast.terms.pool import Pool
from metaplast.terms.term import Term
from rule_library import forward
from rule_library.pools.outer_products import products


class Monomials(Pool):
    """yᵃ ⊙ eᵇ ⊗ yᶜ ⊙ eᵈ ⊙ Wᶠ up to a degree; all are local, and decay is one of them.

    Args:
        degree: the largest sum of the exponents.
    """

    grows = True

    def __init__(self, degree: int) -> None:
        self.name = f"monomials:{degree}"  # type: ignore[misc]
        self.summary = f"yᵃeᵇ ⊗ yᶜeᵈ Wᶠ on W with a + … + f ≤ {degree}"  # type: ignore[misc]
        self._degree = degree

    @cache  # noqa: B019 - few instances.
    def terms(self) -> tuple[Term, ...]:
        """Return the candidates; see `Pool.terms`."""
        known = [value for value in vars(forward).values() if isinstance(value, Term)]
        lower = monomials_2.terms() if self._degree > 2 else products.terms()
        return monomials(W, self._degree, (*known, *lower))


monomials_2 = Monomials(2)
monomials_3 = Monomials(3)
