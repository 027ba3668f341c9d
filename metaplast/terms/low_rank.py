"""The factors of low rank of a rule's declared terms: rows and columns of each occurrence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metaplast.scans.mixed import mixed
from metaplast.terms.algebra import Projection, Vector, pre
from metaplast.terms.layout import CompiledTerms
from metaplast.terms.synapses import Synapses


class Factors(NamedTuple):
    """The products Σ a ⊗ V_a of the entries at each occurrence, and −δ of the decays.

    `rows` [episode, occurrence, a, row] and `columns` [episode, occurrence, a, column] are None
    without entries, `growth` [episode] is None without decays. Trailing occurrences at which all
    columns are zero are left out.
    """

    growth: Tensor | None
    rows: Tensor | None
    columns: Tensor | None


def factors(plasticity: CompiledTerms, theta: Tensor, synapses: Synapses) -> Factors:
    """Return the factors of a matrix's change; the weight of occurrences is part of the columns.

    Args:
        plasticity: the compiled terms; powers, dense terms and eligibilities are ignored.
        theta: coefficients of all the rule's terms, [episode, term].
        synapses: signals before the change.
    """
    vectors = _vectors(plasticity, synapses)
    growth = rows = columns = None
    scalars = [synapses.scalars[name] for name in plasticity.scalars]
    strengths = _strengths(plasticity, theta, vectors, scalars)
    count = len(plasticity.entries)
    if plasticity.decays:
        growth = _growth(plasticity, strengths[..., count:], synapses.weight)
    if plasticity.entries:
        # At occurrences without an input, pre.activity is zero and adds nothing.
        some = slice(synapses.arriving if plasticity.columns == (pre.activity,) else None)
        entries = weighted(strengths[:, some, :count], synapses.weight)
        rows = torch.stack([vectors[row][:, some] for row in plasticity.rows], -2)
        readable = [vectors[column][:, some] for column in plasticity.columns]
        columns = mixed(_tensor(plasticity, entries), readable)
    return Factors(growth, rows, columns)


def weighted(value: Tensor, weight: float) -> Tensor:
    """Return a value times the weight of an occurrence."""
    return value if weight == 1 else weight * value


def _growth(plasticity: CompiledTerms, strengths: Tensor, weight: float) -> Tensor:
    """Return −δ of each episode: gated decays summed over occurrences, ungated decays once.

    `strengths` is [episode, occurrence, decay].
    """
    total = weighted(strengths, weight).sum(1)
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
