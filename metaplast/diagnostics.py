"""What a rule does to a network: the angle of its errors to backprop's, sizes of its terms."""

from __future__ import annotations

import torch
from torch import Tensor

from metaplast.episode import EpisodeBatch
from metaplast.feedback import get_feedback
from metaplast.learner import Learner, Operators, State
from metaplast.torch_settings import own_settings


@own_settings()
@torch.no_grad()
def error_angles(learner: Learner, state: State, x: Tensor, labels: Tensor) -> Tensor:
    """Return the angles α_ℓ between the errors fed back and backprop's, in degrees.

        α_ℓ = ∠( mean over the batch of e_ℓ,  mean over the batch of e_ℓ^BP ),   ℓ = 1 … L-1,

    where e^BP uses the same activities with B replaced by Wᵀ (Shervani-Tabar & Rosenbaum 2023).

    Args:
        learner: whose feedback.
        state: the weights.
        x: query images, [episode, query, pixel].
        labels: [episode, query] class indices, or [episode, query, class] probabilities.

    Returns:
        [episode, layer]; 90 where an error vanishes.
    """
    network = learner.network
    operators = Operators.of(state)
    forward = network.forward(operators.weights, x)
    output_error = network.output_error(forward, labels)
    means = [
        [
            error.mean(1)
            for error in feedback.errors(
                network, operators.weights, operators.backward, forward, output_error, lowest=1
            )[1:-1]
        ]
        for feedback in (learner.feedback, get_feedback("symmetric"))
    ]
    angles = [_angle(a, b) for a, b in zip(*means, strict=True)]
    return torch.stack(angles, -1) if angles else x.new_zeros(x.shape[0], 0)


def _angle(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle between two vectors [episode, neuron] in degrees, 90 where one vanishes.

    With unit vectors u and v it is 2 atan2(‖u − v‖, ‖u + v‖), accurate at all angles (Kahan 2006).
    The cosine of a small angle is 1 to rounding, and its acos is then noise.
    """
    norms = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    u, v = a / norms[0], b / norms[1]
    angle = 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))
    vanishes = (norms[0] == 0) | (norms[1] == 0)
    return torch.where(vanishes.squeeze(-1), 90.0, torch.rad2deg(angle))


@own_settings()
@torch.no_grad()
def term_sizes(
    learner: Learner, theta: Tensor, state: State, episodes: EpisodeBatch, steps: int = 16
) -> Tensor:
    """Return how large each term's update F is while the rule learns, [layer, term].

    The root of the mean, over episodes and the first `steps` online steps, of ‖F‖²_F. Episodes
    that diverge in these steps are left out; NaN if all do.

    Args:
        learner: network, feedback and terms.
        theta: the rule that learns, [term] or [layer, term].
        state: initial weights.
        episodes: what is learned.
        steps: how many steps to measure.
    """
    layers = learner.network.layers
    theta = theta.expand(episodes.episodes, layers, theta.shape[-1])
    squares = torch.zeros_like(theta)
    steps = min(steps, episodes.steps)
    for t in range(steps):
        example = episodes.support_x[:, t], episodes.support_y[:, t]
        rows = [
            torch.stack([update.square().sum((-1, -2)) for update in updates], -1)
            for updates in learner.updates(state, *example)
        ]
        squares += torch.stack(rows, 1)
        state = learner.step(state, theta, *example)
    finite = torch.isfinite(squares).flatten(1).all(1)
    return (squares[finite].mean(0) / steps).sqrt()
