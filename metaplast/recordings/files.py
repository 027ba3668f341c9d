"""Files of recordings: .npz, .h5 (or .hdf5), .csv and .nwb, in the layout of `recording`.

An .npz or HDF5 file holds the arrays by name. For .csv see `csv_files`, for .nwb see `nwb_files`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from metaplast.base.errors import UserError, require, shown
from metaplast.base.files import write_atomically
from metaplast.base.paths import AnyPath, as_path
from metaplast.recordings.csv_files import read_csv, write_csv
from metaplast.recordings.damaged import DAMAGE, damaged
from metaplast.recordings.hdf5_files import read_hdf5, require_h5py, write_hdf5
from metaplast.recordings.nwb_files import read_nwb, require_pynwb, write_nwb
from metaplast.recordings.recording import Recording

# The first bytes of a .npy file, which holds one array.
_ONE = b"\x93NUMPY"


def read_recording(path: AnyPath) -> Recording:
    """Return the recording in a file.

    Raises:
        UserError: if the file cannot be read, or holds no valid recording.
    """
    path = as_path(path)
    reader = _format(path)[0]
    require(path.exists(), f"there is no file {path}; check the path.")
    require(path.is_file(), f"{path} is not a file; give a recording, not a folder.")
    return Recording.of(reader(path), path.name)


def write_recording(path: AnyPath, arrays: Mapping[str, Any]) -> None:
    """Write arrays in the layout of `recording` to a file.

    Raises:
        UserError: if the file cannot be written, or the format cannot hold an array.
    """
    path = as_path(path)
    _format(path)[1](path, arrays)


def require_format(path: AnyPath, *, writing: bool = False) -> None:
    """Check that a file has the suffix of a known format.

    Args:
        path: path of the file.
        writing: whether the file is to be written.

    Raises:
        UserError: if the suffix is unknown, if a package that the format needs is not installed, or
            if the file is to be written and metaplast only reads the format.
    """
    path = as_path(path)
    _format(path)
    if writing and path.suffix.lower() == ".nwb":
        write_nwb(path, {})
    needed = {".h5": require_h5py, ".hdf5": require_h5py, ".nwb": require_pynwb}
    needed.get(as_path(path).suffix.lower(), lambda: None)()


def _format(path: Path) -> tuple[Callable[[Path], dict[str, Any]], Callable[..., None]]:
    known = {
        ".npz": (_read_npz, _write_npz), ".csv": (read_csv, write_csv),
        ".h5": (read_hdf5, write_hdf5), ".hdf5": (read_hdf5, write_hdf5),
        ".nwb": (read_nwb, write_nwb),
    }  # fmt: skip
    found = known.get(path.suffix.lower())
    if found is None:
        raise UserError(
            f"a recording is a .npz, .h5, .csv or .nwb file, got {shown(path.name)}; convert it to "
            f"one of them."
        )
    return found


def _read_npz(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            start = stream.read(len(_ONE))
            require(
                start != _ONE,
                f"{path} holds one array without a name; write the arrays of a recording with "
                f"numpy.savez.",
            )
            require(
                start.startswith(b"PK"),
                f"{path} is not a file of numpy.savez or is damaged; check the file.",
            )
            stream.seek(0)
            found = np.load(stream, allow_pickle=False)
            return {name: found[name] for name in found.files}
    except DAMAGE as error:
        if "pickle" in str(error):
            raise UserError(
                f"{path} holds arrays of Python objects, such as trials of unequal length; pad "
                f"them with NaN, and give the array lengths."
            ) from None
        raise damaged(path, "a file of numpy.savez", error) from None


def _write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    def write(stream: IO[bytes]) -> None:
        np.savez_compressed(stream, **arrays)

    write_atomically(path, write)
