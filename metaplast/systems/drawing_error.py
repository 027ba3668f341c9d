"""The error of a drawing, and a reservoir's reward and gate that follow from it; differentiable.

The equations are in `metaplast.reservoirs.algorithm`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metaplast.reservoirs.algorithm import Algorithm
from metaplast.reservoirs.plain_loop import SHARPNESS
from metaplast.reservoirs.tasks import SHOULDER, Task


def position(task: Task, z: Tensor) -> Tensor:
    """Return h(z), [..., 2], of outputs [..., output]."""
    if not task.is_arm:
        return z
    angles = math.pi * z.cumsum(-1)
    lengths = z.new_tensor(task.lengths)
    parts = (torch.sin(angles), torch.cos(angles))
    x, y = ((lengths * part).sum(-1) + at for part, at in zip(parts, SHOULDER, strict=True))
    return torch.stack([x, y], -1)


def drawing_error(
    task: Task, costs: tuple[float, ...], z: Tensor, movement: Tensor, target: Tensor
) -> Tensor:
    """Return e = ‖h(z) − target‖² + Σ_j cost_j |movement_j|, [..., 1].

    Args:
        task: maps outputs to positions.
        costs: the cost of moving each output; () for none.
        z: [..., output].
        movement: ẑ, [..., output].
        target: [..., 2].
    """
    error = (position(task, z) - target).square().sum(-1, keepdim=True)
    if costs:
        error = error + (z.new_tensor(costs) * movement.abs()).sum(-1, True)
    return error


def filtered(mean: Tensor, value: Tensor, first: Tensor, memory: float) -> Tensor:
    """Return a filter's next value; it starts at its first input."""
    return memory * torch.where(first, value, mean) + (1 - memory) * value


def reward(how: Algorithm, d: Tensor) -> Tensor:
    """Return φ(d); its slope at 0, which is infinite, is taken as 0."""
    size = d.abs()
    root = torch.where(size > 0, torch.where(size > 0, size, 1.0) ** 0.25, 0.0)
    worse = 0.0 if how.one_sided else -5.0
    return torch.where(d < 0, worse * root, 5 * root)


def gate(how: Algorithm, error_mean: Tensor) -> Tensor:
    """Return s, which is 1 with supervision."""
    if how.supervised:
        return torch.ones_like(error_mean)
    return 0.5 * (1 - torch.tanh(SHARPNESS * (error_mean - how.threshold)))
