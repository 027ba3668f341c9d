"""Measurements of networks while they learn, one small function for each quantity.

A probe takes a `Snapshot` and returns a tensor whose first axis is the network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from metaplast.systems.constrained import unconstrained
from metaplast.systems.fully_connected import FullyConnected
from metaplast.systems.learner import Learner
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples
from metaplast.terms.algebra import W
from metaplast.terms.operator import Operator

# Norms of updates are means over only this many images, because each needs full matrices.
EXAMPLES = 8


@dataclass(frozen=True)
class Snapshot:
    """Networks at one point in their training.

    Attributes:
        learner: the system and the rule's terms.
        theta: coefficients, [term] or [site, term].
        state: the matrices and carried vectors.
        x: held-out images, [network, image, input], or sequences.
        labels: [network, image].
    """

    learner: Learner
    theta: Tensor
    state: State
    x: Tensor
    labels: Tensor

    @property
    def site_theta(self) -> Tensor:
        """θ as [site, term]."""
        return self.theta.expand(self.learner.sites, self.theta.shape[-1])

    @property
    def query(self) -> Examples:
        """The held-out images with their labels."""
        return Examples(self.x, self.labels)

    @property
    def activities(self) -> tuple[Tensor, ...]:
        """y_0 … y_L of the held-out images, each [network, image, neuron]."""
        return self.learner.network.forward(View.of(self.state).weights, self.x).activities


Probe = Callable[[Snapshot], Tensor]


def angles(snapshot: Snapshot) -> Tensor:
    """Return the angles between the errors and those of backprop, in degrees.

    Returns:
        [network, layer 1 … L-1]; for other systems than stacks, the last axis is that of
        `System.error_angles`.
    """
    return snapshot.learner.error_angles(snapshot.state, snapshot.query)


def activity_norms(snapshot: Snapshot) -> Tensor:
    """Return the mean ‖y_ℓ‖₂ over images, [network, layer 1 … L]; [network, 0] if not a stack."""
    if not isinstance(unconstrained(snapshot.learner.system), FullyConnected):
        return snapshot.x.new_zeros(len(snapshot.x), 0)
    return torch.stack([y.norm(dim=-1).mean(-1) for y in snapshot.activities[1:]], -1)


def weight_norms(snapshot: Snapshot) -> Tensor:
    """Return the Frobenius norms ‖W_ℓ‖, [network, layer 1 … L]; in other systems, by site."""
    forward = [g.name for g in snapshot.learner.system.groups if g.matrix == W]
    weights = [snapshot.state.matrices[name] for name in forward]
    return torch.stack([w.flatten(1).norm(dim=1) for w in weights], -1)


def term_norms(snapshot: Snapshot) -> Tensor:
    """Return ‖θ_k F^k‖ of each term, the mean over `EXAMPLES` images, [network, site, term]."""
    return _update_norms(snapshot)[..., :-1]


def update_norms(snapshot: Snapshot) -> Tensor:
    """Return ‖ΔW_ℓ‖ of one step, the mean over `EXAMPLES` images, [network, site]."""
    return _update_norms(snapshot)[..., -1]


def _update_norms(snapshot: Snapshot) -> Tensor:
    """Return the norm of each term's update and, last, of all updates of W together.

    Returns:
        The mean over images, [network, site, term + 1].
    """
    images = min(EXAMPLES, snapshot.x.shape[1])
    examples = (Examples(snapshot.x[:, i], snapshot.labels[:, i]) for i in range(images))
    return torch.stack([_norms_of(snapshot, example) for example in examples]).mean(0)


def _norms_of(snapshot: Snapshot, example: Examples) -> Tensor:
    """Return the same for one image, see `_update_norms`."""
    learner, theta = snapshot.learner, snapshot.site_theta
    norms = snapshot.x.new_zeros(len(snapshot.x), learner.sites, len(learner.terms) + 1)
    updates = learner.updates(snapshot.state, example)
    for group in learner.system.groups:
        total = torch.zeros_like(snapshot.state.matrices[group.name])
        for k, raw in zip(learner.acting(group), updates[group.name], strict=True):
            update = theta[group.site, k] * raw
            norms[:, group.site, k] = update.flatten(1).norm(dim=1)
            total = total + update
        if group.matrix == W:
            norms[:, group.site, -1] = total.flatten(1).norm(dim=1)
    return norms


def reconstruction_errors(snapshot: Snapshot) -> Tensor:
    """Return J_ℓ = ‖y_{ℓ-1} − W_ℓᵀ y_ℓ‖², the mean over the images, [network, layer 1 … L].

    It measures how well a layer's activities reconstruct its input (Shervani-Tabar et al. 2024,
    arXiv:2408.08408, fig. 2).
    """
    errors = [(y - back).square().sum(-1).mean(-1) for y, back, _ in _reconstructions(snapshot)]
    return torch.stack(errors, -1)


def orthonormality_errors(snapshot: Snapshot) -> Tensor:
    """Return ‖z_ℓ − W_ℓ W_ℓᵀ y_ℓ‖², the mean over the images, [network, layer 1 … L].

    It is 0 if z_ℓ = y_ℓ and the rows of W_ℓ are orthonormal (Shervani-Tabar & Rosenbaum 2023).
    """
    errors = [
        (weight.matmul(y) - weight.matmul(back)).square().sum(-1).mean(-1)
        for y, back, weight in _reconstructions(snapshot)
    ]
    return torch.stack(errors, -1)


def explained_variance(snapshot: Snapshot, layers: Sequence[int], components: int) -> Tensor:
    """Return the share of variance that the first principal components of y_ℓ explain.

    Args:
        snapshot: must have more images than `components`.
        layers: the layers' numbers ℓ.
        components: number of components.

    Returns:
        The cumulative share, [network, component, layer]; 1 beyond a layer's number of neurons.
    """
    y = snapshot.activities
    shares = []
    for layer in layers:
        centred = y[layer] - y[layer].mean(1, keepdim=True)
        variance = torch.linalg.svdvals(centred.double()).square()
        share = (variance / variance.sum(-1, keepdim=True)).cumsum(-1)[:, :components]
        missing = components - share.shape[1]
        shares.append(torch.cat([share, share.new_ones(len(share), missing)], 1))
    return torch.stack(shares, -1)


def reconstructed_images(snapshot: Snapshot, layers: Sequence[int], images: int) -> Tensor:
    """Return the first images, and their reconstructions W_1ᵀ … W_ℓᵀ y_ℓ from some layers.

    Returns:
        [network, pixel, picture]: the images, then their reconstructions from each layer in turn.
    """
    weights = View.of(snapshot.state).weights
    x = snapshot.x[:, :images]
    y = [activity[:, :images] for activity in snapshot.activities]
    pictures = [x]
    for layer in layers:
        back = y[layer]
        for weight in reversed(weights[:layer]):
            back = weight.transposed(back)
        pictures.append(back)
    return torch.cat(pictures, 1).mT


def _reconstructions(snapshot: Snapshot) -> list[tuple[Tensor, Tensor, Operator]]:
    """Return y_{ℓ-1}, its reconstruction W_ℓᵀ y_ℓ [network, image, neuron] and W_ℓ, by layer."""
    weights, y = View.of(snapshot.state).weights, snapshot.activities
    return [(y[i], weight.transposed(y[i + 1]), weight) for i, weight in enumerate(weights)]


PROBES: Mapping[str, Probe] = MappingProxyType(
    {
        "angle": angles,
        "activity_norm": activity_norms,
        "weight_norm": weight_norms,
        "update_norm": update_norms,
    }
)
