"""Weight matrices that are used only through products with vectors.

Networks, feedbacks and declared terms use a matrix only through M x and Mᵀ u. So the gradient with
respect to M is a sum of outer products, one for each product with a vector. A `ProductTape` records
them. The batched engine then adds all of them in one pass, instead of one pass and a temporary
matrix each.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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

    def matmul(self, x: Tensor) -> Tensor:
        """Return M x: [episode, sample, column] → [episode, sample, row]."""
        return x @ self._tensor.mT

    def transposed(self, u: Tensor) -> Tensor:
        """Return Mᵀ u: [episode, sample, row] → [episode, sample, column]."""
        return u @ self._tensor

    def recall(self) -> Tensor | None:
        """Return the next product if an earlier pass over the same step computed it, else None."""
        return None

    def known(self, given: Tensor, value: Tensor, *, transposed: bool = False) -> Tensor:
        """Return a product M x or Mᵀ u whose value is already known, for example from an iteration.

        Its gradient is that of the product.

        Args:
            given: x or u.
            value: the value of the product.
            transposed: whether the product is Mᵀ u.
        """
        product = self.transposed(given) if transposed else self.matmul(given)
        replaced: Tensor = _Replaced.apply(product, value)
        return replaced

    def held(self, matrix: Tensor | None = None) -> Operator:
        """Return an operator with a constant matrix, to use instead of this one.

        No gradient reaches the matrix from products with it.

        Args:
            matrix: [episode, row, column]; by default, this operator's own.
        """
        return Operator(self.constant if matrix is None else matrix.detach())

    def scan(self, scan: Scan, *, transposed: bool = False) -> Any:
        """Return the result of a recurrence through this matrix; None if it must be a plain loop.

        Args:
            scan: the recurrence, which computes all its products at once.
            transposed: whether the products are Mᵀ u.
        """
        return None


class Products(NamedTuple):
    """All products of a recurrence: the vectors that were multiplied and their products, both
    [episode, vector, neuron], and the result of the recurrence."""

    given: Tensor
    value: Tensor
    found: Any


# The products of a recurrence through several matrices: each operator, and whether the products use
# its transpose.
Slots = Sequence[tuple["Operator", bool]]
# A recurrence through several matrices. It takes the products of each slot if they are known. It
# returns, slot by slot, the vectors that were multiplied and their products, and then its result.
JointScan = Callable[["list[Tensor] | None"], tuple[Sequence[tuple[Tensor, Tensor]], Any]]

# A recurrence through one matrix. It takes the constant matrix, and its products if they are known
# from an earlier pass. Its gradient with respect to known products must be the total one, including
# the effect on all later steps.
Scan = Callable[[Tensor, "Tensor | None"], Products]


class _Replaced(torch.autograd.Function):
    """`value` with the gradient of `product`."""

    @staticmethod
    def forward(ctx: Any, product: Tensor, value: Tensor) -> Tensor:  # noqa: ARG004
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradients[0], None


class _Affine(torch.autograd.Function):
    """start + given · right with `right` constant; one library call forward, and one backward.

    torch's compiler turns a product with a single row (a step has many of these) into loops that
    recompute the row for every column, which is ten times slower. If the product is added to
    another tensor, the compiler calls the library instead.
    """

    @staticmethod
    def forward(start: Tensor, given: Tensor, right: Tensor) -> Tensor:
        return _added(start, given, right)

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
        return gradient, _added(_zero(gradient), gradient, right.mT), None


class _Recalled(_Affine):
    """Like `_Affine`, but the result is already known: `start` holds it."""

    @staticmethod
    def forward(
        start: Tensor,
        given: Tensor,  # noqa: ARG004
        right: Tensor,  # noqa: ARG004
    ) -> Tensor:
        return start.clone() if torch.compiler.is_compiling() else start.detach()


def _added(start: Tensor, given: Tensor, right: Tensor) -> Tensor:
    """Return start + given · right, where start is zero; only the compiler needs the sum."""
    if torch.compiler.is_compiling():
        return torch.baddbmm(start, given, right)
    return torch.bmm(given, right)


# torch reads the signature at every call. Storing it here saves torch from deriving it each time,
# which would cost a tenth of the batched engine's time.
for _forward in (_Affine.forward, _Recalled.forward):
    vars(_forward)["__signature__"] = inspect.signature(_forward)


def _zero(like: Tensor) -> Tensor:
    """Return a zero for each episode, which broadcasts when a product is added."""
    return like.new_zeros(len(like), 1, 1)


@dataclass(frozen=True)
class Product:
    """A product on the tape: its matrix (None for a fixed one), kind, given factor and value."""

    matrix: int | None
    is_projection: bool
    given: Tensor
    value: Tensor


class ProductTape:
    """Computes and records the products of one step, or recalls known ones.

    With p̄ the gradient with respect to a recalled product, the gradient with respect to M is the
    sum of p̄ ⊗ x over products M x, and of u ⊗ p̄ over products Mᵀ u.

    Args:
        known: the products, in the order in which an earlier tape of the same step computed them;
            with these, no matrix is read. None to compute them.
        scans: whether all products of a recurrence may be recorded as one.
        joint: whether this also holds for recurrences through several matrices.
    """

    def __init__(
        self, known: Sequence[Tensor] | None = None, *, scans: bool = True, joint: bool = True
    ) -> None:
        self._known = known
        self.scans, self.joint = scans, scans and joint
        self.products: list[Product] = []

    def recall(self) -> Tensor | None:
        """Return the value of the next product if it is known, else None."""
        return None if self._known is None else self._known[len(self.products)]

    def scan(self, slots: Sequence[tuple[RecordedOperator, bool]], scan: JointScan) -> Any:
        """Return the result of a recurrence through several matrices; record its products."""
        first = len(self.products)
        known = None if self._known is None else self._known[first : first + len(slots)]
        pairs, found = scan(None if known is None else list(known))
        for (operator, transposed), (given, value) in zip(slots, pairs, strict=True):
            product = Product(operator.index, transposed, given.detach(), value)
            self.products.append(product)
        return found

    def record(
        self,
        matrix: int | None,
        is_projection: bool,
        given: Tensor,
        right: Tensor,
        found: Tensor | None = None,
    ) -> Tensor:
        """Return given · right, computed only if it is not known yet; record the product."""
        value: Tensor
        known = self.recall()
        known = found if known is None else known
        if known is None:
            # Without gradients, skip torch's handling of custom functions, which would take a third
            # of the time of a small step.
            affine = _Affine.apply if torch.is_grad_enabled() else _Affine.forward
            value = affine(_zero(given), given, right)
        else:
            value = _Recalled.apply(known, given, right)
        self.products.append(Product(matrix, is_projection, given.detach(), value))
        return value


class RecordedOperator(Operator):
    """Matrices that record their products on a tape; constant, except for dense terms' `tensor`.

    Args:
        tensor: the matrices.
        index: their index on the tape; None for matrices that are fixed.
        tape: the tape that records the products.
    """

    def __init__(self, tensor: Tensor, index: int | None, tape: ProductTape) -> None:
        super().__init__(tensor)
        self.index = index
        self.tape = tape

    def matmul(self, x: Tensor) -> Tensor:
        """Return M x."""
        return self.tape.record(self.index, False, x, self.constant.mT)

    def transposed(self, u: Tensor) -> Tensor:
        """Return Mᵀ u."""
        return self.tape.record(self.index, True, u, self.constant)

    def recall(self) -> Tensor | None:
        """Return the value of the next product if it is known, else None."""
        return self.tape.recall()

    def known(self, given: Tensor, value: Tensor, *, transposed: bool = False) -> Tensor:
        """Return a product whose value is already known."""
        right = self.constant if transposed else self.constant.mT
        return self.tape.record(self.index, transposed, given, right, value)

    def held(self, matrix: Tensor | None = None) -> Operator:
        """Return an operator with a constant matrix, whose products are recorded, too."""
        constant = self.constant if matrix is None else matrix.detach()
        return RecordedOperator(constant, None, self.tape)

    def scan(self, scan: Scan, *, transposed: bool = False) -> Any:
        """Return the result of a recurrence, as one product; None if the tape takes no scans."""
        if not self.tape.scans:
            return None
        products = scan(self.constant, self.tape.recall())
        given, value = products.given.detach(), products.value
        self.tape.products.append(Product(self.index, transposed, given, value))
        return products.found


def scan_together(slots: Slots, scan: JointScan) -> Any:
    """Return the result of a recurrence through several matrices; None if it must be plain loops.

    Args:
        slots: the operators of its products, each with a flag for products Mᵀ u.
        scan: the recurrence. Its gradient with respect to known products must be the total one,
            through all later products.
    """
    recorded = [(o, transposed) for o, transposed in slots if isinstance(o, RecordedOperator)]
    if len(recorded) < len(slots) or not recorded or not recorded[0][0].tape.joint:
        return None
    return recorded[0][0].tape.scan(recorded, scan)
