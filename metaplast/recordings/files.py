"""Files of recordings: .npz, .h5 (or .hdf5) and .csv, in the layout of `recording`.

An .npz or HDF5 file holds the arrays by name. A .csv file has a row for each step, with the columns

    trial            any number or name; its rows are the steps of a trial, in order
    time             optional
    x1, x2, …        inputs
    y1, y2, …        activity, or n1, n2, … counts, or c1, c2, … choices of neurons, or choice
    reward, plastic  optional

An empty cell is NaN. Initial weights, if they are known, are in FILE.weights.csv beside FILE.csv,
with the columns w1, w2, … and a row for each neuron; with a column trial, neurons of each trial.
"""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import IO, Any
from zlib import error as zlib_error

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require, shown
from metaplast.base.files import write_atomically, write_text
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.words import amount
from metaplast.recordings.columns import in_order
from metaplast.recordings.recording import Recording

# How a file of one array begins.
_ONE = b"\x93NUMPY"
_DAMAGE = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib_error)
# The letter of numbered columns, and the array that they are.
_COLUMNS: Mapping[str, str] = MappingProxyType(
    {"x": "inputs", "y": "activity", "n": "counts", "c": "choices"}
)
_PER_STEP = ("time", "reward", "plastic", "choice")


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
        UserError: if it cannot be written, or the format cannot hold an array.
    """
    path = as_path(path)
    _format(path)[1](path, arrays)


def require_format(path: AnyPath) -> None:
    """Check that a file's name ends as one of the formats.

    Raises:
        UserError: if it does not, or h5py is needed and not installed.
    """
    _format(as_path(path))
    if as_path(path).suffix.lower() in (".h5", ".hdf5"):
        _h5py()


def _format(path: Path) -> tuple[Callable[[Path], dict[str, Any]], Callable[..., None]]:
    known = {
        ".npz": (_read_npz, _write_npz), ".csv": (_read_csv, _write_csv),
        ".h5": (_read_hdf5, _write_hdf5), ".hdf5": (_read_hdf5, _write_hdf5),
    }  # fmt: skip
    found = known.get(path.suffix.lower())
    if found is None:
        raise UserError(
            f"a recording is a .npz, .h5 or .csv file, got {shown(path.name)}; convert it to one "
            f"of them."
        )
    return found


def _damaged(path: Path, what: str, error: Exception) -> UserError:
    reason = " ".join(str(error).split()).rstrip(".").replace(". ", "; ")[:120]
    return UserError(f"{path} is not {what} or is damaged ({reason}); check the file.")


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
    except _DAMAGE as error:
        if "pickle" in str(error):
            raise UserError(
                f"{path} holds arrays of Python objects, such as trials of unequal length; pad "
                f"them with NaN, and give the array lengths."
            ) from None
        raise _damaged(path, "a file of numpy.savez", error) from None


def _write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    def write(stream: IO[bytes]) -> None:
        np.savez_compressed(stream, **arrays)

    write_atomically(path, write)


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError:
        raise UserError(
            "HDF5 files need the package h5py, which is not installed; install metaplast[hdf5], or "
            "use .npz files."
        ) from None
    module: ModuleType = h5py
    return module


def _read_hdf5(path: Path) -> dict[str, Any]:
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            return {name: item[()] for name, item in file.items() if isinstance(item, h5py.Dataset)}
    except _DAMAGE as error:
        raise _damaged(path, "an HDF5 file", error) from None


def _write_hdf5(path: Path, arrays: Mapping[str, Any]) -> None:
    h5py = _h5py()

    def write(stream: IO[bytes]) -> None:
        content = io.BytesIO()
        with h5py.File(content, "w") as file:
            for name, value in arrays.items():
                file[name] = value
        stream.write(content.getvalue())

    write_atomically(path, write)


@dataclass(frozen=True)
class _Row:
    """The cells of a row below the names, and its number in the file, from 1 on."""

    number: int
    cells: list[str]


def _rows(path: Path) -> tuple[list[str], list[_Row]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            numbered = enumerate(csv.reader(stream), start=1)
            # A row of empty cells is left out, and counts as a row.
            rows = [_Row(n, row) for n, row in numbered if any(cell.strip() for cell in row)]
    except (OSError, ValueError, csv.Error) as error:
        raise _damaged(path, "a CSV file", error) from None
    require(len(rows) > 1, f"{path} has no rows below its names; give a row for each step.")
    names = [name.strip().lower() for name in rows[0].cells]
    for row in rows[1:]:
        require(
            len(row.cells) == len(names),
            f"{path}: row {row.number} has {amount(len(row.cells), 'cells')}, but row "
            f"{rows[0].number} has {amount(len(names), 'names')}.",
        )
    return names, rows[1:]


def _number(path: Path, names: Sequence[str], row: _Row, place: int) -> float:
    cell = row.cells[place]
    try:
        return float(cell) if cell.strip() else np.nan
    except ValueError:
        raise UserError(
            f"{path}: the column {names[place]} must hold numbers, got {shown(cell)} in row "
            f"{row.number}."
        ) from None


def _read_csv(path: Path) -> dict[str, Any]:
    names, rows = _rows(path)
    require(
        "trial" in names, f"{path} has no column trial; name the trial of each row, or give all 1."
    )
    numbered: dict[str, list[int]] = {}
    for place in in_order(path, names):
        name = names[place]
        letter = re.fullmatch(r"([xync])\d+", name)
        if letter:
            numbered.setdefault(_COLUMNS[letter[1]], []).append(place)
        elif name not in (*_PER_STEP, "trial"):
            raise UserError(
                f"{path} has an unknown column {shown(name)}; columns are trial, time, x1 …, y1 … "
                f"(or n1 …, c1 …, choice), reward and plastic."
            )
    trials: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        trials.setdefault(row.cells[names.index("trial")].strip(), []).append(index)
    lengths = [len(own) for own in trials.values()]

    def stacked(places: Sequence[int]) -> Numbers:
        found = np.full((len(trials), max(lengths), len(places)), np.nan)
        for trial, own in enumerate(trials.values()):
            for step, index in enumerate(own):
                found[trial, step] = [_number(path, names, rows[index], p) for p in places]
        return found

    arrays: dict[str, Any] = {name: stacked(places) for name, places in numbered.items()}
    arrays["lengths"] = lengths
    for name in _PER_STEP:
        if name in names:
            field = {"time": "times", "choice": "choices"}.get(name, name)
            arrays[field] = stacked([names.index(name)])[:, :, 0]
    weights = path.with_name(f"{path.stem}.weights.csv")
    if weights.exists():
        arrays["initial_weights"] = _read_weights(weights)
    return arrays


def _read_weights(path: Path) -> Numbers:
    names, rows = _rows(path)
    places = [i for i in in_order(path, names) if re.fullmatch(r"w\d+", names[i])]
    require(bool(places), f"{path} has no columns w1, w2, …; give a weight for each input.")
    found = [[_number(path, names, row, place) for place in places] for row in rows]
    if "trial" not in names:
        return np.array(found)
    trials: dict[str, list[list[float]]] = {}
    for row, values in zip(rows, found, strict=True):
        trials.setdefault(row.cells[names.index("trial")].strip(), []).append(values)
    require(
        len({len(own) for own in trials.values()}) == 1,
        f"{path} must have the same number of neurons for each trial.",
    )
    return np.array(list(trials.values()))


def _write_csv(path: Path, arrays: Mapping[str, Any]) -> None:
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    left = {"readout", "continues"} & {n for n, v in arrays.items() if np.any(v)}
    require(
        not left, f"a CSV file cannot hold {' and '.join(sorted(left))}; write .npz or .h5 instead."
    )
    columns: dict[str, Numbers] = {}
    for letter, field in _COLUMNS.items():
        if field in arrays and arrays[field].ndim == 3:
            parts = np.moveaxis(arrays[field], 2, 0)
            columns |= {f"{letter}{i}": part for i, part in enumerate(parts, start=1)}
    names = {"times": "time", "choices": "choice", "reward": "reward", "plastic": "plastic"}
    for field, name in names.items():
        if field in arrays and arrays[field].ndim == 2:
            columns[name] = arrays[field]
    shape = arrays["inputs"].shape
    lengths = arrays.get("lengths", np.full(shape[0], shape[1]))
    lines = [",".join(["trial", *columns])]
    for trial in range(shape[0]):
        for step in range(int(lengths[trial])):
            cells = (float(column[trial, step]) for column in columns.values())
            lines.append(",".join([str(trial + 1), *map(_cell, cells)]))
    write_text(path, "\n".join(lines) + "\n")
    if "initial_weights" in arrays:
        write_text(path.with_name(f"{path.stem}.weights.csv"), _weights_text(arrays))


def _weights_text(arrays: Mapping[str, Any]) -> str:
    weights = arrays["initial_weights"]
    heads = [f"w{j}" for j in range(1, weights.shape[-1] + 1)]
    if weights.ndim == 2:
        lines = [",".join(heads), *(",".join(map(_cell, row)) for row in weights)]
    else:
        lines = [",".join(["trial", *heads])]
        for trial, own in enumerate(weights, start=1):
            lines += [",".join([str(trial), *map(_cell, row)]) for row in own]
    return "\n".join(lines) + "\n"


def _cell(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))
