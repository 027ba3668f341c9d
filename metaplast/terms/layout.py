"""The layout of a rule's terms on one matrix: the form in which they are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from metaplast.base.torch_settings import own_settings
from metaplast.terms.algebra import (
    AnyGate,
    Eligibility,
    Formula,
    Gate,
    Mapped,
    Matrix,
    Monomial,
    Scalar,
    Signal,
    Vector,
)
from metaplast.terms.dense_formula import DenseFormula
from metaplast.terms.term import Term


@dataclass(frozen=True)
class Entry:
    """One monomial's entry in the tensor: θ[term] · coefficient · Π gates, at (row, column).

    `gates` index `CompiledTerms.gates`, then its `scalars`; in decays, row and column are None.
    """

    term: int
    coefficient: float
    gates: tuple[int, ...]
    row: int | None
    column: int | None

    def cell(self, width: int) -> int:
        """Return the entry's position in G in row-major order, with `width` columns per row."""
        return (self.row or 0) * width + (self.column or 0)


class Layout(NamedTuple):
    """A plasticity's entries, then decays, as tensors.

    `terms` [monomial] and `coefficients` [monomial] are the index into θ and the factor. Each of
    `gates` [monomial] indexes the gates, then scalars; the last index means no gate. `scatter`
    [entry, cell] sums entries into the cells of G.
    """

    terms: Tensor
    coefficients: Tensor
    gates: tuple[Tensor, ...]
    scatter: Tensor


@dataclass(frozen=True)
class CompiledTerms:
    """The effect of a rule's terms on one matrix, in the form that engines evaluate.

    Attributes:
        matrix: the matrix that changes.
        rows: row-side vectors in use; their order is the first axis of G.
        columns: column-side vectors in use; the second axis of G.
        gates: scalar products in use.
        scalars: names of the system's scalars in use.
        entries: the monomials that fill G.
        decays: the monomials that make up −δ.
        dense: (term index, formula, the term's name) of terms outside the algebra.
        weighted: (power, compiled terms) of the monomials with each power of the weights.
        collected: each eligibility in use, with the monomials that read it.
    """

    matrix: Matrix
    rows: tuple[Signal | Mapped, ...]
    columns: tuple[Vector, ...]
    gates: tuple[Gate, ...]
    scalars: tuple[str, ...]
    entries: tuple[Entry, ...]
    decays: tuple[Entry, ...]
    dense: tuple[tuple[int, DenseFormula, str], ...]
    weighted: tuple[tuple[int, CompiledTerms], ...] = ()
    collected: tuple[CollectedTerms, ...] = ()
    _layouts: dict[tuple[torch.device, torch.dtype], Layout] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """Every vector that the tensor's rows, columns and gates read."""
        sides = (side for gate in self.gates for side in gate.vectors)
        return (*self.rows, *self.columns, *sides)

    def layout(self, device: torch.device, dtype: torch.dtype) -> Layout:
        """Return the entries and decays as tensors, made once for each device and dtype."""
        key = (device, dtype)
        if key not in self._layouts:
            with own_settings():  # Callers that differentiate use the cache, too.
                self._layouts[key] = _layout(self, device, dtype)
        return self._layouts[key]

    def prepare(self, device: torch.device, dtype: torch.dtype) -> None:
        """Make every layout now: a compiled step would make it again at every call."""
        for part in (self, *(inner for _, inner in self.weighted)):
            part.layout(device, dtype)
        for collected in self.collected:
            for part in (collected.outer, *(inner for _, inner in collected.inner)):
                part.layout(device, dtype)

    @property
    def is_empty(self) -> bool:
        """True if no term changes the matrix."""
        return not (self.entries or self.decays or self.full)

    @property
    def full(self) -> bool:
        """True if the change is not of low rank: dense terms, powers, or eligibilities."""
        return bool(self.dense or self.weighted or self.collected)


@dataclass(frozen=True)
class CollectedTerms:
    """An eligibility E ← (1 − 1/τ) E + F, and the monomials that read it.

    Attributes:
        eligibility: E's declaration.
        inner: F by powers of the weights, with the coefficient 1 as the only θ.
        outer: what multiplies E, as products of a row vector with ones.
    """

    eligibility: Eligibility
    inner: tuple[tuple[int, CompiledTerms], ...]
    outer: CompiledTerms


def _layout(plasticity: CompiledTerms, device: torch.device, dtype: torch.dtype) -> Layout:
    monomials = (*plasticity.entries, *plasticity.decays)
    depth = max((len(m.gates) for m in monomials), default=0)
    none = len(plasticity.gates) + len(plasticity.scalars)
    gates = [[m.gates[d] if d < len(m.gates) else none for m in monomials] for d in range(depth)]
    width = len(plasticity.columns)
    cells = len(plasticity.rows) * width
    scatter = torch.zeros(len(plasticity.entries), cells, dtype=dtype, device="cpu")
    for index, entry in enumerate(plasticity.entries):
        scatter[index, entry.cell(width)] = 1
    return Layout(
        torch.tensor([m.term for m in monomials], device=device, dtype=torch.int64),
        torch.tensor([m.coefficient for m in monomials], device=device, dtype=dtype),
        tuple(torch.tensor(g, device=device, dtype=torch.int64) for g in gates),
        scatter.to(device),
    )


def compile_terms(
    terms: Sequence[Term], matrix: Matrix, acting: Sequence[int] | None = None
) -> CompiledTerms:
    """Return the compiled form of the terms that change `matrix`.

    Term indices in the result are positions in `terms`, which include the terms of the other
    matrix.

    Args:
        terms: the terms of the rule.
        matrix: the matrix that changes.
        acting: positions of the terms that act on it; None for all terms on `matrix`.
    """
    if acting is None:
        acting = [k for k, term in enumerate(terms) if term.matrix == matrix]
    pairs = [(k, m) for k in acting for m in _monomials(terms[k])]
    dense = [
        (k, f, terms[k].name) for k in acting if not isinstance(f := terms[k].formula, Formula)
    ]
    plain = [(k, m) for k, m in pairs if m.eligibility is None]
    found = _compiled(matrix, [(k, m) for k, m in plain if not m.power], dense)
    powers = sorted({m.power for _, m in plain} - {0})
    weighted = tuple((p, _of_power(matrix, plain, p)) for p in powers)
    return replace(found, weighted=weighted, collected=_collected(matrix, pairs))


def _monomials(term: Term) -> tuple[Monomial, ...]:
    return term.formula.monomials if isinstance(term.formula, Formula) else ()


Pairs = Sequence[tuple[int, Monomial]]


def _of_power(matrix: Matrix, pairs: Pairs, power: int) -> CompiledTerms:
    return _compiled(matrix, [(k, m) for k, m in pairs if m.power == power])


def _collected(matrix: Matrix, pairs: Pairs) -> tuple[CollectedTerms, ...]:
    kept = dict.fromkeys(m.eligibility for _, m in pairs if m.eligibility is not None)
    return tuple(
        CollectedTerms(
            eligibility,
            inner_terms(eligibility),
            _compiled(matrix, [(k, m) for k, m in pairs if m.eligibility == eligibility]),
        )
        for eligibility in kept
    )


@cache
def inner_terms(eligibility: Eligibility) -> tuple[tuple[int, CompiledTerms], ...]:
    """Return what an eligibility collects, by powers of the weights."""
    formula = eligibility.formula
    pairs = [(0, monomial) for monomial in formula.monomials]
    powers = sorted({m.power for m in formula.monomials})
    return tuple((power, _of_power(formula.matrix, pairs, power)) for power in powers)


def _compiled(
    matrix: Matrix, pairs: Pairs, dense: Sequence[tuple[int, DenseFormula, str]] = ()
) -> CompiledTerms:
    """Return the compiled form of monomials, each given with the index of its term."""
    rows: dict[Signal | Mapped, int] = {}
    columns: dict[Vector, int] = {}
    gates, scalars = _gates([m for _, m in pairs])
    used: tuple[AnyGate, ...] = (*gates, *scalars)
    entries: list[Entry] = []
    decays: list[Entry] = []
    for index, monomial in pairs:
        places = tuple(used.index(gate) for gate in monomial.gates)
        if monomial.row is None or monomial.column is None:
            decays.append(Entry(index, monomial.coefficient, places, None, None))
            continue
        row = rows.setdefault(monomial.row, len(rows))
        column = columns.setdefault(monomial.column, len(columns))
        entries.append(Entry(index, monomial.coefficient, places, row, column))
    return CompiledTerms(
        matrix, tuple(rows), tuple(columns), gates, tuple(gate.name for gate in scalars),
        tuple(entries), tuple(decays), tuple(dense),
    )  # fmt: skip


def _gates(monomials: Sequence[Monomial]) -> tuple[tuple[Gate, ...], tuple[Scalar, ...]]:
    """Return the scalar products and the scalars that monomials use, in order."""
    used = dict.fromkeys(gate for monomial in monomials for gate in monomial.gates)
    gates = tuple(gate for gate in used if isinstance(gate, Gate))
    return gates, tuple(gate for gate in used if isinstance(gate, Scalar))
