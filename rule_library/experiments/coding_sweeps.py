"""Variants of the experiments on predictive coding: long relaxations of one batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from metaplast.base.torch_settings import exact_convolutions, own_settings
from metaplast.reproduce.experiment import Setting, plain
from metaplast.reproduce.table import AT, Row
from rule_library.experiments.coding_networks import (
    LOSSES,
    Loss,
    backprop,
    distances,
    published_sweeps,
    weight_gradients,
)
from rule_library.experiments.coding_runs import CodingTraining, numbered


@dataclass(frozen=True, eq=False)
class CodingSweeps(CodingTraining):
    """Long relaxations in a network that backpropagation has trained, on one batch.

    Rows at n = 1, 2, … hold the relative errors and angles for each η, in single and double
    precision with the published arithmetic; rows at a scale hold them for the loss times this
    scale.

    Attributes:
        counts: numbers of sweeps after which gradients are compared.
        etas: step sizes of the sweeps.
        scales: factors on the loss, for 400 sweeps with η = 0.1.
        images: size of the batch.
    """

    counts: tuple[int, ...] = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 140, 200)
    etas: tuple[float, ...] = (0.1, 0.2, 0.5, 1.0)
    scales: tuple[float, ...] = ()
    images: int = 100

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        own = {key: getattr(self, key) for key in ("etas", "scales", "images")}
        return super().settings(setting) | plain({**own, "counts": self._counts(setting)})

    def _counts(self, setting: Setting) -> tuple[int, ...]:
        return self.counts[:5] if setting.quick else self.counts

    @own_settings(grad=True)
    @exact_convolutions()
    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return a row for each number of sweeps, and for each scale of the loss."""
        setup = self.setup(setting)
        split, loss = setup.split(setting), LOSSES[setup.loss]
        like = torch.empty(0, dtype=torch.float32, device=setting.device)
        model = setup.network(split, seed, like)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
        for x, y, _, _ in setup.batches(split, split.final, seed, like):
            backprop(model, loss, x, y)
            optimizer.step()
        x, y = x[: self.images], y[: self.images]
        counts, most = self._counts(setting), 8 if setting.quick else 400
        found: dict[int, dict[str, float]] = {n: {AT: float(n)} for n in counts}
        for dtype, name in ((torch.float32, "single"), (torch.float64, "double")):
            for eta in self.etas:
                at = self._relaxed(model.to(dtype), loss, x.to(dtype), y, eta, counts)
                for n, measures in at.items():
                    found[n] |= numbered(measures, f"{name}_{eta:g}_")
        rows: list[Row] = list(found.values())
        for scale in self.scales:
            at = self._relaxed(model.double(), _scaled(loss, scale), x.double(), y, 0.1, [most])
            (measures,) = at.values()
            rows.append({AT: scale, **numbered(measures, "scaled_")})
        return rows

    def _relaxed(
        self, model: nn.Sequential, loss: Loss, x: Tensor, y: Tensor, eta: float, counts: Any
    ) -> dict[int, dict[str, list[float]]]:
        """Return errors and angles after each of `counts` sweeps, until one is not finite."""
        backprop(model, loss, x, y)
        true, found = weight_gradients(model), {}
        for n in published_sweeps(model, loss, x, y, self.algorithm, eta, counts):
            found[n] = distances(weight_gradients(model), true)
            if not all(map(math.isfinite, found[n]["error"])):
                break
        return found


def _scaled(loss: Loss, scale: float) -> Loss:
    return lambda output, y: scale * loss(output, y)
