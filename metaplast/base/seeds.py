"""Random generators, one for each named purpose, so that results do not depend on call order."""

from __future__ import annotations

import zlib

import numpy as np
import torch


def generator(seed: int, *path: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator for the purpose that `path` names, such as ("search", "step", 7).

    The same seed and path always give the same numbers. So a resumed run equals an uninterrupted
    one, and different rules see the same episodes.
    """
    state = _sequence(seed, path).generate_state(1, np.uint64)
    return torch.Generator(device=device).manual_seed(int(state[0]))


def numpy_generator(seed: int, *path: str | int) -> np.random.Generator:
    """Return a NumPy generator for the purpose that `path` names, like `generator`."""
    return np.random.default_rng(_sequence(seed, path))


def _sequence(seed: int, path: tuple[str | int, ...]) -> np.random.SeedSequence:
    key = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in path]
    return np.random.SeedSequence(seed, spawn_key=key)
