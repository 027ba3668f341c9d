"""Variants of the experiments on predictive coding: training from batches, and one long relaxation."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from metaplast import predictive_coding
from metaplast.base.seeds import generator
from metaplast.base.torch_settings import own_settings
from metaplast.reproduce.experiment import Setting, plain
from metaplast.reproduce.table import AT, DIVERGED, Row
from metaplast.tasks.library import open_stream
from metaplast.tasks.request import StreamRequest
from metaplast.tasks.stream import StreamSampler, StreamSplit
from rule_library.experiments.coding_networks import (
    LOSSES,
    Loss,
    backprop,
    distances,
    network,
    published,
    published_sweeps,
    weights,
)

RATES = (0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class CodingSetup:
    """What is learned, and how long.

    Attributes:
        dataset: name of the source.
        steps: number of batches.
        batch: images in one.
        queries: held-out images on which accuracy and loss are measured.
        records: number of times that everything is measured.
        loss: "cross-entropy" or "mse".
    """

    dataset: str = "mnist"
    steps: int = 400
    batch: int = 300
    queries: int = 1000
    records: int = 20
    loss: str = "cross-entropy"

    def split(self, setting: Setting) -> StreamSplit:
        """Return the images for tuning rates, and those for training."""
        return open_stream(self.dataset, StreamRequest(data_root=setting.data_root))

    def batches(
        self, split: StreamSplit, sampler: StreamSampler, seed: int, dtype: torch.dtype
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield images and classes of each step, and those that are held out."""
        side, left, epoch = math.isqrt(split.inputs), self.steps, 0
        while left:
            several = min(left, max(1, split.images // self.batch))
            draw = generator(seed, "coding", "images", epoch)
            drawn = sampler.sample(several * self.batch, self.queries, draw)
            x = drawn.support_x.to(dtype).view(several, self.batch, 1, side, side)
            query_x = drawn.query_x.to(dtype).view(-1, 1, side, side)
            for images, labels in zip(x, drawn.support_y.view(several, self.batch), strict=True):
                yield images, labels, query_x, drawn.query_y[0]
            left, epoch = left - several, epoch + 1

    def network(self, split: StreamSplit, seed: int, dtype: torch.dtype) -> nn.Sequential:
        """Return a fresh network."""
        draw = generator(seed, "coding", "weights")
        return network(math.isqrt(split.inputs), split.outputs, draw, dtype)


@dataclass(frozen=True, eq=False)
class CodingTraining:
    """A network that learns from batches by one algorithm.

    Attributes:
        name: the name of the variant.
        algorithm: "backprop", "strict" or "fixed".
        eta, n: the parameters of predictive coding.
        full: what is learned.
        quick: fields that differ in the quick version.
        adam: whether Adam, with the published rate 0.002, takes the steps, or SGD, whose rate is
            the best of four on separate images for backpropagation.
        own_rate: whether SGD's rate is the best for the algorithm itself instead.
        double: whether everything is in float64, by `metaplast.predictive_coding`; if not, it is in
            float32 with the published arithmetic.
    """

    name: str
    algorithm: str
    eta: float = 0.1
    n: int = 20
    full: CodingSetup = CodingSetup()
    quick: Mapping[str, Any] = field(default_factory=dict)
    adam: bool = True
    own_rate: bool = False
    double: bool = False

    def setup(self, setting: Setting) -> CodingSetup:
        """Return what is learned."""
        return replace(self.full, **self.quick) if setting.quick else self.full

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        keys = ("algorithm", "eta", "n", "adam", "own_rate", "double")
        own = {key: getattr(self, key) for key in keys}
        return own | plain(asdict(self.setup(setting)))

    def data(self, setting: Setting) -> dict[str, Callable[[], object]]:
        """Return a function that opens its data."""
        setup = self.setup(setting)
        return {f"stream {setup.dataset}": lambda: setup.split(setting)}

    def prepare(self, setting: Setting, folder: Path) -> dict[str, Any]:
        """Return the rate of SGD with the best accuracy on images used for nothing else."""
        if self.adam:
            return {}
        setup = self.setup(setting)
        setup = replace(setup, steps=max(1, setup.steps // 2), records=1)
        split = setup.split(setting)
        tuned = self if self.own_rate else replace(self, algorithm="backprop")
        tried = {
            str(rate): tuned._learn(setup, split, split.tuning, 1000, rate, measured=False)[-1]
            for rate in RATES
        }
        best = max(tried, key=lambda rate: tried[rate]["accuracy"])
        accuracies = {rate: row["accuracy"] for rate, row in tried.items()}
        return {"rate": float(best), "tried": accuracies, "found_on": split.description}

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return a row for each record."""
        setup = self.setup(setting)
        split = setup.split(setting)
        rate = prepared.get("rate", 0.002)
        return list(self._learn(setup, split, split.final, seed, rate, measured=self.adam))

    @own_settings(grad=True)
    def _learn(
        self,
        setup: CodingSetup,
        split: StreamSplit,
        sampler: StreamSampler,
        seed: int,
        rate: float,
        *,
        measured: bool,
    ) -> list[dict[str, float]]:
        dtype = torch.float64 if self.double else torch.float32
        model, loss = setup.network(split, seed, dtype), LOSSES[setup.loss]
        kind = torch.optim.Adam if self.adam else torch.optim.SGD
        optimizer = kind(model.parameters(), lr=rate)
        every, rows, spent = max(1, setup.steps // setup.records), [], 0.0
        batches = setup.batches(split, sampler, seed, dtype)
        for step, (x, y, query_x, query_y) in enumerate(batches, 1):
            began = time.process_time()
            self._set_gradients(model, loss, x, y)
            spent += time.process_time() - began
            records = step % every == 0
            found = self._compare(model, loss, x, y) if records and measured else {}
            optimizer.step()
            if records:
                row = _quality(model, loss, query_x, query_y)
                rows.append({AT: float(step), **row, "seconds": spent / step, **found})
        return rows

    def _set_gradients(self, model: nn.Sequential, loss: Loss, x: Tensor, y: Tensor) -> None:
        if self.algorithm == "backprop":
            backprop(model, loss, x, y)
        elif self.double or not self.adam:
            model.zero_grad()
            predictive_coding(model, loss, x, y, self.algorithm, self.eta, self.n)
        else:
            published(model, loss, x, y, self.algorithm, self.eta, self.n)

    def _compare(self, model: nn.Sequential, loss: Loss, x: Tensor, y: Tensor) -> Row:
        """Return how far the gradients are from backpropagation's, which are left in their place.

        In float32 also how far those of `metaplast.predictive_coding` are.
        """
        if self.algorithm == "backprop":
            return {}
        kept = [p.grad for p in model.parameters()]
        found = weights(model)
        backprop(model, loss, x, y)
        true = weights(model)
        row = _numbered(distances(found, true))
        if not self.double:
            model.zero_grad()
            predictive_coding(model, loss, x, y, self.algorithm, self.eta, self.n)
            row |= _numbered(distances(weights(model), true), "own_")
        for parameter, gradient in zip(model.parameters(), kept, strict=True):
            parameter.grad = gradient
        return row


@torch.no_grad()
def _quality(model: nn.Sequential, loss: Loss, x: Tensor, y: Tensor) -> dict[str, float]:
    output = model(x)
    found = float(loss(output, y))
    accuracy = float((output.argmax(-1) == y).double().mean())
    return {"accuracy": accuracy, "loss": found, DIVERGED: float(not math.isfinite(found))}


def _numbered(measures: Mapping[str, list[float]], prefix: str = "") -> dict[str, float]:
    return {
        f"{prefix}{name}_{index}": value
        for name, values in measures.items()
        for index, value in enumerate(values, 1)
        if math.isfinite(value)
    }


@dataclass(frozen=True, eq=False)
class CodingSweeps(CodingTraining):
    """Long relaxations in a network that backpropagation has trained, on one batch.

    Rows at n = 1, 2, … hold the relative errors and angles for each η, in single and double
    precision with the published arithmetic; rows at a scale hold those of the loss times this scale.

    Attributes:
        counts: numbers of sweeps to look at.
        etas: steps of the sweeps.
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
    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return a row for each number of sweeps, and for each scale of the loss."""
        setup = self.setup(setting)
        split, loss = setup.split(setting), LOSSES[setup.loss]
        model = setup.network(split, seed, torch.float32)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
        for x, y, _, _ in setup.batches(split, split.final, seed, torch.float32):
            backprop(model, loss, x, y)
            optimizer.step()
        x, y = x[: self.images], y[: self.images]
        counts, most = self._counts(setting), 8 if setting.quick else 400
        found: dict[int, dict[str, float]] = {n: {AT: float(n)} for n in counts}
        for dtype, name in ((torch.float32, "single"), (torch.float64, "double")):
            for eta in self.etas:
                at = self._relaxed(model.to(dtype), loss, x.to(dtype), y, eta, counts)
                for n, measures in at.items():
                    found[n] |= _numbered(measures, f"{name}_{eta:g}_")
        rows: list[Row] = list(found.values())
        for scale in self.scales:
            at = self._relaxed(model.double(), _scaled(loss, scale), x.double(), y, 0.1, [most])
            (measures,) = at.values()
            rows.append({AT: scale, **_numbered(measures, "scaled_")})
        return rows

    def _relaxed(
        self, model: nn.Sequential, loss: Loss, x: Tensor, y: Tensor, eta: float, counts: Any
    ) -> dict[int, dict[str, list[float]]]:
        """Return errors and angles after some numbers of sweeps, until they are not finite."""
        backprop(model, loss, x, y)
        true, found = weights(model), {}
        for n in published_sweeps(model, loss, x, y, self.algorithm, eta, counts):
            found[n] = distances(weights(model), true)
            if not all(map(math.isfinite, found[n]["error"])):
                break
        return found


def _scaled(loss: Loss, scale: float) -> Loss:
    return lambda output, y: scale * loss(output, y)
