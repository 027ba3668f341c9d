"""One step of a learner and its adjoint, for many episodes at once.

A step changes M by low-rank factors, M⁺ = (1 + g) M + Σ a ⊗ V_a. Its adjoint is the gradient of
the scalar ⟨M̄⁺, change⟩ to θ and to the products M x and Mᵀ u from which the signals are made
(`operator.ProductTape`), and

    M̄ = (1 + g) M̄⁺ + Σ p̄ ⊗ x + Σ u ⊗ p̄

is also one low-rank update in place. No matrix-sized temporary is made. Vectors that a system
carries from step to step are part of the same scalar, ⟨c̄⁺, c⁺⟩.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaplast.systems.learner import Learner, Step
from metaplast.systems.state import View
from metaplast.systems.system import Examples
from metaplast.terms.change import LowRankUpdate
from metaplast.terms.operator import Product, ProductTape, RecordedOperator

Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


class StepRecord(NamedTuple):
    """The result of a step: each moving matrix's change, the products formed on the way, and the
    carried vectors."""

    changes: list[LowRankUpdate]
    products: list[Tensor]
    carry: list[Tensor]

    def numel(self) -> int:
        """Return how many numbers it holds."""
        changed = sum(change.numel() for change in self.changes)
        vectors = (*self.products, *self.carry)
        return changed + sum(vector.numel() for vector in vectors)


class Before(NamedTuple):
    """The state at the start of a step: all matrices, and the carried vectors."""

    matrices: Sequence[Tensor]
    carry: Sequence[Tensor]


class Start(NamedTuple):
    """Everything that a step depends on: the state before it, θ [episode, site, term], and the
    step's example."""

    before: Before
    theta: Tensor
    example: Examples


class _Slot(NamedTuple):
    """The target of a product's gradient: which matrix, if it moves, and which side."""

    matrix: int | None
    is_projection: bool


class _Pull(NamedTuple):
    """The map of an adjoint over one step: M̄ ← (1 + growth) M̄ + rowsᵀ · columns + dense.

    `theta` is θ's part of the gradient, [episode, site, term]; `carry` is the adjoint of the
    carried vectors before the step. The others hold one entry for each moving matrix, or None if
    there is nothing to do.
    """

    theta: Tensor
    carry: list[Tensor]
    growth: list[Tensor | None]
    rows: list[Tensor | None]
    columns: list[Tensor | None]
    dense: Sequence[Tensor | None]

    def apply(self, adjoint: Sequence[Tensor]) -> None:
        """Carry the adjoint over the step, in place, one pass for each matrix."""
        for matrix, *change in zip(adjoint, *self[2:], strict=True):
            LowRankUpdate(*change).apply(matrix, out=matrix)


class Stepper:
    """One step of a learner, forward and backward, on lists of moving, then fixed, matrices.

    Args:
        learner: the learner that takes the step.
        wrap: applied to the step and to its adjoint, for example to compile them.
        scans: whether a recurrence over time may be one operation; see `metaplast.scans`.
        joint: whether that holds for a recurrence through several matrices, too.

    Attributes:
        moving: names of the matrices that a step changes.
        fixed: names of the others.
        carried: names of the vectors that the system carries from step to step.
        has_dense: whether a change is dense: such a change may depend on its matrix in any way and
            cannot be undone.
    """

    def __init__(
        self,
        learner: Learner,
        wrap: Wrap = lambda function: function,
        *,
        scans: bool = True,
        joint: bool = True,
    ) -> None:
        self.learner = learner
        self._scans, self._joint = scans, joint
        self.moving = learner.moving
        shapes = learner.system.shapes
        self.fixed = tuple(name for name in shapes if name not in self.moving)
        self.carried = tuple(learner.system.carried)
        # Evaluated before tracing: torch cannot trace the lock of a cached property.
        _ = learner.reads, learner.changing, learner.system.groups
        self.has_dense = any(learner.plasticity(group).full for group in learner.changing)
        self.take = wrap(self._take)
        self._pull = wrap(self._differentiate)
        # The products of a step, and which matrices grow, depend only on the learner; `vjp` takes
        # one step to find out.
        self._slots: list[_Slot] = []
        self._grows: list[bool] = []

    def _view(self, before: Before, tape: ProductTape) -> View:
        """Return the state with matrices that record their products on a tape."""
        names = (*self.moving, *self.fixed)
        count = len(self.moving)
        operators = {
            name: RecordedOperator(matrix, i if i < count else None, tape)
            for i, (name, matrix) in enumerate(zip(names, before.matrices, strict=True))
        }
        ordered = {name: operators[name] for name in self.learner.system.shapes}
        return View(ordered, dict(zip(self.carried, before.carry, strict=True)))

    def _tape(self, known: Sequence[Tensor] | None = None) -> ProductTape:
        return ProductTape(known, scans=self._scans, joint=self._joint)

    def _step(self, start: Start, tape: ProductTape) -> Step:
        return self.learner.changes(self._view(start.before, tape), start.theta, start.example)

    def _take(self, start: Start) -> StepRecord:
        """Return the result of the step."""
        tape = self._tape()
        step = self._step(start, tape)
        return StepRecord(
            [step.changes[name] for name in self.moving],
            [product.value for product in tape.products],
            [step.carry[name] for name in self.carried],
        )

    def _results(
        self, start: Start, adjoint: Before, tape: ProductTape
    ) -> tuple[_Results, list[Tensor | None], list[Product]]:
        """Return the step's results, each matrix's growth, and the products formed.

        Each result comes with the gradient to it of ⟨adjoint, result of the step⟩.
        """
        step = self._step(start, tape)
        changes = [step.changes[name] for name in self.moving]
        moving = start.before.matrices[: len(self.moving)]
        parts = [
            part
            for change, matrix, bar in zip(changes, moving, adjoint.matrices, strict=True)
            for part in change.gradients(matrix.detach(), bar)
        ]
        parts += [
            (step.carry[name], bar) for name, bar in zip(self.carried, adjoint.carry, strict=True)
        ]
        growth = [None if c.growth is None else c.growth.detach() for c in changes]
        return parts, growth, tape.products

    def _differentiate(self, start: Start, adjoint: Before, products: list[Tensor]) -> _Pull:
        """Return the map of `adjoint` over a step; gradients are taken within it, in one graph."""
        count, before = len(self.moving), start.before
        moving, fixed = list(before.matrices[:count]), list(before.matrices[count:])

        def results(
            theta: Tensor, known: list[Tensor], carry: list[Tensor], dense: list[Tensor]
        ) -> tuple[_Results, Any]:
            begun = Start(Before([*(dense or moving), *fixed], carry), theta, start.example)
            found, growth, recalled = self._results(begun, adjoint, self._tape(known))
            # A differentiated function may return only tensors.
            present = [rate for rate in growth if rate is not None]
            return found, (present, [product.given for product in recalled])

        (theta_part, to_products, carry, dense), (present, given) = _gradient(
            results, start.theta, products, list(before.carry), moving if self.has_dense else []
        )
        rates = iter(present)
        growth = [next(rates) if grows else None for grows in self._grows]
        rows, columns = _gather(self._slots, given, to_products, count)
        return _Pull(theta_part, carry, growth, rows, columns, dense or [None] * count)

    def vjp(
        self, start: Start, adjoint: Before, products: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Carry the adjoint of the state after a step to before it, in place.

        Args:
            start: everything that the step depends on.
            adjoint: the adjoint of the moving state after the step; on return, its matrices are
                those before the step.
            products: the products formed when the step was taken.

        Returns:
            θ's part of the gradient, and the adjoint of the carried vectors before the step.
        """
        if not self.moving and not self.carried:
            return torch.zeros_like(start.theta), []
        if not self._grows:
            _, growth, formed = self._results(start, adjoint, self._tape())
            self._slots = [_Slot(p.matrix, p.is_projection) for p in formed]
            self._grows = [rate is not None for rate in growth]
        pull: _Pull = self._pull(start, adjoint, products)
        pull.apply(adjoint.matrices)
        return pull.theta, pull.carry


Gradient = tuple[Tensor, list[Tensor], list[Tensor], list[Tensor]]
# Tensors, each with the gradient to it.
_Results = list[tuple[Tensor, Tensor]]


def _gradient(
    results: Callable[..., tuple[_Results, Any]],
    theta: Tensor,
    *groups: list[Tensor],
) -> tuple[Gradient, Any]:
    """Return the gradient to θ and to three lists through a function's results, and its other
    results."""

    def scalar(*given: Any) -> tuple[Tensor, Any]:
        found, rest = results(*given)
        return torch.stack([(value * bar).sum() for value, bar in found]).sum(), rest

    if torch.compiler.is_compiling():
        # The compiler traces this into its graph; uncompiled, it takes twice the time.
        traced: tuple[Gradient, Any] = torch.func.grad(scalar, argnums=(0, 1, 2, 3), has_aux=True)(
            theta, *groups
        )
        return traced
    first = theta.detach().requires_grad_()
    leaves = [[tensor.detach().requires_grad_() for tensor in group] for group in groups]
    with torch.enable_grad():
        pairs, rest = results(first, *leaves)
    flat = [first, *(leaf for group in leaves for leaf in group)]
    # Some results depend only on the example.
    values, bars = zip(*[p for p in pairs if p[0].requires_grad], strict=True)
    found = iter(torch.autograd.grad(values, flat, bars, allow_unused=True, materialize_grads=True))
    theta_part = next(found)
    parts = [[next(found) for _ in group] for group in leaves]
    return (theta_part, parts[0], parts[1], parts[2]), rest


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
