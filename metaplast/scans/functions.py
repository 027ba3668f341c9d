"""Recurrences through one matrix as operations of torch, each with its adjoint written out.

    forward:  u_t = M σ(z_{t−1}),  z_t = u_t + f_t,  z_1 = f_1,
    back:     q_t = B e_{t+1},     e_t = (s_t + q_t) ⊙ σ'(z_t).

Autograd would keep a node for every time step. Here each recurrence is one node. Matrices are held
constant: `terms.operator.ProductTape` finds their gradient from that of the products u and q, which
these functions take as arguments once they are known.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


@cache
def kernel() -> ModuleType | None:
    """Return the compiled loops; None without a working numba."""
    try:
        from metaplast.scans import kernel as found
    except (ImportError, ValueError):
        return None
    return found


class Nonlinearity(NamedTuple):
    """An activation as the compiled loops know it: its kind, and β of softplus."""

    kind: str
    beta: float


def serves(sigma: Nonlinearity, like: Tensor) -> bool:
    """Return whether there are compiled loops for an activation and for tensors of this kind."""
    if like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
        return False
    return sigma.kind in ("tanh", "softplus", "relu", "linear") and kernel() is not None


def advance(
    sigma: Nonlinearity, show: int, time: int, frames: Tensor, matrix: Tensor, known: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return z and σ(z), [episode, time, sample, n], and u without the first step.

    Args:
        sigma: the activation.
        show: for how many steps each frame is added.
        time: number of steps.
        frames: f, [episode, frame, sample, n].
        matrix: M, [episode, n, n], constant.
        known: u, if it is known: then no matrix is read.
    """
    found: tuple[Tensor, Tensor, Tensor] = _Advance.apply(known, frames, matrix, sigma, show, time)
    return found


def carry_back(
    sigma: Nonlinearity, sources: Tensor, activities: Tensor, matrix: Tensor, transposed: bool,
    known: Tensor | None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return e, [episode, time, sample, n], and q without the last step.

    Args:
        sigma: the activation.
        sources: s of the last steps, [episode, step, sample, n]; it is zero before.
        activities: σ(z), [episode, time, sample, n].
        matrix: B, [episode, n, n], constant.
        transposed: whether products are with Bᵀ instead.
        known: q, if it is known: then no matrix is read.
    """
    found: tuple[Tensor, Tensor] = _CarryBack.apply(
        known, sources, activities, matrix, sigma, transposed
    )
    return found


class _Advance(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, known: Tensor | None, frames: Tensor, matrix: Tensor, sigma: Nonlinearity,
        show: int, time: int,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        episodes, _, samples, n = frames.shape
        z = frames.new_empty(episodes, time, samples, n)
        y = torch.empty_like(z)
        if known is None:
            drives, rows = frames.new_empty(episodes, time - 1, samples, n), matrix.mT
        else:
            # The matrix is not read.
            drives, rows = known.clone(), matrix
        code, tools = _tools(sigma, z)
        _loops().advance(
            _array(rows), _array(frames), show, code, tools, known is not None,
            _array(drives), _array(z), _array(y),
        )  # fmt: skip
        ctx.save_for_backward(y, matrix)
        ctx.set_materialize_grads(False)
        ctx.sigma, ctx.show, ctx.frames = sigma, show, frames.shape
        return z, y, drives

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        y, matrix = ctx.saved_tensors
        z_bar, y_bar, u_bar = grads
        code, tools = _tools(ctx.sigma, y)
        drives_bar = y.new_empty(len(y), y.shape[1] - 1, *y.shape[2:])
        frames_bar = y.new_zeros(ctx.frames)
        given = [x for g in (y_bar, z_bar, u_bar) for x in (g is not None, _given(g, y))]
        _loops().advance_adjoint(
            _array(matrix), ctx.show, code, tools, _array(y), *given,
            _array(drives_bar), _array(frames_bar),
        )  # fmt: skip
        known_bar = drives_bar if ctx.needs_input_grad[0] else None
        return known_bar, frames_bar, None, None, None, None


class _CarryBack(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, known: Tensor | None, sources: Tensor, y: Tensor, matrix: Tensor,
        sigma: Nonlinearity, transposed: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        errors = torch.empty_like(y)
        shape = (len(y), y.shape[1] - 1, *y.shape[2:])
        carried = y.new_empty(shape) if known is None else known.detach()
        rows = matrix if transposed or known is not None else matrix.mT
        code, tools = _tools(sigma, y)
        _loops().carry_back(
            _array(rows), _array(sources), code, tools, _array(y), known is not None,
            _array(carried), _array(errors),
        )  # fmt: skip
        ctx.save_for_backward(sources, y, carried, matrix)
        ctx.sigma, ctx.transposed = sigma, transposed
        ctx.mark_non_differentiable(carried)
        return errors, carried

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        sources, y, carried, matrix = ctx.saved_tensors
        rows = matrix.mT if ctx.transposed else matrix
        carried_bar, sources_bar = torch.empty_like(carried), torch.empty_like(sources)
        y_bar = torch.empty_like(y)
        code, tools = _tools(ctx.sigma, y)
        _loops().carry_back_adjoint(
            _array(rows), _array(sources), code, tools, _array(y), _array(carried),
            _array(grads[0]), _array(carried_bar), _array(sources_bar), _array(y_bar),
        )  # fmt: skip
        known_bar = carried_bar if ctx.needs_input_grad[0] else None
        return known_bar, sources_bar, y_bar, None, None, None


def _loops() -> Any:
    found = kernel()
    assert found is not None
    return found


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def _given(gradient: Tensor | None, like: Tensor) -> Any:
    return _array(like if gradient is None else gradient)


def _tools(sigma: Nonlinearity, like: Tensor) -> tuple[int, Any]:
    """Return the number of the activation, and constants with fresh memory for one call."""
    from metaplast.scans.activations import KINDS, make_tools

    dtype = np.float32 if like.dtype == torch.float32 else np.float64
    return KINDS[sigma.kind], make_tools(sigma.beta, like.shape[-1], dtype)
