"""Terms that fade: each is another term times `fading(tau)`.

With a term and its faded form, a rule has the coefficient θ_k + θ'_k / (1 + t/τ) at step t. Both
are learned and selected like all others, so discovery decides which terms fade, and how far.
"""

from __future__ import annotations

import re
from dataclasses import replace

from metaplast.terms.fading import fading, fading_of
from metaplast.terms.formula import Formula
from metaplast.terms.term import Term
from metaplast.terms.written import FormulaError

_TERM = re.compile(r"(?P<term>\w+)_(?P<scalar>fading_\d+(?:_\d+)?)")


def faded(term: Term, tau: float) -> Term:
    """Return a term times `fading(tau)`; its name ends in the factor's, such as `_fading_250`.

    Raises:
        FormulaError: if the term is a torch function, or τ is not a number between 1 and 1e9.
    """
    factor = fading(tau)
    if not isinstance(term.formula, Formula):
        raise FormulaError(
            f"only declared formulas can fade, but {term.name} is a torch function; multiply by "
            f'synapses.scalars["{factor.name}"] inside it.'
        )
    return replace(
        term,
        name=f"{term.name}_{factor.name}",
        formula=factor * term.formula,
        citation=f"{term.citation}; fading by metaplast",
        summary=f"{term.summary or term.name}, fading in {tau:g} steps",
        aliases=(),
        in_pool=False,
    )


def split_faded(name: str) -> tuple[str, float] | None:
    """Return the name of the term that a faded term is made of, and τ; None for another name."""
    found = _TERM.fullmatch(name)
    tau = None if found is None else fading_of(found["scalar"])
    return None if found is None or tau is None else (found["term"], tau)
