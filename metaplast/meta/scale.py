"""The size of each term's update: the units in which terms compete."""

from __future__ import annotations

import torch
from torch import Tensor

from metaplast.base.torch_settings import own_settings
from metaplast.systems.learner import Learner
from metaplast.systems.state import State
from metaplast.systems.system import Examples
from metaplast.tasks.batch import EpisodeBatch


@own_settings()
@torch.no_grad()
def term_sizes(
    learner: Learner, theta: Tensor, state: State, episodes: EpisodeBatch, steps: int = 16
) -> Tensor:
    """Return the size of each term's update F while the rule learns, [site, term].

    This is the root mean square of ‖F‖_F over episodes and the first `steps` online steps. Episodes
    that diverge in these steps are left out; NaN if all do.

    Args:
        learner: system and terms.
        theta: the rule that learns, [term] or [site, term].
        state: initial weights.
        episodes: the episodes to learn.
        steps: how many steps to measure.
    """
    theta = theta.expand(episodes.episodes, learner.sites, theta.shape[-1])
    squares = torch.zeros_like(theta)
    steps = min(steps, episodes.steps)
    for t in range(steps):
        squares += _squares(learner, state, episodes.example(t), squares)
        state = learner.step(state, theta, episodes.example(t))
    finite = torch.isfinite(squares).flatten(1).all(1)
    return (squares[finite].mean(0) / steps).sqrt()


def units(sizes: Tensor, reference: Tensor) -> Tensor:
    """Return the units of θ: min(1, size of the reference terms' update / size of the term's).

    All are 1 if a size is not finite, because every episode diverged, or if nothing changes.

    Args:
        sizes: the sizes of the terms' updates, [term] or [site, term].
        reference: which terms set the unit, [term].
    """
    measure = sizes[..., reference].square().mean(-1, keepdim=True).sqrt()
    if not (torch.isfinite(sizes).all() and (measure > 0).all()):
        return torch.ones_like(sizes)
    return (measure / sizes.clamp_min(torch.finfo(sizes.dtype).tiny)).clamp(max=1.0)


def start_units(sizes: Tensor, theta: Tensor) -> Tensor:
    """Return the units of θ in which each coefficient starts at 1 or −1.

    A term that starts at zero has the unit at which its update is as large as that of the others at
    their start, in the root mean square, but at most 1. If a size is not finite, because every
    episode diverged, it has the largest unit of the others.

    Args:
        sizes: the sizes of the terms' updates, [term] or [site, term].
        theta: the initial coefficients, at least one of them not zero, [term] or [site, term].
    """
    starts = theta != 0
    squares = (theta * sizes).square()
    begun = (squares.sum(-1, keepdim=True) / starts.sum(-1, keepdim=True).clamp_min(1)).sqrt()
    others = (begun / sizes.clamp_min(torch.finfo(sizes.dtype).tiny)).clamp(max=1.0)
    if not (torch.isfinite(sizes).all() and (begun > 0).all()):
        others = theta.abs().max().expand_as(theta)
    return torch.where(starts, theta.abs(), others)


def _squares(learner: Learner, state: State, example: Examples, like: Tensor) -> Tensor:
    """Return ‖F‖²_F of every term at every site after one example, [episode, site, term]."""
    found = torch.zeros_like(like)
    updates = learner.updates(state, example)
    for group in learner.system.groups:
        for k, update in zip(learner.acting(group), updates[group.name], strict=True):
            found[:, group.site, k] += update.square().sum((-1, -2))
    return found
