"""Eligibilities over the occurrences of one example: E ← (1 − 1/τ) E + F at each, then ΔM = m ⊙ E.

Time steps follow each other. With λ = 1 − 1/τ and E₀ before the example,

    Σ_k m_k ⊙ E_k = Σ_j m̂_j ⊙ F_j + λ m̂_1 ⊙ E₀,    m̂_j = m_j + λ m̂_{j+1},

so the matrices E_k and F_k are never formed one by one. The samples of a mini-batch have no order:
each sees E₀ and its own F, and E continues from their mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metaplast.terms.layout import CollectedTerms, CompiledTerms
from metaplast.terms.low_rank import factors
from metaplast.terms.synapses import Held, Synapses

Inner = Sequence[tuple[int, CompiledTerms]]


def held(tau: float | Tensor, inner: Inner, synapses: Synapses, before: Tensor) -> Held:
    """Return an eligibility before and after an example, [episode, row, column].

    Args:
        tau: τ; [episode, 1] if it is learned.
        inner: what it collects; see `layout.inner_terms`.
        synapses: signals.
        before: its value before the example.
    """
    keep, count = 1 - 1 / tau, synapses.count
    whole = keep if isinstance(keep, float) else keep[:, :, None]
    if synapses.weight != 1:  # A mini-batch.
        mean = _collected(inner, synapses, before.new_ones(1, count, 1))
        return Held(before, whole * before + mean, whole)
    weights = _shares(keep, before, count)
    return Held(before, whole**count * before + _collected(inner, synapses, weights), whole)


def _shares(keep: float | Tensor, like: Tensor, count: int) -> Tensor:
    """Return the share of each F_k that is left at the end, [episode or 1, occurrence, 1]."""
    if isinstance(keep, float):
        return like.new_tensor([keep ** (count - 1 - k) for k in range(count)])[None, :, None]
    later = torch.arange(count - 1, -1, -1, dtype=like.dtype, device=like.device)
    return (keep**later)[:, :, None]


def applied(terms: CollectedTerms, theta: Tensor, synapses: Synapses) -> Tensor:
    """Return what the monomials that read an eligibility add to the matrix.

    Args:
        terms: the monomials.
        theta: coefficients of all the rule's terms, [episode, term].
        synapses: signals before the change, and the eligibility.
    """
    before, after, keep = synapses.held[terms.eligibility]
    strength, weight = _modulation(terms, theta, synapses), synapses.weight
    if synapses.count == 1 and weight == 1:
        return strength[:, 0, :, None] * after
    if weight != 1:
        first = strength.sum(1)
        strength = strength / weight  # The collected updates already include the weight.
    else:
        strength = _reversed_filter(strength, keep if isinstance(keep, float) else keep[:, 0])
        first = strength[:, 0]
    return keep * first[:, :, None] * before + _collected(terms.inner, synapses, strength)


def _modulation(terms: CollectedTerms, theta: Tensor, synapses: Synapses) -> Tensor:
    """Return m, the factor of the eligibility at each occurrence, [episode, occurrence, row]."""
    _, rows, columns = factors(terms.outer, theta, synapses)
    assert rows is not None
    assert columns is not None
    # All columns are ones times the strength of the row.
    return (rows * columns[..., :1]).sum(-2)


def _reversed_filter(strength: Tensor, keep: float | Tensor) -> Tensor:
    """Return m̂_j = m_j + λ m̂_{j+1}."""
    found = [strength[:, -1]]
    for k in reversed(range(strength.shape[1] - 1)):
        found.append(strength[:, k] + keep * found[-1])
    return torch.stack(found[::-1], 1)


def _collected(inner: Inner, synapses: Synapses, weights: Tensor) -> Tensor:
    """Return Σ_k weights_k ⊙ F_k, [episode, row, column].

    Args:
        inner: F by powers of the weights.
        synapses: signals.
        weights: [episode or 1, occurrence, row or 1].
    """
    total = None
    for power, part_terms in inner:
        like = synapses.operator.constant
        _, rows, columns = factors(part_terms, like.new_ones(len(like), 1), synapses)
        assert rows is not None
        assert columns is not None
        rows = rows * weights[:, : rows.shape[1], None]
        part = rows.flatten(1, 2).mT @ columns.flatten(1, 2)
        part = part * synapses.operator.tensor**power if power else part
        total = part if total is None else total + part
    assert total is not None
    return total
