"""The gradient of a problem's loss by finite differences."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from metaplast.engines import Problem, get_engine


def finite_differences(problem: Problem, step: float) -> Tensor:
    """Return ∂loss/∂θ by central differences with the batched engine, [episode, *theta.shape].

    All nudged coefficients run together: each has copies of all the episodes.
    """
    theta, episodes = problem.theta, problem.episodes.episodes
    nudges = step * torch.eye(theta.numel(), dtype=theta.dtype).view(-1, *theta.shape)
    nudged = torch.cat([theta + nudges, theta - nudges])
    if theta.dim() == 1:
        nudged = nudged[:, None].expand(-1, problem.learner.sites, -1)
    copies = problem.select(torch.arange(episodes).repeat(len(nudged)))
    copies = replace(copies, theta=nudged.repeat_interleave(episodes, 0))
    up, down = get_engine("batched").run(copies, gradient=False).loss.view(2, -1, episodes)
    return ((up - down) / (2 * step)).T.reshape(episodes, *theta.shape)
