"""Variants of the experiments on predictive coding that train from batches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor, nn

from metaplast import predictive_coding
from metaplast.base.bands import Numbers
from metaplast.base.seeds import generator
from metaplast.base.torch_settings import exact_convolutions, own_settings
from metaplast.reproduce.experiment import Setting, plain
from metaplast.reproduce.meta import SEPARATE
from metaplast.reproduce.table import AT, DIVERGED, Row, Table
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
    weight_gradients,
)

# What differs in the quick version of all variants.
TINY: Mapping[str, Any] = {
    "dataset": "digits", "steps": 4, "batch": 20, "queries": 40, "records": 2,
}  # fmt: skip
RATES = (0.03, 0.1, 0.2, 0.3, 1.0)


@dataclass(frozen=True)
class CodingSetup:
    """The task: the data, the loss, and how long networks learn.

    Attributes:
        dataset: name of the source.
        steps: number of batches.
        batch: images in a batch.
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
        self, split: StreamSplit, sampler: StreamSampler, seed: int, like: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """Yield images and classes of each step, and held-out ones, on the device of `like`.

        Images also have the dtype of `like`.
        """
        side, left, epoch = math.isqrt(split.inputs), self.steps, 0
        while left:
            several = min(left, max(1, split.images // self.batch))
            draw = generator(seed, "coding", "images", epoch)
            drawn = sampler.sample(several * self.batch, self.queries, draw)
            x = drawn.support_x.to(like).view(several, self.batch, 1, side, side)
            y = drawn.support_y.to(like.device).view(several, self.batch)
            query_x = drawn.query_x.to(like).view(-1, 1, side, side)
            query_y = drawn.query_y[0].to(like.device)
            for images, labels in zip(x, y, strict=True):
                yield images, labels, query_x, query_y
            left, epoch = left - several, epoch + 1

    def network(self, split: StreamSplit, seed: int, like: Tensor) -> nn.Sequential:
        """Return a fresh network on `like`'s device, in its precision."""
        draw = generator(seed, "coding", "weights")
        made = network(math.isqrt(split.inputs), split.outputs, draw, like.dtype)
        return made.to(like.device)


@dataclass(frozen=True, eq=False)
class CodingTraining:
    """A network that learns from batches by one algorithm, on the CPU or on CUDA.

    Attributes:
        name: the name of the variant.
        algorithm: "backprop", "strict" or "fixed".
        eta, n: the parameters of predictive coding.
        full: the task.
        quick: fields that differ in the quick version.
        adam: whether to take the steps with Adam, at the published rate 0.002, or with SGD, at the
            rate of five that is best for backpropagation on separate images and seeds.
        own_rate: whether to use SGD's best rate for the algorithm itself instead.
        double: whether to compute everything in float64, by `metaplast.predictive_coding`; if not,
            the computation is in float32, with the published arithmetic.
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

    @property
    def on_cuda(self) -> bool:
        """Whether it can compute on CUDA: always."""
        return True

    def setup(self, setting: Setting) -> CodingSetup:
        """Return the task."""
        return replace(self.full, **self.quick) if setting.quick else self.full

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        keys = ("algorithm", "eta", "n", "adam", "own_rate", "double")
        own = {key: getattr(self, key) for key in keys}
        tuned = {} if self.adam else {"rates": RATES, "tuned_on": SEPARATE}
        return plain({**own, **tuned, **asdict(self.setup(setting))})

    def data(self, setting: Setting) -> dict[str, Callable[[], object]]:
        """Return a function that opens its data."""
        setup = self.setup(setting)
        return {f"stream {setup.dataset}": lambda: setup.split(setting)}

    def prepare(self, setting: Setting, folder: Path) -> dict[str, Any]:
        """Return SGD's rate with the best accuracy on images and seeds used for nothing else."""
        if self.adam:
            return {}
        setup = replace(self.setup(setting), records=1)
        split = setup.split(setting)
        tuned = self if self.own_rate else replace(self, algorithm="backprop")
        learn = partial(tuned._learn, setup, split, split.tuning, measured=False)
        seeds = SEPARATE[:1] if setting.quick else SEPARATE
        tried = {
            str(rate): fmean(learn(seed, rate, setting.device)[-1]["accuracy"] for seed in seeds)
            for rate in RATES
        }
        best = max(tried, key=lambda rate: tried[rate])
        return {"rate": float(best), "tried": tried, "found_on": split.description}

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return a row for each record."""
        setup = self.setup(setting)
        split = setup.split(setting)
        rate = prepared.get("rate", 0.002)
        learn = partial(self._learn, measured=self.adam)
        return list(learn(setup, split, split.final, seed, rate, setting.device))

    @own_settings(grad=True)
    @exact_convolutions()
    def _learn(
        self,
        setup: CodingSetup,
        split: StreamSplit,
        sampler: StreamSampler,
        seed: int,
        rate: float,
        device: torch.device,
        *,
        measured: bool,
    ) -> list[dict[str, float]]:
        dtype = torch.float64 if self.double else torch.float32
        like = torch.empty(0, dtype=dtype, device=device)
        model, loss = setup.network(split, seed, like), LOSSES[setup.loss]
        kind = torch.optim.Adam if self.adam else torch.optim.SGD
        optimizer = kind(model.parameters(), lr=rate)
        every, rows, spent = max(1, setup.steps // setup.records), [], 0.0
        batches = setup.batches(split, sampler, seed, like)
        for step, (x, y, query_x, query_y) in enumerate(batches, 1):
            began = _clock(device)
            self._set_gradients(model, loss, x, y)
            spent += _clock(device) - began
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
        """Return how far the gradients are from backpropagation's, without changing them.

        In float32, also return how far the gradients of `metaplast.predictive_coding` are.
        """
        if self.algorithm == "backprop":
            return {}
        kept = [p.grad for p in model.parameters()]
        found = weight_gradients(model)
        backprop(model, loss, x, y)
        true = weight_gradients(model)
        row = numbered(distances(found, true))
        if not self.double:
            model.zero_grad()
            predictive_coding(model, loss, x, y, self.algorithm, self.eta, self.n)
            row |= numbered(distances(weight_gradients(model), true), "own_")
        for parameter, gradient in zip(model.parameters(), kept, strict=True):
            parameter.grad = gradient
        return row


def _clock(device: torch.device) -> float:
    """Return processor time in seconds; on CUDA, wall time after all work on it is done."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


@torch.no_grad()
def _quality(model: nn.Sequential, loss: Loss, x: Tensor, y: Tensor) -> dict[str, float]:
    output = model(x)
    found = float(loss(output, y))
    accuracy = float((output.argmax(-1) == y).double().mean())
    return {"accuracy": accuracy, "loss": found, DIVERGED: float(not math.isfinite(found))}


def accuracy_lead(variant: str, other: str) -> Callable[[Table], Numbers]:
    """Return the measure of a lead in held-out accuracy over the last fifth of the steps, points."""

    def measure(table: Table) -> Numbers:
        own, others = (table.series(name, "accuracy").last(0.2) for name in (variant, other))
        return 100 * own - 100 * others

    return measure


def numbered(measures: Mapping[str, list[float]], prefix: str = "") -> dict[str, float]:
    """Return the finite measures of all layers, each by its name and the layer's number."""
    return {
        f"{prefix}{name}_{index}": value
        for name, values in measures.items()
        for index, value in enumerate(values, 1)
        if math.isfinite(value)
    }
