"""Fixed points of p = M u(p): found by relaxation, differentiated by one linear solve.

The gradient of a fixed point does not pass through the relaxation. With s = ∂u/∂p,

    dp = M (s ⊙ dp) + dv,        v̄ = (I − diag(s) Mᵀ)⁻¹ p̄,

where dv is the change of the product M u at a fixed p, and a bar denotes a gradient. So a fixed
point counts as one product, whose gradient is v̄. A step keeps this product, so the backward sweep
does not relax again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from metaplast.terms.operator import Operator

# Steps between two checks of the residual; a check costs as much as a step.
CHECKED = 5
# The largest number of matrix elements that the dense solver factorises together.
_AT_ONCE = 2**24

# slope [episode, sample, neuron], matrix [episode, neuron, neuron], right side, tolerance → x.
Solver = Callable[[Tensor, Tensor, Tensor, float], Tensor]


class Relaxed(NamedTuple):
    """The end of a relaxation.

    Attributes:
        rates: r, [episode, sample, neuron].
        steps: how many steps were taken, a multiple of `CHECKED`, [episode, sample].
        residual: max_i |f(W r + d)_i − r_i| / max(1, max_i |r_i|), [episode, sample].
        settled: whether the residual is within the tolerance, [episode, sample].
    """

    rates: Tensor
    steps: Tensor
    residual: Tensor
    settled: Tensor

    def at(self, chosen: Tensor) -> Relaxed:
        """Return the samples `chosen`, [episode, n]."""
        return Relaxed(*(_rows(x, chosen) for x in self))

    def replaced(self, at: Tensor, part: Relaxed) -> Relaxed:
        """Return all samples, with those at `at`, [episode, n], taken from `part`."""
        found = []
        for old, new in zip(self, part, strict=True):
            places = at.reshape(*at.shape, *[1] * (old.dim() - 2)).expand_as(new)
            found.append(old.scatter(1, places, new))
        return Relaxed(*found)


def relax(
    f: Callable[[Tensor], Tensor],
    matrix: Tensor,
    drive: Tensor,
    *,
    rate: float,
    tolerance: float,
    most: int,
) -> Relaxed:
    """Iterate r ← r + η (−r + f(W r + d)) from r = 0, each sample until it settles.

    A sample stops when it has settled, so its result does not depend on the others.

    Args:
        f: the activation, elementwise.
        matrix: W, [episode, neuron, neuron].
        drive: d, [episode, sample, neuron].
        rate: η.
        tolerance: the tolerance of the residual.
        most: number of steps after which a sample counts as not settled.
    """
    right, step = matrix.mT, 0
    r = torch.zeros_like(drive)
    whole = Relaxed(r, torch.zeros_like(r[..., 0], dtype=torch.int64), r[..., 0], r[..., 0] > 0)
    at = torch.arange(drive.shape[1], dtype=torch.int64, device=drive.device).expand(
        drive.shape[:2]
    )
    now = whole
    while True:
        target = f(torch.baddbmm(drive, now.rates, right))
        residual = (target - now.rates).abs().amax(-1) / now.rates.abs().amax(-1).clamp(min=1)
        settled = residual <= tolerance
        now = Relaxed(now.rates, now.steps, residual, settled)
        moving = ~settled & torch.isfinite(residual)
        if step >= most or not moving.any():
            return whole.replaced(at, now)
        count = int(moving.sum(1).max())
        if 2 * count <= moving.shape[1]:
            # If at least half have settled, continue with only the others.
            whole = whole.replaced(at, now)
            chosen = moving.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]
            now, at = now.at(chosen), at.gather(1, chosen)
            drive, target = _rows(drive, chosen), _rows(target, chosen)
            moving = moving.gather(1, chosen)
        new = torch.lerp(now.rates, target, rate)
        for _ in range(CHECKED - 1):
            new = torch.lerp(new, f(torch.baddbmm(drive, new, right)), rate)
        step += CHECKED
        now = Relaxed(
            torch.where(moving[..., None], new, now.rates), now.steps + CHECKED * moving,
            now.residual, now.settled,
        )  # fmt: skip


def _rows(x: Tensor, chosen: Tensor) -> Tensor:
    """Return x [episode, sample, …] at the samples `chosen`, [episode, n]."""
    places = chosen.reshape(*chosen.shape, *[1] * (x.dim() - 2))
    return x.gather(1, places.expand(-1, -1, *x.shape[2:]))


def fixed_point(
    operator: Operator,
    value: Tensor,
    u: Callable[[Tensor], Tensor],
    slope: Tensor,
    solver: Solver,
    tolerance: float,
    *,
    transposed: bool = False,
) -> Tensor:
    """Return p = M u(p), or p = Mᵀ u(p), with its exact first derivatives.

    Args:
        operator: M, [episode, neuron, neuron].
        value: p, [episode, sample, neuron]; a row of NaN marks a sample without a fixed point.
        u: p → u, differentiable; other tensors that it uses receive their gradients, too.
        slope: ∂u/∂p at the fixed point, elementwise, held constant.
        solver: the solver of the linear system.
        tolerance: the tolerance of an iterative solver.
        transposed: whether the product is Mᵀ u.

    Returns:
        p, with 0 in rows that have no fixed point.
    """
    exists = torch.isfinite(value).all(-1, keepdim=True)
    given = u(torch.where(exists, value, 0.0).detach())
    product = operator.known(given, value, transposed=transposed)
    matrix = operator.constant.mT if transposed else operator.constant
    p: Tensor = _Settled.apply(product, slope, matrix, solver, tolerance)
    return torch.where(exists, p, 0.0)


class _Settled(torch.autograd.Function):
    """p from the product v = M u; the gradient solves v̄ − s ⊙ Mᵀ v̄ = p̄."""

    @staticmethod
    def forward(
        ctx: Any, product: Tensor, slope: Tensor, matrix: Tensor, solver: Solver, tolerance: float
    ) -> Tensor:
        ctx.save_for_backward(slope, matrix)
        ctx.solver, ctx.tolerance = solver, tolerance
        return product.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        slope, matrix = ctx.saved_tensors
        solved = ctx.solver(slope, matrix, gradients[0], ctx.tolerance)
        return solved, None, None, None, None


def dense(slope: Tensor, matrix: Tensor, right: Tensor, tolerance: float) -> Tensor:  # noqa: ARG001
    """Return x with x − s ⊙ Mᵀ x = b, by a factorisation for every sample.

    For a singular system, the result is not finite; no error is raised.
    """
    neurons = matrix.shape[-1]
    eye = torch.eye(neurons, dtype=matrix.dtype, device=matrix.device)
    size = max(1, _AT_ONCE // (neurons * neurons * len(matrix)))
    parts = []
    for s, b in zip(*(torch.split(x, size, 1) for x in (slope, right)), strict=True):
        system = eye - s[..., None] * matrix.mT[:, None]
        parts.append(torch.linalg.solve_ex(system, b[..., None])[0][..., 0])
    return torch.cat(parts, 1)


def gmres(slope: Tensor, matrix: Tensor, right: Tensor, tolerance: float) -> Tensor:
    """Return x with x − s ⊙ Mᵀ x = b, by GMRES without restarts; it needs only products with M.

    With A = I − diag(s) Mᵀ, a sample stops when ‖b − A x‖ ≤ tolerance · ‖b‖, or after as many steps
    as there are neurons, when x is exact up to rounding.
    """
    size = right.norm(dim=-1)
    tiny = torch.finfo(right.dtype).tiny
    basis = [right / size.clamp(min=tiny)[..., None]]
    rest: list[Tensor] = [size]
    diagonal: list[list[Tensor]] = []
    rotations: list[tuple[Tensor, Tensor]] = []
    for _ in range(right.shape[-1]):
        w = basis[-1] - slope * (basis[-1] @ matrix)
        column, w = _orthogonal(w, torch.stack(basis, -2))
        last = w.norm(dim=-1)
        top = list(column.unbind(-1))
        for k, (c, s) in enumerate(rotations):
            top[k], top[k + 1] = c * top[k] + s * top[k + 1], c * top[k + 1] - s * top[k]
        length = torch.hypot(top[-1], last)
        empty = length <= tiny
        c, s = (torch.where(empty, 1.0 - i, x / length.clamp(min=tiny))
                for i, x in enumerate((top[-1], last)))  # fmt: skip
        top[-1] = torch.where(empty, 1.0, length)
        rotations.append((c, s))
        diagonal.append(top)
        rest[-1:] = [c * rest[-1], -s * rest[-1]]
        going = rest[-1].abs() > tolerance * size
        if not going.any():
            break
        # A converged sample gets no more directions, so its result does not depend on the others.
        basis.append(torch.where(going[..., None], w / last.clamp(min=tiny)[..., None], 0.0))
    return _combined(basis, diagonal, rest)


def _orthogonal(w: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Return the components of w along a basis [..., k, neuron], and the rest of w."""
    total = torch.zeros_like(basis[..., 0])
    # Two passes suffice for orthogonality up to rounding.
    for _ in range(2):
        along = (basis @ w[..., None])[..., 0]
        total = total + along
        w = w - (along[..., None, :] @ basis)[..., 0, :]
    return total, w


def _combined(basis: list[Tensor], columns: list[list[Tensor]], rest: list[Tensor]) -> Tensor:
    """Return Σ_k y_k basis_k, where R y = `rest`; R is upper triangular, given by its columns."""
    count = len(columns)
    weights: list[Tensor] = [torch.zeros_like(rest[0])] * count
    for k in reversed(range(count)):
        known = sum(columns[j][k] * weights[j] for j in range(k + 1, count))
        weights[k] = (rest[k] - known) / columns[k][k]
    return sum((y[..., None] * q for y, q in zip(weights[1:], basis[1:], strict=False)),
               weights[0][..., None] * basis[0])  # fmt: skip


SOLVERS: Mapping[str, Solver] = MappingProxyType({"dense": dense, "gmres": gmres})
