"""Weight matrices as the signals meet them: products with vectors, and nothing else.

A network, a feedback and the declared terms touch a matrix only through M x and Mᵀ u. So the
gradient to M is a sum of outer products, one for each product formed. A `Tape` records
them; the batched engine then adds them all in one pass instead of one pass and a temporary each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


class Operator:
    """A batch of matrices, [episode, row, column]."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    @property
    def tensor(self) -> Tensor:
        """The matrices themselves, differentiable; for dense terms."""
        return self._tensor

    @property
    def constant(self) -> Tensor:
        """The matrices, held constant in the gradient."""
        return self._tensor.detach()

    def carry(self, x: Tensor) -> Tensor:
        """Return M x: [episode, sample, column] → [episode, sample, row]."""
        return x @ self._tensor.mT

    def project(self, u: Tensor) -> Tensor:
        """Return Mᵀ u: [episode, sample, row] → [episode, sample, column]."""
        return u @ self._tensor


class Fixed(Operator):
    """Matrices without a gradient of their own: only what they are multiplied with has one."""

    def carry(self, x: Tensor) -> Tensor:
        """Return M x."""
        return _affine(_zero(x), x, self.constant.mT)

    def project(self, u: Tensor) -> Tensor:
        """Return Mᵀ u."""
        return _affine(_zero(u), u, self.constant)


class _Affine(torch.autograd.Function):
    """start + given · right with `right` constant, forward and backward one library call each.

    torch's compiler turns a product with a single row, of which a step has many, into loops that
    form the row anew for every column, ten times slower; a product added to something it leaves
    to the library.
    """

    @staticmethod
    def forward(start: Tensor, given: Tensor, right: Tensor) -> Tensor:
        return torch.baddbmm(start, given, right)

    @staticmethod
    def setup_context(
        ctx: Any,
        inputs: tuple[Tensor, Tensor, Tensor],
        output: Tensor,  # noqa: ARG004 - torch's name
    ) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,), (right,) = gradients, ctx.saved_tensors
        return gradient, torch.baddbmm(_zero(gradient), gradient, right.mT), None


def _affine(start: Tensor, given: Tensor, right: Tensor) -> Tensor:
    product: Tensor = _Affine.apply(start, given, right)
    return product


def _zero(like: Tensor) -> Tensor:
    """Return a zero for each episode, to which any product can be added."""
    return like.new_zeros(len(like), 1, 1)


@dataclass(frozen=True)
class Product:
    """A product that was formed: of which matrix, which kind, from what, and its tap."""

    matrix: int
    is_projection: bool
    given: Tensor
    tap: Tensor


class Tape:
    """Records the products of one step and adds a tap, a tensor of zeros, to each.

    With p̄ the gradient to the tap, the gradient to M is Σ p̄ ⊗ x over products M x plus
    Σ u ⊗ p̄ over products Mᵀ u.

    Args:
        taps: one for each product, in the order in which they are formed; fresh ones where
            none are given.
    """

    def __init__(self, taps: Sequence[Tensor] | None = None) -> None:
        self._taps = taps
        self.products: list[Product] = []

    def record(self, matrix: int, is_projection: bool, given: Tensor, right: Tensor) -> Tensor:
        """Return given · right + tap and remember how it came about."""
        if self._taps is None:
            tap = given.new_zeros(*given.shape[:-1], right.shape[-1], requires_grad=True)
        else:
            tap = self._taps[len(self.products)]
        self.products.append(Product(matrix, is_projection, given.detach(), tap))
        return _affine(tap, given, right)


class Tapped(Operator):
    """Matrices whose products go on a tape; constant, but for the `tensor` dense terms read.

    Args:
        tensor: the matrices.
        index: what the tape calls them.
        tape: where products are recorded.
    """

    def __init__(self, tensor: Tensor, index: int, tape: Tape) -> None:
        super().__init__(tensor)
        self._index = index
        self._tape = tape

    def carry(self, x: Tensor) -> Tensor:
        """Return M x + tap."""
        return self._tape.record(self._index, False, x, self.constant.mT)

    def project(self, u: Tensor) -> Tensor:
        """Return Mᵀ u + tap."""
        return self._tape.record(self._index, True, u, self.constant)
