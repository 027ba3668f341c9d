"""Digests that identify the data of a run's tasks, whatever their memory layout.

A digest is the SHA-256 of shapes and values, with the values in the precision of the run. Storing
the same numbers in another type does not change it.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from metaplast.base.seeds import generator
from metaplast.systems.state import State
from metaplast.tasks.batch import EpisodeBatch

if TYPE_CHECKING:
    from metaplast.tasks.source import EpisodeSampler

# Number of characters of a digest that are shown.
SHOWN = 12
# Number of episodes that identify a sampler without a digest of its own.
DRAWN = 4


@runtime_checkable
class Digestible(Protocol):
    """A sampler that can report a digest of its data."""

    def digest(self) -> str:
        """Return a digest of everything that determines its episodes."""


class Digest:
    """Accumulates plain data and tensors.

    Args:
        kind: the kind of data; digests of different kinds never agree.
    """

    def __init__(self, kind: str) -> None:
        self._hash = hashlib.sha256()
        self.plain(kind)

    def plain(self, data: Any) -> None:
        """Add JSON data."""
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        self._hash.update(text.encode() + b"\0")

    def tensor(self, values: Tensor) -> None:
        """Add a tensor: its shape and its values in row-major order, 0 and −0 alike."""
        self.plain(list(values.shape))
        values = values.detach().cpu()
        if values.dtype not in (torch.float32, torch.float64):
            values = values.double() if values.is_floating_point() else values.long()
        array = (values + 0).contiguous().numpy()
        self._hash.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())

    def value(self) -> str:
        """Return the digest of everything added, 64 hexadecimal digits."""
        return self._hash.hexdigest()


def plain_digest(kind: str, data: Any) -> str:
    """Return the digest of JSON data."""
    digest = Digest(kind)
    digest.plain(data)
    return digest.value()


def sampler_digest(sampler: EpisodeSampler, device: torch.device | str = "cpu") -> str:
    """Return the sampler's own digest or, if it has none, the digest of a few fixed episodes.

    Args:
        sampler: draws episodes.
        device: where episodes are made.
    """
    if isinstance(sampler, Digestible):
        return sampler.digest()
    return batch_digest(fixed_batch(sampler, device))


def fixed_batch(sampler: EpisodeSampler, device: torch.device | str) -> EpisodeBatch:
    """Return some episodes, always the same ones."""
    return sampler.sample(DRAWN, generator(0, "digest", device=device))


def batch_digest(batch: EpisodeBatch) -> str:
    """Return the digest of episodes."""
    digest = Digest("episodes")
    for tensor in (batch.support_x, batch.support_y, batch.query_x, batch.query_y):
        digest.tensor(tensor)
    if batch.initial is not None:
        _add_state(digest, batch.initial)
    if batch.noise is not None:
        digest.plain("noise")
        digest.tensor(batch.noise)
    return digest.value()


def _add_state(digest: Digest, state: State) -> None:
    """Add a state: a stack's matrices without names, as in earlier versions, others with names."""
    stack = [*state.weights, *state.backward]
    for tensor in stack:
        digest.tensor(tensor)
    added = set(map(id, stack))
    for name, tensor in {**state.matrices, **state.carry}.items():
        if id(tensor) not in added:
            digest.plain(name)
            digest.tensor(tensor)
