"""Arrays in a NumPy file: inputs [sample, …] and targets [sample] or [sample, output]."""

from __future__ import annotations

from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any

import numpy as np

from episodes.from_file import FileSource, Samples, damaged, file_at
from episodes.named_arrays import chosen, words_for
from episodes.own_data import from_dataset, from_tensors
from episodes.storage import DAMAGE
from metaplast.base.errors import require
from metaplast.tasks.request import DataRequest
from metaplast.tasks.source import EpisodeSource

# The first bytes of a file with one array, and of a file with several arrays.
_ONE, _SEVERAL = b"\x93NUMPY", b"PK"


class NpzSource(FileSource):
    """Reads two arrays of a file that `numpy.savez` wrote; never loads Python objects."""

    name = "npz"
    summary = (
        "arrays x and y of numpy.savez: npz:FILE, or npz:FILE,x=NAME,y=NAME; whole numbers or "
        "text are classes, floating-point y is learned by regression"
    )
    own = ("x", "y")
    example = "npz:FILE.npz"

    def holding(self, inputs: Any, targets: Any) -> EpisodeSource:
        """Return a source over arrays in memory; see `EpisodeSource.holding`."""
        if targets is None:
            return from_dataset(inputs, name="data")
        return from_tensors(inputs, targets, name="data")

    def read(
        self, text: str, label: str, settings: Mapping[str, str], request: DataRequest
    ) -> Samples:
        """Return the arrays of a file; see `FileSource.read`."""
        path = file_at(text)
        try:
            # Open the file here, because NumPy leaves a damaged file open.
            with path.open("rb") as content:
                _require_npz(label, content.read(len(_ONE)))
                content.seek(0)
                found = np.load(content, allow_pickle=False)
                x, y = chosen(label, found.files, settings, f"npz:{text}")
                inputs, targets = found[x], found[y]
        except (UnpicklingError, *DAMAGE) as error:
            if "pickle" in str(error):
                error = ValueError("it holds Python objects, which could run code when loaded")
            raise damaged(label, "arrays of numpy.savez", error) from None
        return Samples(inputs, targets, words=words_for(inputs))


def _require_npz(label: str, start: bytes) -> None:
    """Check that a file begins like a file of named arrays, and is therefore not a bare pickle."""
    require(
        start != _ONE,
        f"{label} holds one array without a name; write both with numpy.savez(FILE, x=inputs, "
        f"y=targets).",
    )
    require(
        start.startswith(_SEVERAL),
        f"{label} is not a file of numpy.savez; write one with numpy.savez(FILE, x=inputs, "
        f"y=targets).",
    )


NPZ = NpzSource()
