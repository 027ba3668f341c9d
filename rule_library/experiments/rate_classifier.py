"""A recurrent network that classifies images by its fixed points, trained on mini-batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaplast.base.notices import collected
from metaplast.base.seeds import generator
from metaplast.base.torch_settings import own_settings
from metaplast.reproduce.direct import TwoSizes
from metaplast.reproduce.experiment import Setting, plain
from metaplast.reproduce.table import AT, DIVERGED, Row
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.learner import Learner
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples
from metaplast.tasks.library import open_parts, open_stream
from metaplast.tasks.request import StreamRequest
from metaplast.terms.library import get_term
from metaplast.terms.term import Term

# Test images in one relaxation.
_CHUNK = 1000


class Images(NamedTuple):
    """Training and test images as numbers in [0, 1], [image, pixel], with their classes."""

    train: Examples
    test: Examples

    def to(self, device: torch.device) -> Images:
        """Return the same images on a device."""
        train, test = (Examples(x.to(device), y.to(device)) for x, y, _ in self)
        return Images(train, test)


def open_images(settings: Mapping[str, Any], setting: Setting) -> Images:
    """Return the training and test images of a data set, from its own two parts.

    With `images` = (n, m) in the settings, return n images of a stream and m held-out images
    instead. With `every` = n, return only every n-th test image of the data set.
    """
    request = StreamRequest(data_root=setting.data_root)
    if "images" in settings:
        split = open_stream(settings["dataset"], request)
        steps, queries = settings["images"]
        batch = split.final.sample(steps, queries, generator(0, "rate classifier"))
        return Images(
            Examples(batch.support_x[0], batch.support_y[0]),
            Examples(batch.query_x[0], batch.query_y[0]),
        )
    parts = open_parts(settings["dataset"], request)
    test, every = parts["test"], settings.get("every", 1)
    return Images(parts["train"], Examples(test.input[::every], test.target[::every]))


@dataclass(frozen=True, eq=False)
class RateVariant(TwoSizes):
    """A network for each seed that learns images by one rule, on the CPU or on CUDA.

    Attributes:
        name: the name of the variant.
        full: the settings.
        quick: the settings that differ in the quick version.
        together: the largest number of seeds that learn side by side.
    """

    name: str
    full: Mapping[str, Any]
    quick: Mapping[str, Any]
    together: int = 20

    @property
    def on_cuda(self) -> bool:
        """Whether it can compute on CUDA: always."""
        return True

    def settings(self, setting: Setting) -> dict[str, Any]:
        """Return everything that determines the numbers."""
        return plain(self.chosen(setting))

    def data(self, setting: Setting) -> Mapping[str, Callable[[], object]]:
        """Return a function that opens the images."""
        settings = self.chosen(setting)
        return {settings["dataset"]: lambda: open_images(settings, setting)}

    def run(self, seed: int, setting: Setting, prepared: Mapping[str, Any]) -> list[Row]:
        """Return accuracy and loss on all test images, and W's spectral abscissa, by update."""
        return self.run_together([seed], setting, prepared)[0]

    def run_together(
        self, seeds: Sequence[int], setting: Setting, prepared: Mapping[str, Any]
    ) -> list[list[Row]]:
        """Return the rows of several seeds.

        All variants share the W_0, input weights, readout and mini-batches of a seed.
        """
        settings = self.chosen(setting)
        images = open_images(settings, setting).to(setting.device)
        terms = (get_term(settings["rule"]),)
        return learned_rows(terms, (settings["rate"],), seeds, settings, images)


@own_settings()
@torch.no_grad()
def learned_rows(
    terms: Sequence[Term],
    theta: Sequence[float],
    seeds: Sequence[int],
    settings: Mapping[str, Any],
    images: Images,
) -> list[list[Row]]:
    """Return the rows of several seeds whose networks learn images by one rule.

    W_0, input weights, readout and mini-batches depend on the seed only.

    Args:
        terms: the terms of the rule.
        theta: its coefficients.
        seeds: the seeds of the networks, which learn side by side.
        settings: neurons, batch, updates, records, tolerance, steps and, unless it is 0.5, the
            rate of the relaxation.
        images: training and test images, on the device that computes.
    """
    device = images.train.input.device
    learner = _learner(terms, settings, images)
    # Draw on the CPU, so that all devices begin with the same numbers.
    states = [
        learner.draw(1, generator(seed, "rate classifier", "weights"), torch.float32)
        for seed in seeds
    ]
    state = State.cat(states).on(device)
    coefficients = torch.tensor(theta, dtype=torch.float32, device=device)
    coefficients = coefficients.expand(len(seeds), 1, -1)
    orders = [_Order(len(images.train.input), settings["batch"], seed) for seed in seeds]
    rows: list[list[Row]] = [[] for _ in seeds]
    with collected():
        for update in range(settings["updates"] + 1):
            if update in settings["records"] or update == settings["updates"]:
                for own, measures in zip(rows, _measured(learner, state, images.test), strict=True):
                    own.append({AT: float(update), **measures})
            if update < settings["updates"]:
                chosen = torch.stack([order.batch(update) for order in orders]).to(device)
                batch = Examples(*(part[chosen] for part in images.train[:2]))
                state = learner.step(state, coefficients, batch)
    return rows


def _learner(terms: Sequence[Term], settings: Mapping[str, Any], images: Images) -> Learner:
    sizes = images.train.input.shape[1], settings["neurons"], 1 + int(images.train.target.max())
    system = FixedPoint(
        sizes, "tanh", gain=0.5, solver="gmres", tolerance=settings["tolerance"],
        steps=settings["steps"], rate=settings.get("relaxation", 0.5),
    )  # fmt: skip
    return Learner(system, tuple(terms))


class _Order:
    """The mini-batches: every image once in each pass, in a new order."""

    def __init__(self, images: int, size: int, seed: int) -> None:
        self._images, self._size, self._seed = images, size, seed

    def batch(self, update: int) -> Tensor:
        """Return the images of an update; the last mini-batch of a pass may be smaller."""
        passed, place = divmod(update, math.ceil(self._images / self._size))
        draw = generator(self._seed, "rate classifier", "images", passed)
        order = torch.randperm(self._images, generator=draw, dtype=torch.int64, device="cpu")
        return order[place * self._size : (place + 1) * self._size]


def _measured(learner: Learner, state: State, test: Examples) -> list[dict[str, float]]:
    """Return the measures of each network; an image that does not settle counts as wrong."""
    system, count = learner.system, len(test.target)
    networks = range(state.episodes)
    sums = torch.zeros(3, len(networks), dtype=torch.float64, device=test.input.device)
    view = View.of(state)
    for x, y in zip(*(torch.split(part, _CHUNK) for part in test[:2]), strict=True):
        targets = y.expand(len(networks), -1)
        output = system.output(view, x.expand(len(networks), -1, -1))
        # The output is exactly zero only for images that do not settle.
        settled = (output != 0).any(-1)
        right = system.objective.score(output, targets) * settled
        loss = system.objective.loss(output, targets)
        sums += torch.stack([right.sum(-1), loss.sum(-1), (~settled).sum(-1)])
    found = (sums / count).T.tolist()
    return [_row(state.matrices["W"][network], *found[network]) for network in networks]


def _row(matrix: Tensor, accuracy: float, loss: float, unsettled: float) -> dict[str, float]:
    if not torch.isfinite(matrix).all():
        return {"accuracy": 0.0, DIVERGED: 1.0}
    abscissa = float(torch.linalg.eigvals(matrix.cpu()).real.max())
    return {
        "accuracy": accuracy, "loss": loss, "abscissa": abscissa, "unsettled": unsettled,
        DIVERGED: 0.0,
    }  # fmt: skip
