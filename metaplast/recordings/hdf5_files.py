"""Recordings as HDF5 files: one data set for each array."""

from __future__ import annotations

import io
from collections.abc import Mapping
from types import ModuleType
from typing import IO, Any

from metaplast.base.files import write_atomically
from metaplast.base.optional import optional
from metaplast.base.paths import AnyPath, as_path
from metaplast.recordings.damaged import DAMAGE, damaged


def require_h5py() -> ModuleType:
    """Return the package h5py.

    Raises:
        UserError: if it is not installed.
    """
    return optional("h5py", "metaplast[hdf5]", "HDF5 files need", "use .npz files")


def read_hdf5(path: AnyPath) -> dict[str, Any]:
    """Return the data sets of a file by name.

    Raises:
        UserError: if the file is damaged, or h5py is not installed.
    """
    path = as_path(path, "recording")
    h5py = require_h5py()
    try:
        with h5py.File(path, "r") as file:
            return {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}
    except DAMAGE as error:
        raise damaged(path, "an HDF5 file", error) from None


def write_hdf5(path: AnyPath, arrays: Mapping[str, Any]) -> None:
    """Write arrays by name.

    Raises:
        UserError: if the file cannot be written, or h5py is not installed.
    """
    path = as_path(path, "recording")
    h5py = require_h5py()

    def write(stream: IO[bytes]) -> None:
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            for name, value in arrays.items():
                file[name] = value
        stream.write(content.getvalue())

    write_atomically(path, write)
