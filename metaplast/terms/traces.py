"""Traces: low-passed signals, which give synapses a memory of earlier examples.

A trace is a signal like any other. The name of its kind contains what it follows and how slowly:

    >>> trace(pre.activity, tau=20).written
    'pre.activity_trace_20'
    >>> trace(post.activity**2, tau=200).written
    'post.activity_square_trace_200'

Every system offers the traces of the signals that it offers (`metaplast.systems.traced`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import overload

from metaplast.terms.factors import Scalar
from metaplast.terms.fading import fading_of
from metaplast.terms.functions import FUNCTIONS
from metaplast.terms.time_constants import read_tau, require_tau, written_tau
from metaplast.terms.vectors import Mapped, Signal, mapped
from metaplast.terms.written import FormulaError, spelled

_FUNCTIONS = "|".join(name for name in FUNCTIONS if name != "same")
_KIND = re.compile(rf"(?P<kind>\w+?)(?:_(?P<function>{_FUNCTIONS}))?_trace_(?P<tau>\d+(?:_\d+)?)")


@dataclass(frozen=True)
class Trace:
    """What a trace follows: x̄ ← (1 − 1/τ) x̄ + f(x)/τ.

    Attributes:
        signal: x.
        function: the name of f; see `metaplast.terms.functions`.
        tau: τ, in occurrences: examples, or time steps of a sequence.
    """

    signal: Signal
    function: str
    tau: float

    @property
    def followed(self) -> Signal | Mapped:
        """f(x)."""
        return self.signal if self.function == "same" else mapped(self.signal, self.function)

    @property
    def as_signal(self) -> Signal:
        """The trace as a signal."""
        function = "" if self.function == "same" else f"_{self.function}"
        kind = f"{self.signal.kind}{function}_trace_{written_tau(self.tau)}"
        return Signal(self.signal.population, kind)


@overload
def trace(signal: Signal | Mapped, tau: float) -> Signal: ...


@overload
def trace(signal: Scalar, tau: float) -> Scalar: ...


def trace(signal: Signal | Mapped | Scalar, tau: float) -> Signal | Scalar:
    """Return the trace of a signal, of a function of one signal, or of a scalar.

    It is zero when an episode begins, and is updated before it is used, so x̄ contains the present
    value with weight 1/τ. With τ = 1 it is the signal itself.

    Args:
        signal: such as `pre.activity`, `post.activity**2` or `reward`.
        tau: its time constant τ ≥ 1, in examples; in time steps in a network that reads sequences.

    Raises:
        FormulaError: if the signal is not one signal or a function of one, or τ is not between 1
            and 1e9.
    """
    if isinstance(signal, Scalar):
        if fading_of(signal.name) is not None:
            raise FormulaError(
                f"a trace follows what happens, but {signal.written} is a function of time alone; "
                f"multiply the formula by it."
            )
        time = require_tau("a trace", tau, "trace(reward, tau=20)")
        return Scalar(f"{signal.name}_trace_{written_tau(time)}")
    factors = mapped(signal).factors
    if len(factors) != 1:
        raise FormulaError(
            f"a trace follows one signal or a function of one, got {spelled(signal)}; write "
            f"trace(pre.activity, tau=20)."
        )
    time = require_tau("a trace", tau, "trace(pre.activity, tau=20)")
    return Trace(*factors[0], time).as_signal


def trace_of(signal: Signal) -> Trace | None:
    """Return what a trace follows; None if the signal is not a trace."""
    found = _KIND.fullmatch(signal.kind)
    if found is None:
        return None
    tau = read_tau(found["tau"])
    if tau is None:
        return None
    return Trace(Signal(signal.population, found["kind"]), found["function"] or "same", tau)


def scalar_trace_of(name: str) -> tuple[str, float] | None:
    """Return the scalar that a trace of this name follows, and τ; None if it is not a trace."""
    found = _KIND.fullmatch(name)
    if found is None or found["function"]:
        return None
    tau = read_tau(found["tau"])
    return None if tau is None else (found["kind"], tau)
