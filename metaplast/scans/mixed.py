"""The column vectors of an update as one torch operation; the loops are in `mixing`."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# With fewer numbers in the result, a few torch calls are as fast.
_LEAST = 2**14


@cache
def _loops() -> ModuleType | None:
    try:
        from metaplast.scans import mixing
    except (ImportError, ValueError):  # Without a working numba.
        return None
    return mixing


def mixed(strengths: Tensor, vectors: Sequence[Tensor]) -> Tensor:
    """Return V_a = Σ_b G_ab r_b at each occurrence, [episode, occurrence, a, neuron].

    Args:
        strengths: G, [episode, occurrence, a, b].
        vectors: r_b, each [episode, occurrence, neuron].
    """
    if _is_large(strengths, vectors[0]):
        found: Tensor = _Mixed.apply(strengths, *vectors)
        return found
    return strengths @ torch.stack(list(vectors), -2)


def _is_large(strengths: Tensor, vector: Tensor) -> bool:
    """Return whether the compiled loops can be used, and are faster than torch."""
    return (
        not torch.compiler.is_compiling()
        and strengths.shape[1] > 1
        and vector.numel() * strengths.shape[2] >= _LEAST
        and vector.device.type == "cpu"
        and vector.dtype in (torch.float32, torch.float64)
        and strengths.dtype == vector.dtype
        and _loops() is not None
    )


class _Mixed(torch.autograd.Function):
    @staticmethod
    def forward(strengths: Tensor, *vectors: Tensor) -> Tensor:
        episodes, count, rows, _ = strengths.shape
        out = vectors[0].new_empty(episodes, count, rows, vectors[0].shape[-1])
        _kernel().mix(_flat(strengths), _all(vectors), _flat(out))
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
    def backward(ctx: Any, bar: Tensor) -> tuple[Tensor, ...]:
        strengths, *vectors = ctx.saved_tensors
        to_strengths = strengths.new_empty(strengths.shape)
        to_vectors = [vector.new_empty(vector.shape) for vector in vectors]
        _kernel().mix_adjoint(
            _flat(strengths), _all(vectors), _flat(bar), _flat(to_strengths), _all(to_vectors)
        )
        return to_strengths, *to_vectors


# torch inspects the signature at every call; storing it makes that fast. See `terms.operator`.
vars(_Mixed.forward)["__signature__"] = inspect.signature(_Mixed.forward)


def _kernel() -> Any:
    found = _loops()
    assert found is not None
    return found


def _flat(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().flatten(0, 1).numpy()


def _all(vectors: Sequence[Tensor]) -> Any:
    return tuple(map(_flat, vectors))
