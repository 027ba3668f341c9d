"""The data sets of all installed packages, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from metaplast.base.device import require_device
from metaplast.base.errors import UserError, require, shown
from metaplast.base.registry import find, lookup
from metaplast.systems.system import Examples
from metaplast.tasks.request import EpisodeRequest, StreamRequest
from metaplast.tasks.source import EpisodeSource, EpisodeSplit
from metaplast.tasks.stream import StreamSplit

EPISODES = "metaplast.episodes"


def all_sources() -> Mapping[str, EpisodeSource]:
    """Return every installed episode source by name."""
    return find(EPISODES, EpisodeSource)  # type: ignore[type-abstract]


def default_source(system: str = "") -> str:
    """Return the name of the default source, as users write it after `--dataset`.

    Args:
        system: name of the system that learns; some systems have their own default.

    Raises:
        UserError: if no installed package offers a default source.
    """
    for source in all_sources().values():
        if system in source.default_for:
            return source.default_for[system]
    names = [name for name, source in all_sources().items() if source.is_default]
    require(bool(names), "no installed package has a default data set; install metaplast again.")
    return names[0]


def get_source(text: str) -> tuple[EpisodeSource, str]:
    """Return the source written as `name` or `name:argument`, and the argument.

    Raises:
        UserError: if there is no source with that name; suggests the nearest.
    """
    name, _, argument = text.partition(":")
    return lookup("data set", name, all_sources()), argument


def source_of(data: Any) -> EpisodeSource:
    """Return a source over data in memory.

    Args:
        data: a pair of inputs and targets, a map-style data set of such pairs, or a source.

    Raises:
        UserError: if `data` is none of these, or is invalid.
    """
    if isinstance(data, EpisodeSource):
        return data
    is_pair = isinstance(data, tuple | list) and len(data) == 2
    require(
        is_pair or (hasattr(data, "__len__") and hasattr(data, "__getitem__")),
        f"data must be a pair (inputs, targets) or a data set of such pairs, got {shown(data)}; "
        f"write data=(x, y).",
    )
    inputs, targets = data if is_pair else (data, None)
    found = (source.holding(inputs, targets) for source in all_sources().values())
    held = next((each for each in found if each is not None), None)
    if held is None:
        raise UserError("no installed package can hold data in memory; install metaplast again.")
    return held


def open_source(text: str, request: EpisodeRequest) -> EpisodeSplit:
    """Return the samplers of the source written as `name` or `name:argument`.

    Raises:
        UserError: if the source is unknown, its data are missing, damaged or too small, or the
            request's device is not available.
    """
    source, argument = get_source(text)
    require_device(request.device)
    return source.split(replace(request, argument=argument))


def open_stream(text: str, request: StreamRequest) -> StreamSplit:
    """Return the streams of the source written as `name` or `name:argument`.

    Raises:
        UserError: if the source is unknown, has no stream, its data are invalid, or the request's
            device is not available.
    """
    source, argument = get_source(text)
    require_device(request.device)
    return source.stream(replace(request, argument=argument))


def open_parts(text: str, request: StreamRequest) -> Mapping[str, Examples]:
    """Return the parts, such as "train", of the source written as `name` or `name:argument`.

    Raises:
        UserError: if the source is unknown, has no parts, its data are invalid, or the request's
            device is not available.
    """
    source, argument = get_source(text)
    require_device(request.device)
    return source.parts(replace(request, argument=argument))
