"""Compile a rule's terms into one plasticity tensor, so that all terms cost one update together.

With rows a ∈ {y, e, 1} and columns r ∈ {y, e, 1, Mᵀy, Mᵀe} of a matrix M, any sum of terms is

    G_ab = Σ_k θ_k c_k gate_k,      δ = −Σ_d θ_d c_d gate_d,
    V_a  = Σ_b G_ab r_b,            M ← (1 − δ) M + Σ_a a ⊗ V_a:

one update of low rank, whatever the number of terms: at most 3, and one more for each function of
signals on the row side. Monomials with a power of the weights form a tensor of their own for each
power p, whose update is multiplied by M^p elementwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from metaplast.base.torch_settings import own_settings
from metaplast.terms.algebra import (
    AnyGate,
    Formula,
    Gate,
    Mapped,
    Matrix,
    Monomial,
    Projection,
    Scalar,
    Signal,
    Vector,
)
from metaplast.terms.change import LowRankUpdate
from metaplast.terms.dense_formula import DenseFormula, dense_update
from metaplast.terms.synapses import Synapses
from metaplast.terms.term import Term

__all__ = ["CompiledTerms", "Entry", "Layout", "LowRankUpdate", "change", "compile_terms"]


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
    """The effect of a rule's terms on one matrix, in declared form.

    Attributes:
        matrix: the matrix that changes.
        rows: row-side vectors in use; their order is the first axis of G.
        columns: column-side vectors in use; the second axis of G.
        gates: scalar products in use.
        scalars: names of the system's scalars in use.
        entries: the monomials that fill G.
        decays: the monomials that make up −δ.
        dense: (term index, formula, the term's name) of terms outside the algebra.
        weighted: (power, tensor) of the monomials with each power of the weights.
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
            with own_settings():  # Cached for all callers, including those that differentiate.
                self._layouts[key] = _layout(self, device, dtype)
        return self._layouts[key]

    @property
    def is_empty(self) -> bool:
        """True if no term changes the matrix."""
        return not (self.entries or self.decays or self.full)

    @property
    def full(self) -> bool:
        """True if the change is not of low rank: dense terms, or powers of the weights."""
        return bool(self.dense or self.weighted)


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
    """Return the plasticity tensor's layout for the terms that change `matrix`.

    Term indices in the result are positions in `terms`, which include the terms of the other
    matrix.

    Args:
        terms: of the rule.
        matrix: the matrix that changes.
        acting: positions of the terms that act on it; None for all terms on `matrix`.
    """
    if acting is None:
        acting = [k for k, term in enumerate(terms) if term.matrix == matrix]
    powers = {m.power for k in acting for m in _monomials(terms[k])} - {0}
    found = _compiled(terms, matrix, acting, 0)
    if not powers:
        return found
    weighted = tuple((p, _compiled(terms, matrix, acting, p)) for p in sorted(powers))
    return replace(found, weighted=weighted)


def _monomials(term: Term) -> tuple[Monomial, ...]:
    return term.formula.monomials if isinstance(term.formula, Formula) else ()


def _compiled(
    terms: Sequence[Term], matrix: Matrix, acting: Sequence[int], power: int
) -> CompiledTerms:
    """Return the tensor of the monomials with one power of the weights; dense terms have none."""
    rows: dict[Signal | Mapped, int] = {}
    columns: dict[Vector, int] = {}
    gates, scalars = _gates([m for k in acting for m in _monomials(terms[k]) if m.power == power])
    used: tuple[AnyGate, ...] = (*gates, *scalars)
    entries: list[Entry] = []
    decays: list[Entry] = []
    dense: list[tuple[int, DenseFormula, str]] = []
    for index in acting:
        term = terms[index]
        if not isinstance(term.formula, Formula):
            dense += [(index, term.formula, term.name)] if power == 0 else []
            continue
        for monomial in (m for m in term.formula.monomials if m.power == power):
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


def change(plasticity: CompiledTerms, theta: Tensor, synapses: Synapses) -> LowRankUpdate:
    """Return the change of a matrix in one step of the rule.

    Args:
        plasticity: the compiled terms.
        theta: coefficients of all the rule's terms, [episode, term].
        synapses: signals before the change.
    """
    vectors = _vectors(plasticity, synapses)
    growth = rows = columns = dense = None
    if plasticity.entries or plasticity.decays:
        scalars = [synapses.scalars[name] for name in plasticity.scalars]
        strengths = _strengths(plasticity, theta, vectors, scalars)
        count = len(plasticity.entries)
        if plasticity.decays:
            growth = _growth(plasticity, strengths[..., count:], synapses.weight)
        if plasticity.entries:
            entries = _weighted(strengths[..., :count], synapses.weight)
            rows = torch.stack([vectors[row] for row in plasticity.rows], -2)
            readable = torch.stack([vectors[column] for column in plasticity.columns], -2)
            columns = (_tensor(plasticity, entries) @ readable).flatten(1, 2)
            rows = rows.flatten(1, 2)
    if plasticity.dense:
        updates = [
            theta[:, index, None, None] * _dense(name, formula, synapses)
            for index, formula, name in plasticity.dense
        ]
        dense = torch.stack(updates).sum(0)
    for power, part in plasticity.weighted:
        update = change(part, theta, synapses)
        assert update.rows is not None
        assert update.columns is not None
        product = update.rows.mT @ update.columns * synapses.operator.tensor**power
        dense = product if dense is None else dense + product
    return LowRankUpdate(growth, rows, columns, dense)


def _dense(name: str, formula: DenseFormula, synapses: Synapses) -> Tensor:
    """Return the sum of a dense update over occurrences, [episode, row, column]."""
    parts = [
        _weighted(dense_update(name, formula, one), one.weight) for one in synapses.occurrences()
    ]
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)


def _weighted(value: Tensor, weight: float) -> Tensor:
    return value if weight == 1 else weight * value


def _growth(plasticity: CompiledTerms, strengths: Tensor, weight: float) -> Tensor:
    """Return −δ of each episode: gated decays summed over occurrences, ungated decays once.

    `strengths` is [episode, occurrence, decay].
    """
    total = _weighted(strengths, weight).sum(1)
    if strengths.shape[1] == 1 and weight == 1:
        return total.sum(-1)
    ungated = [not decay.gates for decay in plasticity.decays]
    once = torch.tensor(ungated, dtype=torch.bool, device=total.device)
    return torch.where(once, strengths[:, 0], total).sum(-1)


def _strengths(
    plasticity: CompiledTerms,
    theta: Tensor,
    vectors: dict[Vector, Tensor],
    scalars: Sequence[Tensor],
) -> Tensor:
    """Return θ · coefficient · Π gates of each entry, then of each decay, at each occurrence.

    Shape: [episode, occurrence, monomial].
    """
    layout = plasticity.layout(theta.device, theta.dtype)
    count = next((value.shape[1] for value in (*vectors.values(), *scalars)), 1)
    strengths = (theta[:, layout.terms] * layout.coefficients)[:, None]
    if not (plasticity.gates or scalars):
        return strengths.expand(-1, count, -1)
    left = [vectors[gate.left] * vectors[gate.right] for gate in plasticity.gates]
    ones = theta.new_ones(theta.shape[0], count)
    factors = torch.stack([*(product.sum(-1) for product in left), *scalars, ones], -1)
    for gate in layout.gates:
        strengths = strengths * factors[..., gate]
    return strengths


def _tensor(plasticity: CompiledTerms, strengths: Tensor) -> Tensor:
    """Return G at each occurrence, [episode, occurrence, row, column]."""
    layout = plasticity.layout(strengths.device, strengths.dtype)
    # One product for all episodes and occurrences.
    cells = strengths.flatten(0, 1) @ layout.scatter
    shape = (*strengths.shape[:2], len(plasticity.rows), len(plasticity.columns))
    return cells.view(shape)


def _vectors(plasticity: CompiledTerms, synapses: Synapses) -> dict[Vector, Tensor]:
    """Return every vector in use, [episode, occurrence, neuron]; one pass forms all products."""
    needed = dict.fromkeys(plasticity.vectors)
    projected = [vector for vector in needed if isinstance(vector, Projection)]
    values: dict[Vector, Tensor] = {
        v: synapses.signal(v) for v in needed if not isinstance(v, Projection)
    }
    if not projected:
        return values
    rows = torch.stack([synapses.signal(p.signal) for p in projected], -2)
    arrived = synapses.operator.transposed(rows.flatten(1, 2))
    parts = arrived.view(*rows.shape[:3], -1).unbind(-2)
    return {**values, **dict(zip(projected, parts, strict=True))}
