"""Time constants τ of traces, eligibilities and fading: their range, and how names write them."""

from __future__ import annotations

import math
from numbers import Real

from metaplast.terms.written import FormulaError, spelled

# Beyond this, a trace hardly moves in any run, and its number would need an exponent.
MOST_TAU = 1e9


def require_tau(what: str, tau: object, example: str) -> float:
    """Return a time constant as a float, after checking it.

    Raises:
        FormulaError: if `tau` is not a number between 1 and 1e9.
    """
    number = isinstance(tau, Real) and not isinstance(tau, bool)
    if not number or not 1 <= tau <= MOST_TAU:  # type: ignore[operator]
        raise FormulaError(
            f"{what}'s tau is a number of examples between 1 and 1e9, got {spelled(tau)}; write "
            f"{example}."
        )
    return float(tau)  # type: ignore[arg-type]


def written_tau(tau: float) -> str:
    """Return a time constant as part of a name."""
    return f"{tau:.12g}".replace(".", "_")


def read_tau(text: str) -> float | None:
    """Return the time constant that part of a name denotes; None if it is below 1."""
    tau = float(text.replace("_", "."))
    return tau if math.isfinite(tau) and tau >= 1 else None
