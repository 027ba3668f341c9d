"""What can be measured in networks while they learn: one small function for each quantity.

A probe takes a `Moment` and returns one number or one row of numbers for each network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from metaplast.diagnostics import error_angles
from metaplast.learner import Learner, Operators, State
from metaplast.term import full_update

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
    operators = Operators.of(moment.state)
    theta = moment.layer_theta
    norms = []
    for i in range(images):
        rows = []
        ends = learner.synapses(operators, moment.x[:, i], moment.labels[:, i])
        for layer, synapses in enumerate(ends):
            total = torch.zeros_like(synapses.operator.tensor)
            row = []
            for k, term in enumerate(learner.terms):
                at = synapses.at(operators.backward[layer]) if term.is_backward else synapses
                update = theta[layer, k] * full_update(term, at)
                row.append(update.flatten(1).norm(dim=1))
                total = total if term.is_backward else total + update
            rows.append(torch.stack([*row, total.flatten(1).norm(dim=1)], -1))
        norms.append(torch.stack(rows, 1))
    return torch.stack(norms).mean(0)


PROBES: Mapping[str, Probe] = MappingProxyType(
    {
        "angle": angles,
        "activity_norm": activity_norms,
        "weight_norm": weight_norms,
        "update_norm": update_norms,
    }
)
