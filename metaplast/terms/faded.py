"""Terms that fade: each is another term times `fading(tau)`.

With a term and its faded form, a rule has the coefficient θ_k + θ'_k / (1 + n/τ) at step n. θ_k and
θ'_k are learned and selected like all others, so discovery decides which terms fade, and how far.
"""

from __future__ import annotations

import re
from dataclasses import replace

from metaplast.base.errors import require, shown
from metaplast.terms.fading import fading, fading_of
from metaplast.terms.formula import Formula
from metaplast.terms.term import Term
from metaplast.terms.written import FormulaError

_TERM = re.compile(r"(?P<term>\w+)_fading_(?P<tau>[0-9.e+-]\w*)", re.IGNORECASE | re.ASCII)


def faded(term: Term, tau: float) -> Term:
    """Return a term times `fading(tau)`; its name ends in the factor's, such as `_fading_250`.

    Raises:
        FormulaError: if the term is a torch function, or τ is not a number between 1 and 1e9.
    """
    factor = fading(tau)
    if not isinstance(term.formula, Formula):
        raise FormulaError(
            f"only declared formulas can fade, but {term.name} is a torch function; give it "
            f'scalars=frozenset({{"{factor.name}"}}) and multiply by synapses.scalars in it.'
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


def fades(term: Term) -> bool:
    """Return whether a term has a fading factor."""
    return bool(term.scalars - term.broadcast)


def split_faded(name: str) -> tuple[str, float] | None:
    """Return the name of the term from which a faded term is made, and τ; None for other names.

    Raises:
        UserError: if the name ends in no valid time constant.
    """
    found = _TERM.fullmatch(name)
    if found is None:
        return None
    tau = fading_of(f"fading_{found['tau']}")
    require(
        tau is not None,
        f"a name such as {found['term']}_fading_250 ends in a number of examples from 1 to 1e9, "
        f"got {shown(name)}.",
    )
    assert tau is not None
    return found["term"], tau
