"""The change of a matrix in one step, in factors of low rank."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LowRankUpdate(NamedTuple):
    """The change of a matrix in one step, in factors: M ← (1 + growth) M + rowsᵀ · columns + dense.

    `growth` [episode] is −δ; `rows` [episode, factor, row] and `columns` [episode, factor, column]
    hold a and V_a of all occurrences, concatenated. Each is None if no term needs it.
    """

    growth: Tensor | None
    rows: Tensor | None
    columns: Tensor | None
    dense: Tensor | None

    def apply(self, matrix: Tensor, out: Tensor | None = None) -> Tensor:
        """Return the matrix after the step, [episode, row, column], in `out` if given."""
        if self.growth is not None:
            matrix = torch.mul(matrix, (1 + self.growth)[:, None, None], out=out)
        if self.rows is not None and self.columns is not None:
            matrix = torch.baddbmm(matrix, self.rows.mT, self.columns, out=out)
        if self.dense is not None:
            matrix = torch.add(matrix, self.dense, out=out)
        if out is not None and matrix is not out:
            matrix = out.copy_(matrix)
        return matrix

    def numel(self) -> int:
        """Return the number of elements of all factors."""
        return sum(factor.numel() for factor in self if factor is not None)

    def undo(self, matrix: Tensor) -> None:
        """Undo the change in place: M ← (M⁺ − rowsᵀ · columns) / (1 + growth).

        Raises:
            ValueError: if the change has a dense part, which may depend on M in any way.
        """
        if self.dense is not None:
            raise ValueError("a dense change cannot be undone")
        if self.rows is not None and self.columns is not None:
            matrix.baddbmm_(self.rows.mT, self.columns, alpha=-1)
        if self.growth is not None:
            matrix.div_((1 + self.growth)[:, None, None])

    def gradients(self, matrix: Tensor, adjoint: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the factors, each with the gradient of ⟨adjoint, change⟩ with respect to it.

        The products with the adjoint are computed here, in the fast memory order, and held
        constant. Matrix and adjoint get no gradient.
        """
        found = []
        if self.growth is not None:
            found.append((self.growth, (adjoint * matrix).sum((-1, -2))))
        if self.rows is not None and self.columns is not None:
            found.append((self.rows, self.columns.detach() @ adjoint.mT))
            found.append((self.columns, self.rows.detach() @ adjoint))
        if self.dense is not None:
            found.append((self.dense, adjoint))
        return found
