"""The column vectors of an update: at each occurrence, a small matrix times vectors, in one pass.

    V_a = Σ_b G_ab r_b,    r̄_b = Σ_a G_ab V̄_a,    Ḡ_ab = ⟨V̄_a, r_b⟩.

torch would copy all r_b into one tensor and multiply thousands of tiny matrices. This module
imports numba.
"""

from __future__ import annotations

from typing import Any

from metaplast.scans.compiling import reordered

Array = Any


@reordered
def mix(strengths: Array, vectors: Array, out: Array) -> None:
    """out [n, a, m] ← strengths [n, a, b] times vectors, a tuple of b arrays [n, m]."""
    for k in range(out.shape[0]):
        for a in range(out.shape[1]):
            row = out[k, a]
            g, r = strengths[k, a, 0], vectors[0][k]
            for i in range(row.shape[0]):
                row[i] = g * r[i]
            for b in range(1, strengths.shape[2]):
                g, r = strengths[k, a, b], vectors[b][k]
                for i in range(row.shape[0]):
                    row[i] += g * r[i]


@reordered
def mix_adjoint(
    strengths: Array, vectors: Array, bar: Array, strengths_bar: Array, vectors_bar: Array
) -> None:
    """The adjoint of `mix`: strengths_bar and vectors_bar."""
    for k in range(bar.shape[0]):
        for b in range(strengths.shape[2]):
            r, to = vectors[b][k], vectors_bar[b][k]
            for a in range(bar.shape[1]):
                g, row = strengths[k, a, b], bar[k, a]
                total = row[0] * 0
                for i in range(row.shape[0]):
                    total += row[i] * r[i]
                strengths_bar[k, a, b] = total
                if a == 0:
                    for i in range(row.shape[0]):
                        to[i] = g * row[i]
                else:
                    for i in range(row.shape[0]):
                        to[i] += g * row[i]
