"""One step of a learner and its adjoint, for many episodes at once.

A step changes M by low-rank factors, M⁺ = (1 + g) M + Σ a ⊗ V_a. Its adjoint is the gradient of
the scalar ⟨M̄⁺, change⟩ to θ and to the products M x and Mᵀ u from which the signals are made
(`operator.Tape`), and

    M̄ = (1 + g) M̄⁺ + Σ p̄ ⊗ x + Σ u ⊗ p̄

is once more one low-rank update in place. No matrix-sized temporary is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaplast.learner import Learner, Operators
from metaplast.operator import Operator, Product, Tape, Tapped
from metaplast.plasticity import Change

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


class Taken(NamedTuple):
    """What a step did: the change of each moving matrix, and the products formed on the way."""

    changes: list[Change]
    products: list[Tensor]

    def numel(self) -> int:
        """Return how many numbers it holds."""
        changed = sum(change.numel() for change in self.changes)
        return changed + sum(product.numel() for product in self.products)


class _Slot(NamedTuple):
    """Where a product's gradient goes: which matrix, if it moves, and on which side."""

    matrix: int | None
    is_projection: bool


class _Pull(NamedTuple):
    """What carries an adjoint over one step: M̄ ← (1 + growth) M̄ + rowsᵀ · columns + dense.

    `theta` is θ's part of the gradient, [episode, layer, term]. The others hold one entry for each
    moving matrix, None where there is nothing to do.
    """

    theta: Tensor
    growth: list[Tensor | None]
    rows: list[Tensor | None]
    columns: list[Tensor | None]
    dense: Sequence[Tensor | None]

    def apply(self, adjoint: Sequence[Tensor]) -> None:
        """Carry the adjoint over the step, in place, one pass for each matrix."""
        for matrix, *change in zip(adjoint, *self[1:], strict=True):
            Change(*change).apply(matrix, out=matrix)


class Stepper:
    """One step of a learner, forward and backward, on flat lists of matrices: W's, then B's.

    Args:
        learner: whose step.
        wrap: what to do to the two functions, such as compiling them.
    """

    def __init__(self, learner: Learner, wrap: Wrap = lambda function: function) -> None:
        self.learner = learner
        self._layers = learner.network.layers
        plastic = learner.backward_plasticity
        # Cached properties hold a lock while they are computed, which torch cannot trace: be first.
        _ = learner.feedback, learner.lowest_error
        self.moving = slice(None) if not plastic.is_empty else slice(self._layers)
        forward = learner.forward_plasticity
        self._grows = [bool(forward.decays)] * self._layers
        if not plastic.is_empty:
            self._grows += [bool(plastic.decays)] * len(learner.feedback.shapes(learner.network))
        self.has_dense = bool(forward.dense or plastic.dense)
        self.take = wrap(self._take)
        self._pull = wrap(self._differentiate)
        self._slots: list[_Slot] = []

    def _operators(self, matrices: Sequence[Operator]) -> Operators:
        return Operators(tuple(matrices[: self._layers]), tuple(matrices[self._layers :]))

    def _tapped(self, matrices: Sequence[Tensor], tape: Tape) -> Operators:
        moving = range(len(matrices))[self.moving]
        return self._operators([
            Tapped(m, i if i in moving else None, tape) for i, m in enumerate(matrices)
        ])  # fmt: skip

    def _take(self, matrices: Sequence[Tensor], theta: Tensor, x: Tensor, label: Tensor) -> Taken:
        """Return what the step does."""
        tape = Tape()
        forward, backward = self.learner.changes(self._tapped(matrices, tape), theta, x, label)
        return Taken(forward + backward, [product.value for product in tape.products])

    def _scalar(
        self,
        matrices: Sequence[Tensor],
        theta: Tensor,
        example: tuple[Tensor, Tensor],
        adjoint: Sequence[Tensor],
        tape: Tape,
    ) -> tuple[Tensor, list[Tensor | None], list[Product]]:
        """Return ⟨adjoint, change⟩, each matrix's growth, and the products on the way."""
        moving = matrices[self.moving]
        forward, backward = self.learner.changes(self._tapped(matrices, tape), theta, *example)
        changes = forward + backward
        parts = [
            c.contract(m.detach(), a) for c, m, a in zip(changes, moving, adjoint, strict=True)
        ]
        growth = [None if c.growth is None else c.growth.detach() for c in changes]
        return torch.stack(parts).sum(), growth, tape.products

    def _differentiate(
        self,
        matrices: Sequence[Tensor],
        theta: Tensor,
        example: tuple[Tensor, Tensor],
        adjoint: Sequence[Tensor],
        products: list[Tensor],
    ) -> _Pull:
        """Return what carries `adjoint` over a step; gradients are taken within, in one graph."""
        moving, still = list(matrices[self.moving]), list(matrices[len(adjoint) :])

        def scalar(theta: Tensor, known: list[Tensor], dense: list[Tensor]) -> tuple[Tensor, Any]:
            value, growth, recalled = self._scalar(
                [*(dense or moving), *still], theta, example, adjoint, Tape(known)
            )
            # Only tensors may leave a function that is differentiated.
            present = [rate for rate in growth if rate is not None]
            return value, (present, [product.given for product in recalled])

        (theta_part, to_products, dense), (present, given) = _gradient(
            scalar, theta, products, moving if self.has_dense else []
        )
        rates = iter(present)
        growth = [next(rates) if grows else None for grows in self._grows]
        rows, columns = _gather(self._slots, given, to_products, len(adjoint))
        return _Pull(theta_part, growth, rows, columns, dense or [None] * len(adjoint))

    def pull_back(
        self,
        matrices: Sequence[Tensor],
        theta: Tensor,
        example: tuple[Tensor, Tensor],
        adjoint: list[Tensor],
        products: list[Tensor],
    ) -> Tensor:
        """Carry the adjoint of the state after a step to before it, in place; return θ's part.

        Args:
            matrices: the state before the step.
            theta: [episode, layer, term].
            example: x [episode, pixel] and label [episode].
            adjoint: of each moving matrix after the step; on return, before it.
            products: those that were formed when the step was taken.
        """
        if not self.learner.terms:
            return torch.zeros_like(theta)
        if not self._slots:
            # Which products a step forms follows from the learner: learn it from one trial.
            _, _, formed = self._scalar(matrices, theta, example, adjoint, Tape())
            self._slots = [_Slot(p.matrix, p.is_projection) for p in formed]
        pull: _Pull = self._pull(matrices, theta, example, adjoint, products)
        pull.apply(adjoint)
        return pull.theta


def _gradient(
    scalar: Callable[..., tuple[Tensor, Any]],
    theta: Tensor,
    products: list[Tensor],
    dense: list[Tensor],
) -> tuple[tuple[Tensor, list[Tensor], list[Tensor]], Any]:
    """Return the gradient of a function to its three arguments, and what it returns besides."""
    if torch.compiler.is_compiling():
        # Traced into the one graph; without a compiler it doubles the time of every operation.
        traced: tuple[tuple[Tensor, list[Tensor], list[Tensor]], Any] = torch.func.grad(
            scalar, argnums=(0, 1, 2), has_aux=True
        )(theta, products, dense)
        return traced
    leaves = [tensor.detach().requires_grad_() for tensor in (theta, *products, *dense)]
    count = 1 + len(products)
    with torch.enable_grad():
        value, rest = scalar(leaves[0], leaves[1:count], leaves[count:])
    first, *others = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    return (first, others[: len(products)], others[len(products) :]), rest


def _gather(
    slots: Sequence[_Slot], given: Sequence[Tensor], gradients: Sequence[Tensor], matrices: int
) -> tuple[list[Tensor | None], list[Tensor | None]]:
    """Return the factors of Σ p̄ ⊗ x + Σ u ⊗ p̄ for each matrix."""
    rows: list[Tensor | None] = []
    columns: list[Tensor | None] = []
    for index in range(matrices):
        pairs = [
            (vector, gradient) if slot.is_projection else (gradient, vector)
            for slot, vector, gradient in zip(slots, given, gradients, strict=True)
            if slot.matrix == index
        ]
        rows.append(torch.cat([row for row, _ in pairs], 1) if pairs else None)
        columns.append(torch.cat([column for _, column in pairs], 1) if pairs else None)
    return rows, columns
