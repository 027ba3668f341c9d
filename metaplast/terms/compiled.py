"""Compile a rule's terms into one plasticity tensor, so that all terms cost one update together.

With rows a ∈ {y, e, 1} and columns r ∈ {y, e, 1, Mᵀy, Mᵀe} of a matrix M, any sum of terms is

    G_ab = Σ_k θ_k c_k gate_k,      δ = −Σ_d θ_d c_d gate_d,
    V_a  = Σ_b G_ab r_b,            M ← (1 − δ) M + Σ_a a ⊗ V_a:

one update of low rank, whatever the number of terms: the rank is at most 3, plus one for each
function of signals on the row side. Monomials with a power of the weights form a tensor of their
own for each power p, whose update is multiplied by M^p elementwise. An eligibility is a further
matrix, E.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metaplast.terms.change import LowRankUpdate
from metaplast.terms.collected import applied
from metaplast.terms.dense_formula import DenseFormula, dense_update
from metaplast.terms.layout import CollectedTerms, CompiledTerms, Entry, Layout, compile_terms
from metaplast.terms.low_rank import factors, weighted
from metaplast.terms.synapses import Synapses

__all__ = [
    "CollectedTerms", "CompiledTerms", "Entry", "Layout", "LowRankUpdate", "change",
    "compile_terms",
]  # fmt: skip


def change(plasticity: CompiledTerms, theta: Tensor, synapses: Synapses) -> LowRankUpdate:
    """Return the change of a matrix in one step of the rule.

    Args:
        plasticity: the compiled terms.
        theta: coefficients of all the rule's terms, [episode, term].
        synapses: signals before the change.
    """
    growth = rows = columns = None
    if plasticity.entries or plasticity.decays:
        growth, rows, columns = factors(plasticity, theta, synapses)
        rows = None if rows is None else rows.flatten(1, 2)
        columns = None if columns is None else columns.flatten(1, 2)
    return LowRankUpdate(growth, rows, columns, _whole(plasticity, theta, synapses))


def _whole(plasticity: CompiledTerms, theta: Tensor, synapses: Synapses) -> Tensor | None:
    """Return the part of the change that is not of low rank, [episode, row, column], or None."""
    parts: list[Tensor] = []
    if plasticity.dense:
        updates = [
            theta[:, index, None, None] * _dense(name, formula, synapses)
            for index, formula, name in plasticity.dense
        ]
        parts.append(torch.stack(updates).sum(0))
    for power, part in plasticity.weighted:
        update = change(part, theta, synapses)
        assert update.rows is not None
        assert update.columns is not None
        parts.append(update.rows.mT @ update.columns * synapses.operator.tensor**power)
    parts += [applied(terms, theta, synapses) for terms in plasticity.collected]
    total = None
    for matrix in parts:
        total = matrix if total is None else total + matrix
    return total


def _dense(name: str, formula: DenseFormula, synapses: Synapses) -> Tensor:
    """Return the sum of a dense update over occurrences, [episode, row, column]."""
    parts = [
        weighted(dense_update(name, formula, one), one.weight) for one in synapses.occurrences()
    ]
    return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
