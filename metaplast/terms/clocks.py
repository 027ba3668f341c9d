"""The time constants of terms: find them, and return terms with other time constants.

>>> slow = Term("slow", outer(post.error, trace(pre.activity, tau=20)), "made up")
>>> [clock.name for clock in clocks_of([slow])]
['pre.activity_trace_20']
>>> retimed([slow], {clocks_of([slow])[0]: 25.0})[0].spell()
'eₗ ⟨yₗ₋₁, τ=25⟩ᵀ'
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import mul

from metaplast.terms.algebra import (
    AnyGate,
    Eligibility,
    Formula,
    Gate,
    Mapped,
    Monomial,
    Projection,
    Scalar,
    Signal,
    Vector,
    trace,
)
from metaplast.terms.dense_formula import DenseFormula
from metaplast.terms.notation import ASCII, TEXT, Notation
from metaplast.terms.term import Term
from metaplast.terms.traces import scalar_trace_of, trace_of

Remembered = Signal | Scalar | Eligibility
# Further digits of a learned time constant are noise.
DIGITS = 6


@dataclass(frozen=True)
class Clock:
    """A time constant of some terms, shared by all traces of one signal with the same τ.

    Attributes:
        of: the trace of a signal or a scalar, or the eligibility, as written in the terms.
    """

    of: Remembered

    @property
    def tau(self) -> float:
        """τ in the terms, in occurrences."""
        if isinstance(self.of, Eligibility):
            return self.of.tau
        if isinstance(self.of, Scalar):
            found = scalar_trace_of(self.of.name)
            assert found is not None
            return found[1]
        followed = trace_of(self.of)
        assert followed is not None
        return followed.tau

    @property
    def name(self) -> str:
        """A name in plain letters, the same in every rule that has it."""
        if isinstance(self.of, Eligibility):
            return f"eligibility_{self.tau:g} of {ASCII.formula(self.of.formula)}"
        return self.of.name if isinstance(self.of, Scalar) else self.of.written

    def spell(self, notation: Notation = TEXT) -> str:
        """Return the trace or eligibility that has the time constant, as equations print it."""
        if isinstance(self.of, Eligibility):
            inside = notation.formula(self.of.formula)
            return notation.eligibility.format(inside, tau=f"{self.tau:g}")
        return notation.gate(self.of) if isinstance(self.of, Scalar) else notation.signal(self.of)


Taus = Mapping[Clock, float]


def clocks_of(terms: Iterable[Term]) -> tuple[Clock, ...]:
    """Return the time constants in the formulas of some terms, each once, in order.

    Time constants of traces that torch functions read cannot be changed, so they are left out.
    """
    terms = tuple(terms)
    found = [c for t in terms if isinstance(t.formula, Formula) for c in _clocks(t.formula)]
    functions = [t.formula for t in terms if not isinstance(t.formula, Formula)]
    constant = {part for f in functions for part in (*f.vectors, *map(Scalar, f.scalars))}
    return tuple(clock for clock in dict.fromkeys(found) if clock.of not in constant)


def _clocks(formula: Formula) -> Iterator[Clock]:
    for monomial in formula.monomials:
        gates = [part for gate in monomial.gates for part in gate.vectors or (gate,)]
        for part in (monomial.row, monomial.column, *gates):
            if isinstance(part, Scalar):
                if scalar_trace_of(part.name):
                    yield Clock(part)
            elif part is not None:
                yield from (Clock(signal) for signal in _signals(part) if trace_of(signal))
        if monomial.eligibility is not None:
            yield from _clocks(monomial.eligibility.formula)
            yield Clock(monomial.eligibility)


def _signals(vector: Vector | Gate) -> tuple[Signal, ...]:
    if isinstance(vector, Signal):
        return (vector,)
    if isinstance(vector, Projection):
        return (vector.signal,)
    assert isinstance(vector, Mapped)
    return vector.signals


def retimed(terms: Iterable[Term], taus: Taus) -> tuple[Term, ...]:
    """Return terms with other time constants, rounded to `DIGITS` digits; the rest are unchanged.

    Args:
        terms: the terms.
        taus: τ ≥ 1 by the time constants that the terms have now.
    """
    rounded = {clock: float(f"{tau:.{DIGITS}g}") for clock, tau in taus.items()}
    return tuple(
        replace(term, formula=_formula(term.formula, rounded))
        if isinstance(term.formula, Formula) and set(clocks_of([term])) & set(taus)
        else term
        for term in terms
    )


def differ_in_tau_alone(one: Term, other: Term) -> bool:
    """Return whether two terms differ only in their time constants."""
    first, second = (_untimed(term) for term in (one, other))
    return bool(clocks_of([one])) and first == second


def _untimed(term: Term) -> Formula | DenseFormula:
    (found,) = retimed([term], dict.fromkeys(clocks_of([term]), 2.0))
    return found.formula


def _formula(formula: Formula, taus: Taus) -> Formula:
    parts = (_monomial(monomial, taus) for monomial in formula.monomials)
    return Formula(formula.matrix, tuple(parts))


def _monomial(monomial: Monomial, taus: Taus) -> Monomial:
    signal = _timed_signals(taus)
    kept, row, column = monomial.eligibility, monomial.row, monomial.column
    new_row = None if row is None else _vector(row, signal)
    assert not isinstance(new_row, Projection)
    return replace(
        monomial,
        gates=tuple(_gate(gate, signal, taus) for gate in monomial.gates),
        row=new_row,
        column=None if column is None else _vector(column, signal),
        eligibility=None if kept is None else _eligibility(kept, taus),
    )


def _eligibility(kept: Eligibility, taus: Taus) -> Eligibility:
    # With τ = 1 it forgets everything at each occurrence, but remains an eligibility.
    return Eligibility(_formula(kept.formula, taus), taus.get(Clock(kept), kept.tau))


def _timed_signals(taus: Taus) -> Callable[[Signal], Signal]:
    def timed(signal: Signal) -> Signal:
        followed = trace_of(signal)
        if followed is None or Clock(signal) not in taus:
            return signal
        return trace(followed.followed, taus[Clock(signal)])

    return timed


def _vector(vector: Vector, signal: Callable[[Signal], Signal]) -> Vector:
    if isinstance(vector, Signal):
        return signal(vector)
    if isinstance(vector, Projection):
        return replace(vector, signal=signal(vector.signal))
    product = reduce(mul, (Mapped(((signal(each), name),)) for each, name in vector.factors))
    assert isinstance(product, Mapped)
    return product


def _gate(gate: AnyGate, signal: Callable[[Signal], Signal], taus: Taus) -> AnyGate:
    if isinstance(gate, Gate):
        return Gate(_vector(gate.left, signal), _vector(gate.right, signal))
    found = scalar_trace_of(gate.name)
    if found is None or Clock(gate) not in taus:
        return gate
    return trace(Scalar(found[0]), taus[Clock(gate)])
