"""Two data sets of an HDF5 file: inputs [sample, …] and targets [sample] or [sample, output]."""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

from episodes.arrays import Array
from episodes.from_file import FileSource, Samples, damaged, file_at
from episodes.named_arrays import chosen, words_for
from episodes.storage import DAMAGE
from metaplast.base.errors import require
from metaplast.base.optional import optional
from metaplast.tasks.request import DataRequest


class Hdf5Source(FileSource):
    """Reads the file with h5py, which the default installation does not include."""

    name = "hdf5"
    aliases = ("h5",)
    summary = "data sets of an HDF5 file: hdf5:FILE, or hdf5:FILE,x=GROUP/NAME,y=NAME; needs h5py"
    own = ("x", "y")
    example = "hdf5:FILE.h5"

    def read(
        self, text: str, label: str, settings: Mapping[str, str], request: DataRequest
    ) -> Samples:
        """Return the data sets of a file; see `FileSource.read`."""
        path, h5py = file_at(text), _library()
        try:
            with h5py.File(path, "r") as file:
                names: list[str] = []
                file.visititems(
                    lambda name, item: (
                        names.append(name) if isinstance(item, h5py.Dataset) else None
                    )
                )
                settings = {**settings} | {
                    key: settings[key].strip("/") for key in ("x", "y") if key in settings
                }
                x, y = chosen(label, names, settings, f"hdf5:{text}")
                inputs, targets = (_read(h5py, label, file[name]) for name in (x, y))
        except DAMAGE as error:
            raise damaged(label, "an HDF5 file", error) from None
        return Samples(inputs, targets, words=words_for(inputs))


def _read(h5py: Any, label: str, data: Any) -> Array:
    """Return a data set as an array; its text is decoded."""
    require(
        data.shape is not None and len(data.shape) > 0,
        f"{label}: {data.name} must be an array with a row for each sample, got a single value; "
        f"choose another data set of the file.",
    )
    is_text = h5py.check_string_dtype(data.dtype) is not None
    array: Array = (data.asstr() if is_text else data)[()]
    return array


def _library() -> ModuleType:
    """Return h5py.

    Raises:
        UserError: if h5py is not installed.
    """
    return optional(
        "h5py",
        "metaplast[hdf5]",
        "hdf5 needs",
        "write the arrays with numpy.savez and give npz:FILE",
    )


HDF5 = Hdf5Source()
