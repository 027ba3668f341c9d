"""The data to learn: batches of episodes, streams of single images, and the sources of both."""

from metaplast.tasks.batch import EpisodeBatch
from metaplast.tasks.library import (
    all_sources,
    get_source,
    open_parts,
    open_source,
    open_stream,
)
from metaplast.tasks.request import EpisodeRequest, StreamRequest
from metaplast.tasks.source import EpisodeSampler, EpisodeSource, EpisodeSplit
from metaplast.tasks.stream import StreamSampler, StreamSplit

__all__ = [
    "EpisodeBatch",
    "EpisodeRequest",
    "EpisodeSampler",
    "EpisodeSource",
    "EpisodeSplit",
    "StreamRequest",
    "StreamSampler",
    "StreamSplit",
    "all_sources",
    "get_source",
    "open_parts",
    "open_source",
    "open_stream",
]
