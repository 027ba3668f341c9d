"""One step of the outer optimizer, with the L1 penalty and the signs of coefficients."""

from __future__ import annotations

import torch
from torch import Tensor

from metaplast.meta.adam import Optimizer
from metaplast.meta.settings import OuterSettings


@torch.no_grad()
def penalised_step(
    u: Tensor,
    gradient: Tensor,
    optimizer: Optimizer,
    rate: float,
    settings: OuterSettings,
    signs: Tensor,
) -> None:
    """Change u by one step.

    Args:
        u: scaled coefficients, the parameter of the optimizer, [term] or [site, term].
        gradient: with respect to u; with one row if all sites move together.
        optimizer: takes the step.
        rate: the step size.
        settings: the settings that contain the penalty.
        signs: the sign of each coefficient, as for `OuterLoop`, [term].
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    u.grad = gradient.expand_as(u).clone()
    if settings.penalty == "subgradient":
        u.grad += settings.l1 * u.sign()
    optimizer.step()
    if settings.penalty == "proximal":
        u.copy_(torch.nn.functional.softshrink(u, rate * settings.l1))
    u.copy_(torch.where(signs * u < 0, 0.0, u))
