"""Reward: softmax outputs that choose an action, scored by the expected reward."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metaplast.systems.number_objective import NumberObjective


class ExpectedReward(NumberObjective):
    """loss = −Σ_j p_j r_j with p = softmax z, scored by Σ_j p_j r_j.

    A target r contains the reward that each action would bring, [episode, sample, neuron]. Loss,
    error and score read all of it; the system decides what reaches its synapses.
    """

    name = "reward"
    summary = "actions: softmax outputs, scored by the reward that they bring on average"
    score_name = "reward"
    worst = -math.inf
    best = math.inf
    least_effect = 0.002
    activity_text = "softmax"
    loss_text = "the expected reward of the actions, with its sign changed"
    error_text = "y_L ⊙ (y_Lᵀ r − r)"
    error_latex = r"y_{L} \odot (y_{L}^{\top} r - r)"

    def activity(self, output: Tensor) -> Tensor:
        """Return p, the probabilities of the actions."""
        return torch.softmax(output, -1)

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        """Return −Σ_j p_j r_j of each sample."""
        return -self.score(output, target)

    def error(self, output: Tensor, target: Tensor) -> Tensor:
        """Return p ⊙ (Σ_j p_j r_j − r)."""
        p = self.activity(output)
        return p * ((p * target).sum(-1, keepdim=True) - target)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        """Return Σ_j p_j r_j of each sample."""
        return (self.activity(output) * target).sum(-1)

    def least_score(self, target: Tensor) -> Tensor:
        """Return the smallest reward of each sample."""
        return target.amin(-1)


expected_reward = ExpectedReward()
