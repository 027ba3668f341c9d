"""Online learning of fresh systems by a given rule: training, probes, tuning, comparison."""

from metaplast.online.train import OnlineSettings, train_online

__all__ = [
    "OnlineSettings",
    "train_online",
]
