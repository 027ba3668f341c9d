"""A whole run: search, selection, comparison, test."""

from metaplast.discovery.config import DiscoveryConfig
from metaplast.discovery.discover import discover
from metaplast.discovery.observer import Observer
from metaplast.discovery.result import Result
from metaplast.discovery.run import Discovery

__all__ = [
    "Discovery",
    "DiscoveryConfig",
    "Observer",
    "Result",
    "discover",
]
