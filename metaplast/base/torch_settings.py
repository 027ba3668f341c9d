"""Torch's global settings while metaplast computes, whatever the user has set.

Results must not depend on settings made elsewhere in a notebook. Every new tensor gets an explicit
dtype and device. The settings that cannot be passed explicitly are set here during a computation
and then restored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, wraps
from typing import Any, TypeVar, cast

import torch
import torch.backends.cuda
import torch.backends.cudnn
import torch.backends.mkldnn
from torch import Tensor

_CPU = torch.device("cpu")
# The smallest positive number; it becomes zero if denormals are flushed.
_DENORMAL = torch.tensor([5e-324], dtype=torch.float64, device=_CPU)
_BACKENDS: Any = torch.backends
_PRODUCTS: tuple[Any, ...] = (_BACKENDS.cuda.matmul, _BACKENDS.mkldnn.matmul)

Run = TypeVar("Run", bound=Callable[..., Any])


@contextmanager
def own_settings(*, grad: bool | None = None) -> Iterator[None]:
    """Compute exactly: no inference mode, autocast, flushed denormals, anomaly mode or TF32.

    The default device is set to the CPU. Only settings that differ are changed. Can also be used
    as a decorator.

    Args:
        grad: whether gradients are recorded; None keeps the caller's setting.
    """
    wanted = torch.is_grad_enabled() if grad is None else grad
    with ExitStack() as stack:
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        if torch.is_grad_enabled() != wanted:
            stack.enter_context(torch.set_grad_enabled(wanted))
        for kind in _autocast_kinds():
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.is_anomaly_enabled():
            # Anomaly mode would raise an error at a non-finite gradient, which we report ourselves.
            stack.enter_context(torch.autograd.set_detect_anomaly(False))
        if torch.get_default_device() != _CPU:
            stack.enter_context(_CPU)
        if float(_DENORMAL * 1) == 0:
            stack.enter_context(_kept_denormals())
        if any(_precisions()):
            stack.enter_context(_full_products())
        yield


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Convolve on CUDA in full precision, and with the same result each time.

    By default, cuDNN rounds float32 to TF32's ten bits. Can also be used as a decorator.
    """
    with torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    ):
        yield


def exact_run(run: Run) -> Run:
    """Decorate an engine's `run`: compute with our settings, on tensors that autograd accepts."""

    @wraps(run)
    def exact(engine: Any, problem: Any, *, gradient: bool = True) -> Any:
        with own_settings(grad=True):
            return run(engine, problem.ordinary, gradient=gradient)

    return cast(Run, exact)


def is_ordinary(tensor: Tensor) -> bool:
    """Return whether a tensor is plain numbers to autograd, without history or inference mode."""
    return not (tensor.requires_grad or tensor.is_inference())


def ordinary(tensor: Tensor) -> Tensor:
    """Return a tensor as plain numbers, without history or inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


@cache
def _autocast_kinds() -> tuple[str, ...]:
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


@contextmanager
def _kept_denormals() -> Iterator[None]:
    torch.set_flush_denormal(False)
    try:
        yield
    finally:
        torch.set_flush_denormal(True)


def _precisions() -> list[str]:
    """Return the settings that allow float32 products in reduced precision."""
    backends = (_BACKENDS, _BACKENDS.mkldnn, *_PRODUCTS)
    return [kind for b in backends if (kind := b.fp32_precision) not in ("none", "ieee")]


@contextmanager
def _full_products() -> Iterator[None]:
    before = [backend.fp32_precision for backend in _PRODUCTS]
    for backend in _PRODUCTS:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(_PRODUCTS, before, strict=True):
            backend.fp32_precision = precision
