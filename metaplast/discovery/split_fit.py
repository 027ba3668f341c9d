"""The check that a split passed by the user was made for the configured sizes of tasks."""

from __future__ import annotations

from metaplast.base.errors import require, shown
from metaplast.discovery.config import DiscoveryConfig
from metaplast.tasks.derived import request_of
from metaplast.tasks.source import EpisodeSplit


def require_fit(split: EpisodeSplit, config: DiscoveryConfig) -> None:
    """Check that a split was made for the sizes of a configuration.

    For a sampler of the user's own class, which has no request, this checks nothing; the run then
    records the sizes of its episodes.

    Raises:
        UserError: if it is not a split, or was made for other sizes or another held-out part.
    """
    require(
        all(hasattr(split, side) for side in ("train", "test", "held_out")),
        f"split must be what source.split(config.request) returns, got {shown(split)} "
        f"({type(split).__name__}); pass inputs and targets, or a source, as data=….",
    )
    wanted = config.request
    for sampler in (split.train, split.test):
        made = request_of(sampler)
        if made is None:
            require(
                len(config.lengths) < 2,
                f"{type(sampler).__name__} decides how long its episodes are, but --shots has "
                f"several numbers; give one.",
            )
            continue
        for name in ("ways", "shots", "queries", "labels", "device"):
            has, asks = getattr(made, name), getattr(wanted, name)
            if name == "device":
                has, asks = has.type, asks.type
            require(
                has == asks,
                f"the split was made for {name} = {has}, but the configuration asks for {asks}; "
                f"make it with source.split(config.request).",
            )
    require(
        config.held_out in ("auto", split.held_out),
        f"the split holds out {split.held_out}, but the configuration asks to hold out "
        f"{config.held_out}; make it with source.split(config.request).",
    )
