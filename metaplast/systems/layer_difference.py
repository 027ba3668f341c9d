"""The change of a layer's output when its input changes, without the error of a subtraction.

With a loss that is a mean over a batch, predictive coding moves activities by about 1e-6 of their
size. f(v + d) − f(v) would then be mostly rounding in single precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from metaplast.systems.activation import relu, softplus, tanh

Difference = Callable[[Any, Tensor, Tensor], Tensor]


class Base:
    """A module f with an input v, to compute f(v + d) − f(v) for several d.

    Args:
        module: f; the modules of a Sequential are taken one after another.
        given: v.
    """

    @torch.no_grad()
    def __init__(self, module: nn.Module, given: Tensor) -> None:
        self._steps: list[Callable[[Tensor], Tensor]] = []
        for part in _parts(module):
            exact = DIFFERENCES.get(type(part), _subtracted)
            if "forward" in vars(part) or any(hooks(part)):
                exact = _subtracted
            self._steps.append(partial(exact, part, given))
            # Copied, because a module may work in place.
            given = part(given.clone())

    @torch.no_grad()
    def change(self, moved: Tensor) -> Tensor:
        """Return f(v + d) − f(v) for d = `moved`."""
        for step in self._steps:
            moved = step(moved)
        return moved


def hooks(module: nn.Module) -> Iterator[object]:
    """Yield the hooks that may change a module's input or output."""
    yield from module._forward_hooks.values()
    for hook in module._forward_pre_hooks.values():
        # These compute the module's weight, and do not change the input.
        if not isinstance(hook, WeightNorm | SpectralNorm | BasePruningMethod):
            yield hook


def _parts(module: nn.Module) -> list[nn.Module]:
    if type(module) is nn.Sequential and not any(hooks(module)):
        return [part for inner in module for part in _parts(inner)]
    return [module]


def _subtracted(module: nn.Module, given: Tensor, moved: Tensor) -> Tensor:
    """Subtract the two outputs; used for every module that is not in `DIFFERENCES`."""
    before, after = module(given.clone()), module(given + moved)
    found: Tensor = after - before
    return found


def _same(module: nn.Module, _: Tensor, moved: Tensor) -> Tensor:
    """Apply the module to d: exact for linear modules without bias."""
    found: Tensor = module(moved.clone())
    return found


def _linear(module: nn.Linear, _: Tensor, moved: Tensor) -> Tensor:
    return functional.linear(moved, module.weight)


def _convolution(module: Any, _: Tensor, moved: Tensor) -> Tensor:
    found: Tensor = module._conv_forward(moved, module.weight, None)
    return found


def _softplus(module: nn.Softplus, given: Tensor, moved: Tensor) -> Tensor:
    return softplus(module.beta).difference(given, moved)


def _sigmoid(_: nn.Module, given: Tensor, moved: Tensor) -> Tensor:
    """Use sigmoid(z) = (1 + tanh(z/2)) / 2."""
    return tanh().difference(given / 2, moved / 2) / 2


def _largest(module: nn.MaxPool2d, given: Tensor, moved: Tensor) -> Tensor:
    """Use v'[j'] − v[j] = (v[j'] − v[j]) + d[j'], where j and j' index the largest entries."""

    def places(at: Tensor) -> Tensor:
        _, found = functional.max_pool2d(
            at, module.kernel_size, module.stride, module.padding, module.dilation,
            module.ceil_mode, return_indices=True,
        )  # fmt: skip
        return found

    def taken(at: Tensor, where: Tensor) -> Tensor:
        return at.flatten(-2).gather(-1, where.flatten(-2)).view_as(where)

    before, after = places(given), places(given + moved)
    return taken(given, after) - taken(given, before) + taken(moved, after)


DIFFERENCES: dict[type, Difference] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.Conv3d: _convolution,
    nn.Identity: _same,
    nn.Flatten: _same,
    nn.Unflatten: _same,
    nn.AvgPool1d: _same,
    nn.AvgPool2d: _same,
    nn.AvgPool3d: _same,
    nn.ReLU: lambda _, given, moved: relu().difference(given, moved),
    nn.Tanh: lambda _, given, moved: tanh().difference(given, moved),
    nn.Sigmoid: _sigmoid,
    nn.Softplus: _softplus,
    nn.MaxPool2d: _largest,
}
