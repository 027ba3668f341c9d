"""Samplers and streams that log which side of a split was sampled, and with which seed."""

from __future__ import annotations

from dataclasses import dataclass, field

from support import Clouds

from metaplast.tasks.source import EpisodeSplit
from metaplast.tasks.stream import StreamSplit


class Side(Clouds):
    """One side of a split: draws easy tasks, and logs each draw."""

    def __init__(self, name, log, **sizes):
        super().__init__(**sizes)
        self.name, self.log = name, log

    def sample(self, episodes, generator):
        self.log.append((self.name, generator.initial_seed()))
        return super().sample(episodes, generator)


class Half(Side):
    """One half of a stream: a side that draws the images of one network."""

    def sample(self, steps, queries, generator):
        self.log.append((self.name, generator.initial_seed()))
        return Clouds(steps=steps, queries=queries).sample(1, generator)


@dataclass
class Sources:
    """Opens splits and streams whose sides share one log, for any request.

    Attributes:
        log: (side, seed of the generator), in order.
        requests: what was asked for, in order.
    """

    log: list = field(default_factory=list)
    requests: list = field(default_factory=list)

    def open(self, name, request, **sizes):
        self.requests.append(request)
        return EpisodeSplit(
            Side("train", self.log, **sizes), Side("test", self.log, **sizes), "images", 6, 3, name
        )

    def stream(self, name, request):
        self.requests.append(request)
        return StreamSplit(Half("tuning", self.log), Half("final", self.log), 100, 6, 3, name)

    @property
    def sides(self):
        return [side for side, _ in self.log]

    def seeds(self, side):
        return {seed for name, seed in self.log if name == side}
