"""What can be measured in networks while they learn: one small function for each quantity.

A probe takes a `Moment` and returns one number or one row of numbers for each network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from metaplast.diagnostics import error_angles
from metaplast.learner import Learner, Operators, State
from metaplast.operator import Operator

# Sizes of changes are means over this many images: each takes full matrices.
EXAMPLES = 8


@dataclass(frozen=True)
class Moment:
    """Networks at one point of their training.

    Attributes:
        learner: network, feedback and terms.
        theta: coefficients, [term] or [layer, term].
        state: the weights.
        x: held-out images, [network, image, pixel].
        labels: [network, image].
    """

    learner: Learner
    theta: Tensor
    state: State
    x: Tensor
    labels: Tensor

    @property
    def layer_theta(self) -> Tensor:
        """θ as [layer, term]."""
        return self.theta.expand(self.learner.network.layers, self.theta.shape[-1])


Probe = Callable[[Moment], Tensor]


def angles(moment: Moment) -> Tensor:
    """Return the angles of the errors fed back to backprop's, degrees, [network, layer 1 … L-1]."""
    return error_angles(moment.learner, moment.state, moment.x, moment.labels)


def activity_norms(moment: Moment) -> Tensor:
    """Return ‖y_ℓ‖₂, a mean over the images, [network, layer 1 … L]."""
    forward = moment.learner.network.forward(Operators.of(moment.state).weights, moment.x)
    return torch.stack([y.norm(dim=-1).mean(-1) for y in forward.activities[1:]], -1)


def weight_norms(moment: Moment) -> Tensor:
    """Return the Frobenius norms ‖W_ℓ‖, [network, layer 1 … L]."""
    return torch.stack([w.flatten(1).norm(dim=1) for w in moment.state.weights], -1)


def term_norms(moment: Moment) -> Tensor:
    """Return ‖θ_k F^k‖ of each term, a mean over a few images, [network, layer 1 … L, term]."""
    return _update_norms(moment)[..., :-1]


def update_norms(moment: Moment) -> Tensor:
    """Return ‖ΔW_ℓ‖ of one step, a mean over a few images, [network, layer 1 … L]."""
    return _update_norms(moment)[..., -1]


def _update_norms(moment: Moment) -> Tensor:
    """Return the norms of each term's update and of all those of W together, last."""
    learner, images = moment.learner, min(EXAMPLES, moment.x.shape[1])
    theta = moment.layer_theta
    norms = []
    for i in range(images):
        rows = []
        layers = learner.updates(moment.state, moment.x[:, i], moment.labels[:, i])
        for layer, updates in enumerate(layers):
            total = torch.zeros_like(moment.state.weights[layer])
            row = []
            for k, (term, raw) in enumerate(zip(learner.terms, updates, strict=True)):
                update = theta[layer, k] * raw
                row.append(update.flatten(1).norm(dim=1))
                total = total if term.is_backward else total + update
            rows.append(torch.stack([*row, total.flatten(1).norm(dim=1)], -1))
        norms.append(torch.stack(rows, 1))
    return torch.stack(norms).mean(0)


def reconstruction_errors(moment: Moment) -> Tensor:
    """Return J_ℓ = ‖y_{ℓ-1} − W_ℓᵀ y_ℓ‖², a mean over the images, [network, layer 1 … L].

    How well a layer's activities tell its input (Shervani-Tabar et al. 2024, arXiv:2408.08408,
    fig. 2).
    """
    errors = [(y - back).square().sum(-1).mean(-1) for y, back, _ in _reconstructions(moment)]
    return torch.stack(errors, -1)


def orthonormality_errors(moment: Moment) -> Tensor:
    """Return ‖z_ℓ − W_ℓ W_ℓᵀ y_ℓ‖², a mean over the images, [network, layer 1 … L].

    Zero for z_ℓ = y_ℓ and orthonormal rows of W_ℓ (Shervani-Tabar & Rosenbaum 2023).
    """
    errors = [
        (weight.carry(y) - weight.carry(back)).square().sum(-1).mean(-1)
        for y, back, weight in _reconstructions(moment)
    ]
    return torch.stack(errors, -1)


def explained_variance(moment: Moment, layers: Sequence[int], components: int) -> Tensor:
    """Return the share of variance in the first principal components of y_ℓ over the images.

    Args:
        moment: with more images than components.
        layers: numbers ℓ of the layers.
        components: how many to tell.

    Returns:
        [network, component, layer], rising to 1; 1 where a layer has fewer neurons.
    """
    y = moment.learner.network.forward(Operators.of(moment.state).weights, moment.x).activities
    shares = []
    for layer in layers:
        centred = y[layer] - y[layer].mean(1, keepdim=True)
        variance = torch.linalg.svdvals(centred.double()).square()
        share = (variance / variance.sum(-1, keepdim=True)).cumsum(-1)[:, :components]
        missing = components - share.shape[1]
        shares.append(torch.cat([share, share.new_ones(len(share), missing)], 1))
    return torch.stack(shares, -1)


def reconstructed_images(moment: Moment, layers: Sequence[int], images: int) -> Tensor:
    """Return the first images, then W_1ᵀ … W_ℓᵀ y_ℓ of each of some layers.

    Returns:
        [network, pixel, picture]: the images themselves, then those of the first layer, ….
    """
    weights = Operators.of(moment.state).weights
    x = moment.x[:, :images]
    y = moment.learner.network.forward(weights, x).activities
    pictures = [x]
    for layer in layers:
        back = y[layer]
        for weight in reversed(weights[:layer]):
            back = weight.project(back)
        pictures.append(back)
    return torch.cat(pictures, 1).mT


def _reconstructions(moment: Moment) -> list[tuple[Tensor, Tensor, Operator]]:
    """Return y_{ℓ-1}, its reconstruction W_ℓᵀ y_ℓ [network, image, neuron] and W_ℓ, by layer."""
    weights = Operators.of(moment.state).weights
    y = moment.learner.network.forward(weights, moment.x).activities
    return [
        (y[i], weight.project(y[i + 1]), weight) for i, weight in enumerate(weights)
    ]  # fmt: skip


PROBES: Mapping[str, Probe] = MappingProxyType(
    {
        "angle": angles,
        "activity_norm": activity_norms,
        "weight_norm": weight_norms,
        "update_norm": update_norms,
    }
)
