"""Strict predictive coding in a fully connected stack, with all sweeps as one operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from metaplast.scans.functions import serves
from metaplast.scans.relaxation import Sweeps, relax
from metaplast.systems.feedback import ErrorPass
from metaplast.systems.objective import ErrorAt
from metaplast.systems.objectives.cross_entropy import CrossEntropy, class_probabilities
from metaplast.systems.objectives.mean_squared_error import MeanSquaredError
from metaplast.systems.relaxation import Relaxation
from metaplast.terms.operator import scan_together

_SERVED = (CrossEntropy, MeanSquaredError)
# ε_1 … ε_L, e_1 … e_L, and d_1 … d_{L-1}.
_Found = tuple[list[Tensor], list[Tensor], list[Tensor]]


def relaxed(given: ErrorPass, nets: Sequence[Tensor], settings: Relaxation) -> _Found | None:
    """Return ε_1 … ε_L, e_1 … e_L and v − v̂ of the hidden layers after the sweeps.

    Return None if compiled loops do not support this stack, tensor or objective.

    Args:
        given: the inputs of the feedback.
        nets: z_1 … z_L.
        settings: the settings of the sweeps.
    """
    error, higher = given.objective_error, given.weights[1:]
    if not isinstance(error, ErrorAt) or type(error.objective) not in _SERVED or not higher:
        return None
    sigma, output = given.activation.scanned, nets[-1]
    if torch.compiler.is_compiling() or not serves(sigma, output):
        return None
    is_softmax, widths = isinstance(error.objective, CrossEntropy), [z.shape[-1] for z in nets]
    sweeps = Sweeps(sigma, is_softmax, settings.eta, settings.n, tuple(widths))
    target = (
        error.target.to(output.dtype)
        if not is_softmax
        else class_probabilities(error.target, widths[-1], output.dtype)
    )

    def scan(known: list[Tensor] | None) -> tuple[list[tuple[Tensor, Tensor]], Any]:
        weights = torch.cat([weight.constant.flatten(1) for weight in higher], 1)
        packed = None if known is None else _packed(known, output, sweeps)
        z, y = torch.cat(list(nets), -1), torch.cat(list(given.activities[1:-1]), -1)
        found = relax(sweeps, weights, z, y, target, packed)
        steps = [found.d, found.p, found.e, found.q]
        d, p, e, q = ([x.flatten(1, 2) for x in _layers(step, widths)] for step in steps)
        pairs = [*zip(d, p[1:], strict=True), *zip(e[1:], q, strict=True)]
        moved = found.d[:, :, -1]
        return pairs, tuple(_layers(each, widths) for each in (found.epsilon, found.errors, moved))

    slots = [(weight, transposed) for transposed in (False, True) for weight in higher]
    yielded: _Found | None = scan_together(slots, scan)
    return yielded


def _layers(vectors: Tensor, widths: Sequence[int]) -> list[Tensor]:
    """Split vectors into the parts of the layers; the last layer's part may be missing."""
    whole = vectors.shape[-1] == sum(widths)
    return list(torch.split(vectors, list(widths if whole else widths[:-1]), -1))


def _packed(known: list[Tensor], like: Tensor, sweeps: Sweeps) -> tuple[Tensor, Tensor]:
    """Return p and q from the products of each matrix, [episode, sample · sweep, neuron]."""
    count, shape = len(known) // 2, (len(like), like.shape[1], sweeps.n, -1)
    # The products of the first layer are zero, because the input does not move.
    first = like.new_zeros(len(like), known[0].shape[1], sweeps.widths[0])
    p, q = torch.cat([first, *known[:count]], -1), torch.cat(known[count:], -1)
    return p.view(shape), q.view(shape)
