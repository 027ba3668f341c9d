"""Which terms to keep."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from metaplast.term import Term


def keep_terms(u: Tensor, terms: Sequence[Term], threshold: float) -> list[int]:
    """Return the positions of the terms whose scaled coefficient is not negligible.

    A term is kept if max_ℓ |u_ℓ| > threshold · max over all terms. Units matter: u is θ over the
    term's scale, so that equal u means updates of about equal size.

    Args:
        u: scaled coefficients, [term] or [layer, term].
        terms: as long as the last axis of u.
        threshold: share of the largest, 0 … 1.
    """
    if not terms:
        return []
    sizes = u.abs().reshape(-1, len(terms)).amax(0)
    return [k for k in range(len(terms)) if sizes[k] > threshold * sizes.max()]
