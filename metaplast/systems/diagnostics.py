"""Angles between vectors, accurate at all sizes."""

from __future__ import annotations

import torch
from torch import Tensor


def angle(a: Tensor, b: Tensor) -> Tensor:
    """Return the angle between two vectors [episode, neuron] in degrees, 90 if one is zero.

    For unit vectors u and v, it is 2 atan2(‖u − v‖, ‖u + v‖), accurate at all angles (Kahan 2006).
    The cosine of a small angle is 1 up to rounding, so its acos would be noise.
    """
    norms = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    u, v = a / norms[0], b / norms[1]
    angle = 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))
    vanishes = (norms[0] == 0) | (norms[1] == 0)
    return torch.where(vanishes.squeeze(-1), 90.0, torch.rad2deg(angle))
