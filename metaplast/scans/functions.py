"""Recurrences through one matrix as torch operations, each with its adjoint written out.

    forward:  u_t = M σ(z_{t−1}),  z_t = u_t + f_t,  z_1 = f_1,
    back:     q_t = B e_{t+1},     e_t = (s_t + q_t) ⊙ σ'(z_t).

Autograd would keep a node for every time step; here each recurrence is one node. Matrices are held
constant: `terms.operator.ProductTape` computes their gradient from that of the products u and q,
which are passed to these functions once they are known.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metaplast.scans.operation import Operation, kernel


class Nonlinearity(NamedTuple):
    """An activation as the compiled loops take it: its kind, and β of softplus."""

    kind: str
    beta: float


def serves(sigma: Nonlinearity, like: Tensor) -> bool:
    """Return whether there are compiled loops for an activation and for tensors of this kind."""
    if like.device.type != "cpu" or like.dtype not in (torch.float32, torch.float64):
        return False
    if sigma.kind not in ("tanh", "softplus", "relu", "linear"):
        return False
    # While compiling, `prepare_for_compiler` has checked this: torch cannot trace an import.
    return torch.compiler.is_compiling() or kernel() is not None


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
        known: u if it is known; then the matrix is not read.
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
        known: q if it is known; then the matrix is not read.
    """
    found: tuple[Tensor, Tensor] = _CarryBack.apply(
        known, sources, activities, matrix, sigma, transposed
    )
    return found


class _Advance(torch.autograd.Function):
    @staticmethod
    def forward(
        known: Tensor | None, frames: Tensor, matrix: Tensor, sigma: Nonlinearity, show: int,
        time: int,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        found: tuple[Tensor, Tensor, Tensor] = _advance(known, frames, matrix, *sigma, show, time)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, frames, matrix, sigma, show, _ = inputs
        ctx.save_for_backward(output[1], matrix)
        ctx.sigma, ctx.show, ctx.frames = sigma, show, frames.shape[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        y, matrix = ctx.saved_tensors
        drives_bar, frames_bar = _advance_adjoint(
            *grads, y, matrix, *ctx.sigma, ctx.show, ctx.frames
        )
        known_bar = drives_bar if ctx.needs_input_grad[0] else None
        return known_bar, frames_bar, None, None, None, None


class _CarryBack(torch.autograd.Function):
    @staticmethod
    def forward(
        known: Tensor | None, sources: Tensor, y: Tensor, matrix: Tensor, sigma: Nonlinearity,
        transposed: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        found: tuple[Tensor, Tensor] = _carry_back(known, sources, y, matrix, *sigma, transposed)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, sources, y, matrix, sigma, transposed = inputs
        ctx.save_for_backward(sources, y, output[1], matrix)
        ctx.sigma, ctx.transposed = sigma, transposed
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        carried_bar, sources_bar, y_bar = _carry_back_adjoint(
            grads[0], *ctx.saved_tensors, *ctx.sigma, ctx.transposed
        )
        known_bar = carried_bar if ctx.needs_input_grad[0] else None
        return known_bar, sources_bar, y_bar, None, None, None


# torch inspects the signature at every call; storing it makes that fast. See `terms.operator`.
for _forward in (_Advance.forward, _CarryBack.forward):
    vars(_forward)["__signature__"] = inspect.signature(_forward)


@Operation
def _advance(
    known: Tensor | None, frames: Tensor, matrix: Tensor, kind: str, beta: float, show: int,
    time: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    z, y, drives = _advance_shapes(known, frames, matrix, kind, beta, show, time)
    if known is not None:
        drives.copy_(known)
    code, tools = _tools(kind, beta, z)
    # The matrix is not read if the drives are known.
    rows = matrix.mT if known is None else matrix
    _loops().advance(
        _array(rows), _array(frames), show, code, tools, known is not None, drives.numpy(),
        z.numpy(), y.numpy(),
    )  # fmt: skip
    return z, y, drives


@_advance.shapes
def _advance_shapes(
    known: Tensor | None, frames: Tensor, matrix: Tensor, kind: str, beta: float,  # noqa: ARG001
    show: int, time: int,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    episodes, _, samples, n = frames.shape
    z = frames.new_empty(episodes, time, samples, n)
    return z, torch.empty_like(z), frames.new_empty(episodes, time - 1, samples, n)


@Operation
def _advance_adjoint(
    z_bar: Tensor, y_bar: Tensor, u_bar: Tensor, y: Tensor, matrix: Tensor, kind: str, beta: float,
    show: int, frames: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    drives_bar = y.new_empty(len(y), y.shape[1] - 1, *y.shape[2:])
    frames_bar = y.new_zeros(len(y), frames, *y.shape[2:])
    code, tools = _tools(kind, beta, y)
    _loops().advance_adjoint(
        _array(matrix), show, code, tools, _array(y), _array(y_bar), _array(z_bar),
        _array(u_bar), drives_bar.numpy(), frames_bar.numpy(),
    )  # fmt: skip
    return drives_bar, frames_bar


@_advance_adjoint.shapes
def _advance_adjoint_shapes(
    z_bar: Tensor, y_bar: Tensor, u_bar: Tensor, y: Tensor, matrix: Tensor,  # noqa: ARG001
    kind: str, beta: float, show: int, frames: int,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return y.new_empty(len(y), y.shape[1] - 1, *y.shape[2:]), y.new_empty(
        len(y), frames, *y.shape[2:]
    )


@Operation
def _carry_back(
    known: Tensor | None, sources: Tensor, y: Tensor, matrix: Tensor, kind: str, beta: float,
    transposed: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    errors, carried = _carry_back_shapes(known, sources, y, matrix, kind, beta, transposed)
    if known is not None:
        carried.copy_(known)
    rows = matrix if transposed or known is not None else matrix.mT
    code, tools = _tools(kind, beta, y)
    _loops().carry_back(
        _array(rows), _array(sources), code, tools, _array(y), known is not None, carried.numpy(),
        errors.numpy(),
    )  # fmt: skip
    return errors, carried


@_carry_back.shapes
def _carry_back_shapes(
    known: Tensor | None, sources: Tensor, y: Tensor, matrix: Tensor,  # noqa: ARG001
    kind: str, beta: float, transposed: bool,  # noqa: ARG001
) -> tuple[Tensor, Tensor]:  # fmt: skip
    carried = y.new_empty(len(y), y.shape[1] - 1, *y.shape[2:])
    return y.new_empty(y.shape), carried


@Operation
def _carry_back_adjoint(
    errors_bar: Tensor, sources: Tensor, y: Tensor, carried: Tensor, matrix: Tensor, kind: str,
    beta: float, transposed: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    carried_bar, sources_bar = carried.new_empty(carried.shape), sources.new_empty(sources.shape)
    y_bar = y.new_empty(y.shape)
    rows = matrix.mT if transposed else matrix
    code, tools = _tools(kind, beta, y)
    _loops().carry_back_adjoint(
        _array(rows), _array(sources), code, tools, _array(y), _array(carried),
        _array(errors_bar), carried_bar.numpy(), sources_bar.numpy(), y_bar.numpy(),
    )  # fmt: skip
    return carried_bar, sources_bar, y_bar


@_carry_back_adjoint.shapes
def _carry_back_adjoint_shapes(
    errors_bar: Tensor, sources: Tensor, y: Tensor, carried: Tensor, matrix: Tensor,  # noqa: ARG001
    kind: str, beta: float, transposed: bool,  # noqa: ARG001
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return carried.new_empty(carried.shape), sources.new_empty(sources.shape), y.new_empty(y.shape)


def _loops() -> Any:
    found = kernel()
    assert found is not None
    return found


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def _tools(kind: str, beta: float, like: Tensor) -> tuple[int, Any]:
    """Return the number of the activation, and constants with fresh memory for one call."""
    from metaplast.scans.activations import KINDS, make_tools

    dtype = np.float32 if like.dtype == torch.float32 else np.float64
    return KINDS[kind], make_tools(beta, like.shape[-1], dtype)
