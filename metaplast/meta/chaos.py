"""Recognizes coefficients with which learning is chaotic and gradients are useless.

If coefficients are too large, two nearly equal networks grow apart while they learn. The loss still
changes little with the coefficients, but the exact gradient of each task becomes larger by orders
of magnitude, and its direction becomes noise. Gradient steps then do not lead back to regular
learning.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Coefficients are multiplied by this factor in a step where learning is chaotic.
SHRINK = 0.9


def is_chaotic(gradients: Tensor, diverged: int, step: float, loss: float) -> bool:
    """Return whether a step would change the loss of most tasks by more than the initial loss.

    Adam changes each coefficient by about the step size. For a task with gradient g, one step
    therefore changes the loss by up to step · ‖g‖₁. Learning counts as chaotic if the median of
    this bound over tasks is above the loss that the search began with. The gradient of a task that
    diverged counts as infinite.

    Args:
        gradients: with respect to the scaled coefficients, for at least one finite task, [task, …].
        diverged: number of tasks that diverged.
        step: the step size, not yet reduced by its schedule.
        loss: the loss at the first step, mean over tasks; if it is not finite and positive, it
            cannot serve as a reference, and the result is False.
    """
    if not (math.isfinite(loss) and loss > 0):
        return False
    norms = gradients.abs().flatten(1).sum(1)
    norms = torch.cat([norms, norms.new_full((diverged,), math.inf)])
    return bool(step * norms.median() > loss)
