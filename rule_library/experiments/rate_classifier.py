"""A recurrent network that classifies images by its fixed points, trained on mini-batches."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metaplast.base.notices import collected
from metaplast.base.seeds import generator
from metaplast.base.torch_settings import own_settings
from metaplast.reproduce.experiment import Setting
from metaplast.reproduce.table import AT, DIVERGED, Row
from metaplast.systems.fixed_point import FixedPoint
from metaplast.systems.learner import Learner
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples
from metaplast.tasks.library import open_parts, open_stream
from metaplast.tasks.request import StreamRequest
from metaplast.terms.library import get_term

# Test images in one relaxation.
_CHUNK = 1000


class Images(NamedTuple):
    """Training and test images as numbers in [0, 1], [image, pixel], with their classes."""

    train: Examples
    test: Examples


def open_images(settings: Mapping[str, Any], setting: Setting) -> Images:
    """Return the data set's own two parts; with `images`, so many of a stream and held out."""
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
    return Images(parts["train"], parts["test"])


def opens(settings: Mapping[str, Any], setting: Setting) -> Mapping[str, Callable[[], object]]:
    """Return a function that opens the images."""
    return {settings["dataset"]: lambda: open_images(settings, setting)}


@own_settings()
@torch.no_grad()
def classify(seed: int, settings: Mapping[str, Any], setting: Setting) -> list[Row]:
    """Return accuracy and loss on all test images, and W's spectral abscissa, by update.

    All rules and rates of a seed share W_0, the input weights, the readout and the mini-batches.
    """
    images = open_images(settings, setting)
    sizes = images.train.input.shape[1], settings["neurons"], 1 + int(images.train.target.max())
    system = FixedPoint(
        sizes, "tanh", gain=0.5, solver="gmres", tolerance=settings["tolerance"],
        steps=settings["steps"],
    )  # fmt: skip
    learner = Learner(system, (get_term(settings["rule"]),))
    state = learner.draw(1, generator(seed, "rate classifier", "weights"), torch.float32)
    theta = torch.full((1, 1, 1), settings["rate"], dtype=torch.float32, device="cpu")
    order = _Order(len(images.train.input), settings["batch"], seed)
    rows: list[Row] = []
    with collected():
        for update in range(settings["updates"] + 1):
            if update in settings["records"] or update == settings["updates"]:
                rows.append({AT: float(update), **_measured(system, state, images.test)})
            if update < settings["updates"]:
                chosen = order.batch(update)
                batch = Examples(*(part[chosen][None] for part in images.train[:2]))
                state = learner.step(state, theta, batch)
    return rows


class _Order:
    """The mini-batches: every image once in each pass, in a new order."""

    def __init__(self, images: int, size: int, seed: int) -> None:
        self._images, self._size, self._seed = images, size, seed

    def batch(self, update: int) -> Tensor:
        """Return the images of an update; the last ones of a pass may be fewer."""
        passed, place = divmod(update, math.ceil(self._images / self._size))
        draw = generator(self._seed, "rate classifier", "images", passed)
        order = torch.randperm(self._images, generator=draw, dtype=torch.int64, device="cpu")
        return order[place * self._size : (place + 1) * self._size]


def _measured(system: FixedPoint, state: State, test: Examples) -> dict[str, float]:
    """Return the measures; images that do not settle have no answer, and count as wrong."""
    view, matrix = View.of(state), state.matrices["W"][0]
    if not torch.isfinite(matrix).all():
        return {"accuracy": 0.0, DIVERGED: 1.0}
    loss = right = unsettled = 0.0
    for x, y in zip(*(torch.split(part, _CHUNK) for part in test[:2]), strict=True):
        output = system.output(view, x[None])
        # Only what does not settle has an output of exactly zero.
        settled = (output != 0).any(-1)
        loss += float(system.objective.loss(output, y[None]).sum())
        right += float((system.objective.score(output, y[None]) * settled).sum())
        unsettled += float((~settled).sum())
    count = len(test.target)
    return {
        "accuracy": right / count,
        "loss": loss / count,
        "abscissa": float(torch.linalg.eigvals(matrix).real.max()),
        "unsettled": unsettled / count,
        DIVERGED: 0.0,
    }
