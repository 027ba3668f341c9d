"""The sweeps of strict predictive coding as one torch operation, with its adjoint written out.

Autograd would keep about forty nodes for every sweep of a stack of five layers. Matrices are held
constant: `terms.operator.ProductTape` computes their gradient from that of the products p and q,
which are passed to `relax` once they are known. See `metaplast.scans.relaxation_kernel`.
"""

from __future__ import annotations

import inspect
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from metaplast.scans.functions import Nonlinearity
from metaplast.scans.operation import kernel


class Sweeps(NamedTuple):
    """The settings of the sweeps, the same for all examples.

    Attributes:
        sigma: the activation of the hidden layers.
        is_softmax: whether the output's error is softmax(z) − target; else it is z − target.
        eta: the step of a sweep.
        n: number of sweeps.
        widths: neurons of layers 1 … L.
    """

    sigma: Nonlinearity
    is_softmax: bool
    eta: float
    n: int
    widths: tuple[int, ...]

    @property
    def hidden(self) -> int:
        """Number of neurons in hidden layers."""
        return sum(self.widths[:-1])


class Relaxed(NamedTuple):
    """The results of a relaxation, the layers of each vector concatenated.

    Attributes:
        epsilon, errors: ε and e, [episode, sample, layers 1 … L].
        p, q: the products W_ℓ d_{ℓ-1} and W_ℓᵀ e_ℓ of every sweep.
        d, e: the vectors in these products; d after the last sweep is v − v̂ of the result.
    """

    epsilon: Tensor
    errors: Tensor
    p: Tensor
    q: Tensor
    d: Tensor
    e: Tensor


def relax(
    sweeps: Sweeps, weights: Tensor, z: Tensor, y: Tensor, target: Tensor,
    known: tuple[Tensor, Tensor] | None,
) -> Relaxed:  # fmt: skip
    """Run the sweeps of a relaxation, and return its results.

    Args:
        sweeps: the settings.
        weights: W_2 … W_L, each row by row, [episode, number], constant.
        z: net inputs of layers 1 … L, [episode, sample, neuron].
        y: activities of the hidden layers, likewise.
        target: [episode, sample, output], constant.
        known: p and q if they are known; then no matrix is read.
    """
    p, q = known or (None, None)
    if not torch.is_grad_enabled():
        # Without gradients, call the loops directly: torch.autograd.Function costs time.
        return Relaxed(*_relax(p, q, z, y, weights, target, sweeps)[:6])
    return Relaxed(*_Relax.apply(p, q, z, y, weights, target, sweeps)[:6])


class _Relax(torch.autograd.Function):
    @staticmethod
    def forward(
        p: Tensor | None, q: Tensor | None, z: Tensor, y: Tensor, weights: Tensor, target: Tensor,
        sweeps: Sweeps,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        return _relax(p, q, z, y, weights, target, sweeps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        _, _, _, y, weights, target, ctx.sweeps = inputs
        _, _, p, q, d, e, c, g = output
        ctx.save_for_backward(y, weights, target, d, e, c, g)
        ctx.mark_non_differentiable(p, q, e, c, g)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        found = _relax_adjoint(grads[0], grads[1], grads[4], ctx.saved_tensors, ctx.sweeps)
        p_bar, q_bar, z_bar, y_bar = found
        to_p, to_q = ctx.needs_input_grad[:2]
        return p_bar if to_p else None, q_bar if to_q else None, z_bar, y_bar, None, None, None


# torch inspects the signature at every call; storing it makes that fast. See `terms.operator`.
vars(_Relax.forward)["__signature__"] = inspect.signature(_Relax.forward)


def _relax(
    p: Tensor | None, q: Tensor | None, z: Tensor, y: Tensor, weights: Tensor, target: Tensor,
    sweeps: Sweeps,
) -> tuple[Tensor, ...]:  # fmt: skip
    episodes, samples, total = z.shape
    n, hidden, is_known = sweeps.n, sweeps.hidden, p is not None
    p = z.new_empty(episodes, samples, n, total) if p is None else p
    q = z.new_empty(episodes, samples, n, hidden) if q is None else q
    d, e = z.new_empty(episodes, samples, n, hidden), z.new_empty(episodes, samples, n, total)
    c, g = (z.new_empty(episodes, samples, n + 1, hidden) for _ in "cg")
    epsilon, errors = z.new_empty(z.shape), z.new_empty(z.shape)
    made, tools = (array.numpy() for array in (d, e, c, g, epsilon, errors)), _Tools.of(sweeps, z)
    _loops().relax(
        _array(weights), tools.net, _array(z), _array(y), _array(target), tools.hidden,
        tools.output, is_known, _array(p), _array(q), *made,
    )  # fmt: skip
    return epsilon, errors, p, q, d, e, c, g


def _relax_adjoint(
    epsilon_bar: Tensor, errors_bar: Tensor, d_bar: Tensor, saved: tuple[Tensor, ...],
    sweeps: Sweeps,
) -> tuple[Tensor, ...]:  # fmt: skip
    y, weights, target, d, e, c, g = saved
    p_bar, q_bar = e.new_empty(e.shape), d.new_empty(d.shape)
    z_bar, y_bar = epsilon_bar.new_empty(epsilon_bar.shape), y.new_empty(y.shape)
    bars, tools = y.new_empty(3, z_bar.shape[-1]), _Tools.of(sweeps, y)
    # The loops overwrite the first and the last.
    changed = _copy(epsilon_bar), errors_bar, _copy(d_bar[:, :, -1])
    made = (array.numpy() for array in (p_bar, q_bar, z_bar, y_bar))
    _loops().relax_adjoint(
        _array(weights), tools.net, _array(y), _array(target), tools.hidden, _array(d), _array(e),
        _array(c), _array(g), bars.numpy(), *map(_array, changed), *made,
    )  # fmt: skip
    return p_bar, q_bar, z_bar, y_bar


class _Tools(NamedTuple):
    """Settings in the loops' types, and fresh memory for one call."""

    net: Any
    hidden: Any
    output: Any

    @classmethod
    def of(cls, sweeps: Sweeps, like: Tensor) -> _Tools:
        from metaplast.scans.activations import KINDS, make_tools

        dtype = np.float32 if like.dtype == torch.float32 else np.float64
        kind, beta = sweeps.sigma
        hidden = make_tools(beta, sweeps.hidden, dtype)
        output = make_tools(beta, sweeps.widths[-1], dtype)
        sizes = np.array(sweeps.widths, np.int64)
        return cls((sizes, KINDS[kind], sweeps.is_softmax, dtype(sweeps.eta)), hidden, output)


@cache
def _loops() -> ModuleType:
    assert kernel() is not None
    from metaplast.scans import relaxation_kernel

    return relaxation_kernel


def _array(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def _copy(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)
