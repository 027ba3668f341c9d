"""One step of a learner and its adjoint, for many episodes at once.

A step changes M by low-rank factors, M⁺ = (1 + g) M + Σ a ⊗ V_a. Its adjoint is the gradient of
the scalar ⟨M̄⁺, change⟩ with respect to θ and to the products M x and Mᵀ u from which the signals
are computed (`operator.ProductTape`), and

    M̄ = (1 + g) M̄⁺ + Σ p̄ ⊗ x + Σ u ⊗ p̄

is again one low-rank update in place. No matrix-sized temporary is made. Vectors c that a system
carries from step to step add ⟨c̄⁺, c⁺⟩ to the same scalar.
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
    """The result of a step: the change of each moving matrix, the products that the step computed,
    and the carried vectors after it."""

    changes: list[LowRankUpdate]
    products: list[Tensor]
    carry: list[Tensor]

    def numel(self) -> int:
        """Return the number of elements of all tensors."""
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
    """The target of a product's gradient: the matrix (None if it is fixed) and the side."""

    matrix: int | None
    is_projection: bool


class _Pull(NamedTuple):
    """How one step maps the adjoint back: M̄ ← (1 + growth) M̄ + rowsᵀ · columns + dense.

    `theta` is the step's part of ∂loss/∂θ, [episode, site, term]; `carry` is the adjoint of the
    carried vectors before the step. The other fields have one entry for each moving matrix: None if
    the matrix has no such part.
    """

    theta: Tensor
    carry: list[Tensor]
    growth: list[Tensor | None]
    rows: list[Tensor | None]
    columns: list[Tensor | None]
    dense: Sequence[Tensor | None]

    def apply(self, adjoint: Sequence[Tensor]) -> None:
        """Carry the adjoint back over the step, in place, in one pass over each matrix."""
        for matrix, *change in zip(adjoint, *self[2:], strict=True):
            LowRankUpdate(*change).apply(matrix, out=matrix)


class Stepper:
    """One step of a learner, forward and backward.

    It takes matrices as lists: first the moving ones, which a step changes, then the fixed ones.

    Args:
        learner: the learner that takes the step.
        wrap: applied to the step and to its adjoint, for example to compile them.
        scans: whether a recurrence over time may be one operation; see `metaplast.scans`.
        joint: whether a recurrence through several matrices may be one operation, too.

    Attributes:
        moving: names of the matrices that a step changes.
        fixed: names of the others.
        carried: names of the vectors that the system carries from step to step.
        has_dense: whether any change is dense; a dense change may depend on its matrix in any way,
            so it cannot be undone.
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
        # Evaluate before tracing: torch cannot trace the lock of a cached property.
        _ = learner.reads, learner.changing, learner.system.groups
        self.has_dense = any(learner.plasticity(group).full for group in learner.changing)
        self.take = wrap(self._take)
        self._pull = wrap(self._differentiate)
        # The products of a step, and which matrices grow or decay, depend only on the learner.
        # `vjp` finds them by taking one step.
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
        """Return the step's results, each matrix's growth, and the products computed.

        Each result is paired with the gradient of ⟨adjoint, result of the step⟩ with respect to it.
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
        """Return how a step maps `adjoint`.

        The function takes the gradients itself, so that torch can compile it as one graph.
        """
        count, before = len(self.moving), start.before
        moving, fixed = list(before.matrices[:count]), list(before.matrices[count:])

        def results(
            theta: Tensor, known: list[Tensor], carry: list[Tensor], dense: list[Tensor]
        ) -> tuple[_Results, Any]:
            begun = Start(Before([*(dense or moving), *fixed], carry), theta, start.example)
            found, growth, recalled = self._results(begun, adjoint, self._tape(known))
            # A function that torch.func differentiates may return only tensors, not None.
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
        """Carry the adjoint of the moving state back over a step, in place.

        Args:
            start: everything that the step depends on.
            adjoint: the adjoint of the moving state after the step; on return, its matrices are
                the adjoint of those before the step.
            products: the products computed when the step was taken.

        Returns:
            The step's part of ∂loss/∂θ, and the adjoint of the carried vectors before the step.
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
# Pairs of a tensor and the gradient with respect to it.
_Results = list[tuple[Tensor, Tensor]]


def _gradient(
    results: Callable[..., tuple[_Results, Any]],
    theta: Tensor,
    *groups: list[Tensor],
) -> tuple[Gradient, Any]:
    """Return the gradients of Σ ⟨result, bar⟩ with respect to θ and three lists of tensors.

    Args:
        results: returns pairs (result, bar), and other results.
        theta: its first argument.
        groups: its other arguments, three lists of tensors.

    Returns:
        The gradients, and the other results of the function.
    """

    def scalar(*given: Any) -> tuple[Tensor, Any]:
        found, rest = results(*given)
        return torch.stack([(value * bar).sum() for value, bar in found]).sum(), rest

    if torch.compiler.is_compiling():
        # The compiler can trace torch.func. Without the compiler, torch.func takes twice the time.
        traced: tuple[Gradient, Any] = torch.func.grad(scalar, argnums=(0, 1, 2, 3), has_aux=True)(
            theta, *groups
        )
        return traced
    first = theta.detach().requires_grad_()
    leaves = [[tensor.detach().requires_grad_() for tensor in group] for group in groups]
    with torch.enable_grad():
        pairs, rest = results(first, *leaves)
    flat = [first, *(leaf for group in leaves for leaf in group)]
    # Results that depend only on the example have no gradient.
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
