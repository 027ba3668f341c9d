"""Which sign the coefficient of each term may have."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metaplast.base.errors import require, unknown_name
from metaplast.base.words import words
from metaplast.meta.settings import SearchSettings
from metaplast.terms.term import Term


def sign_of(term: Term, settings: SearchSettings) -> int:
    """Return 1 if θ ≥ 0 is required, −1 for θ ≤ 0, and 0 if both signs are allowed.

    Args:
        term: the term.
        settings: `positive` and `negative` name terms; `signs` applies to terms that are declared
            nonnegative, such as decay.
    """
    for sign, listed in ((1, settings.positive), (-1, settings.negative)):
        if listed and {term.name, *term.aliases} & set(words("it", listed)):
            return sign
    return int(settings.signs and term.nonnegative)


def signs_of(terms: Sequence[Term], settings: SearchSettings, device: torch.device) -> Tensor:
    """Return the sign that each coefficient must have, see `sign_of`, [term].

    Args:
        terms: the terms.
        settings: the settings of the search.
        device: where the result lives.
    """
    signs = [sign_of(term, settings) for term in terms]
    return torch.tensor(signs, dtype=torch.int64, device=device)


def require_signs(terms: Sequence[Term], settings: SearchSettings) -> None:
    """Check the names in `positive` and `negative`.

    Args:
        terms: the candidates.
        settings: the settings of the search.

    Raises:
        UserError: if a name is not that of a candidate, occurs in both, or contradicts the initial
            coefficient or the declaration of the term.
    """
    by_name = {name: term for term in terms for name in (term.name, *term.aliases)}
    named: dict[str, str] = {}
    for flag, listed in (("--positive", settings.positive), ("--negative", settings.negative)):
        for name in words(flag, listed, "term") if listed else ():
            if name not in by_name:
                raise unknown_name(f"candidate term of {flag}", name, by_name)
            term = by_name[name]
            require(
                named.setdefault(term.name, flag) == flag,
                f"{term.name} is in both --positive and --negative; leave it out of one.",
            )
            require(
                flag == "--positive" or (term.initial <= 0 and not term.nonnegative),
                f"the coefficient of {term.name} begins at {term.initial:g} or is declared "
                f"non-negative, so it cannot be kept from being positive; leave it out of "
                f"--negative.",
            )
            require(
                flag == "--negative" or term.initial >= 0,
                f"the coefficient of {term.name} begins at {term.initial:g}, so it cannot be kept "
                f"from being negative; leave it out of --positive.",
            )
