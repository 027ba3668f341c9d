"""Fading: a factor that shrinks while a task is learned, so that plasticity becomes weaker.

    fading(τ) = 1 / (1 + n/τ),    n = steps learned before this one in the task.

It is 1 at the first step and one half after τ steps. Its only input is time, which a synapse can
count by itself, so a term that fades is as local as it was before.
"""

from __future__ import annotations

import re

from metaplast.terms.factors import Scalar
from metaplast.terms.time_constants import MOST_TAU, read_tau, require_tau, written_tau

_SCALAR = re.compile(r"fading_(?P<tau>[0-9]+(?:_[0-9]+)?)")
_EXAMPLE = "fading(250) * outer(post.error, pre.activity)"


def fading(tau: float) -> Scalar:
    """Return the factor 1 / (1 + n/τ), to be multiplied with a formula.

    A step is one example, which may be a whole sequence, or one mini-batch. The factor starts at 1
    in every task.

    Args:
        tau: τ ≥ 1, the number of steps after which the factor is one half.

    Raises:
        FormulaError: if τ is not a number between 1 and 1e9.
    """
    return Scalar(f"fading_{written_tau(require_tau('fading', tau, _EXAMPLE))}")


def fading_of(name: str) -> float | None:
    """Return the τ of a scalar with this name; None if it is not a fading."""
    found = _SCALAR.fullmatch(name)
    tau = None if found is None else read_tau(found["tau"])
    # Accept only the one spelling that `fading` itself writes.
    if tau is None or tau > MOST_TAU:
        return None
    return tau if name == f"fading_{written_tau(tau)}" else None
