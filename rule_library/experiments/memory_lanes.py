"""Train recurrent networks side by side, each with its own images, weights and coefficients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from metaplast.base.seeds import generator
from metaplast.reproduce.table import AT, DIVERGED, Row
from metaplast.systems.learner import Learner
from metaplast.systems.recurrent import Recurrent
from metaplast.systems.state import State, View
from metaplast.systems.system import Examples
from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.stream import StreamSampler

# Held-out images whose signals are measured.
PROBED = 100
# Smaller norms are replaced by this, so that their logarithm is finite.
TINY = 1e-30


class Lanes:
    """Networks that learn side by side, one image at a time.

    Args:
        learner: a recurrent network with a rule.
        stream: source of the images.
        images: number of images that each network learns.
        queries: number of its held-out images.
        names: the names of the networks; each seeds its network's images, order and weights.
    """

    def __init__(
        self, learner: Learner, stream: StreamSampler, images: int, queries: int,
        names: Sequence[tuple[str | int, ...]],
    ) -> None:  # fmt: skip
        self.learner, self.images = learner, images
        self.batches: list[EpisodeBatch] = [
            stream.sample(images, queries, _draw("images", name)) for name in names
        ]
        self.initial = State.cat([learner.draw(1, _draw("weights", name)) for name in names])

    def train(
        self, theta: Tensor, every: int, record: Callable[[int, State], None], copies: int = 1
    ) -> State:
        """Train the networks; return them at the end.

        Args:
            theta: coefficients, [copy · network, 1, term].
            every: images between two calls of `record`, which is also called before the first.
            record: called with the number of images learned and the networks.
            copies: how many networks learn with each name, with different coefficients.
        """
        sites = theta.expand(-1, self.learner.sites, -1)
        state = self.initial.map(lambda matrix: matrix.repeat(copies, 1, 1))
        for step in range(self.images + 1):
            if step % every == 0 or step == self.images:
                record(step, state)
            if step < self.images:
                state = self.learner.step(state, sites, self._example(step, copies))
        return state

    def _example(self, step: int, copies: int) -> Examples:
        """Return the image of each network at a step, [copy · network, frame, pixel]."""
        x = torch.cat([batch.support_x[:, step] for batch in self.batches])
        y = torch.cat([batch.support_y[:, step] for batch in self.batches])
        return Examples(x.repeat(copies, *[1] * (x.dim() - 1)), y.repeat(copies))

    def quality(self, state: State, lane: int) -> tuple[float, float]:
        """Return accuracy and loss of one network; 0 and infinity if it has diverged."""
        one = state.select(slice(lane, lane + 1))
        query = self.batches[lane % len(self.batches)].query
        loss, score = map(float, self.learner.query(one, query))
        return (score, loss) if math.isfinite(loss) else (0.0, math.inf)

    def signals(self, state: State, lane: int, end: str = "") -> Iterator[Row]:
        """Yield norms of σ(z_t) and e_t by t, and the singular values of W_h by their number.

        Norms are geometric means over some held-out images.

        Args:
            state: the state of the networks.
            lane: the network.
            end: appended to the names of the columns.
        """
        system, view = self.learner.system, View.of(state.select(slice(lane, lane + 1)))
        assert isinstance(system, Recurrent)
        x, y, _ = self.batches[lane % len(self.batches)].query
        path = system.run(view, x[:, :PROBED])
        errors = system.reading(view, path, y[:, :PROBED]).hidden
        steps = zip(path.activities.unbind(1), errors.unbind(1), strict=True)
        norms = [(_norm(activity), _norm(error)) for activity, error in steps]
        for step, (activity, error) in enumerate(norms, start=1):
            yield _finite(step, {f"activity_norm{end}": activity, f"error_norm{end}": error})
        matrix = state.matrices["recurrent"][lane].double()
        if torch.isfinite(matrix).all():
            for number, value in enumerate(torch.linalg.svdvals(matrix).tolist(), start=1):
                yield _finite(number, {f"singular{end}": value})


def quality_row(images: int, accuracy: float, loss: float) -> Row:
    """Return the row of a network after some images."""
    bad = not math.isfinite(loss)
    own = {} if bad else {"loss": loss}
    return {AT: float(images), "accuracy": accuracy, **own, DIVERGED: float(bad)}


def _draw(what: str, name: tuple[str | int, ...]) -> torch.Generator:
    return generator(0, "short-term memory", what, *name)


def _norm(signal: Tensor) -> float:
    """Return the geometric mean of the norms over samples, [1, sample, neuron]."""
    return math.exp(float(signal.double().norm(dim=-1).clamp(min=TINY).log().mean()))


def _finite(at: int, values: dict[str, float]) -> Row:
    return {AT: float(at)} | {name: v for name, v in values.items() if math.isfinite(v)}
