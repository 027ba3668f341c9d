"""The gradient of an outer step; clipping keeps a single episode from dominating it."""

from __future__ import annotations

import torch
from torch import Tensor

from metaplast.engines import Outcome


def mean_clipped(gradients: Tensor, clip: float) -> Tensor:
    """Return the mean over episodes of gradients, each clipped to a norm of at most `clip`.

    Args:
        gradients: the gradient of each episode, [episode, …]; zeros are returned if there is none.
        clip: largest norm of an episode's gradient; 0 for no limit.
    """
    if not len(gradients):
        return gradients.new_zeros(gradients.shape[1:])
    if clip:
        norms = gradients.flatten(1).norm(dim=1).clamp_min(torch.finfo(gradients.dtype).tiny)
        factors = (clip / norms).clamp(max=1.0)
        gradients = gradients * factors.view(-1, *[1] * (gradients.dim() - 1))
    return gradients.mean(0)


def scaled_gradients(outcome: Outcome, finite: Tensor, scale: Tensor, *, tied: bool) -> Tensor:
    """Return each finite episode's gradient with respect to u, [episode, *scale.shape].

    Args:
        outcome: with each episode's gradient with respect to θ, [episode, *scale.shape].
        finite: which episodes take part, [episode].
        scale: units of θ, [term] or [site, term]; ∂loss/∂u = scale · ∂loss/∂θ.
        tied: whether all sites move together; their gradients are then added, [episode, 1, term].

    Raises:
        ValueError: if the outcome has no gradient.
    """
    if outcome.theta_gradient is None:
        raise ValueError("the outer loop needs a gradient")
    gradients = outcome.theta_gradient[finite] * scale
    return gradients.sum(1, keepdim=True) if tied and scale.dim() == 2 else gradients
