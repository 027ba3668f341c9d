"""Recordings as .csv files: one row for each step, with the columns

    trial            any number or name; rows with the same value are the steps of a trial, in order
    time             optional
    x1, x2, …        inputs
    y1, y2, …        activity, or n1, n2, … counts, or c1, c2, … choices of neurons, or choice
    reward, plastic  optional

An empty cell is NaN. Known initial weights are in FILE.weights.csv beside FILE.csv, with the
columns w1, w2, … and a row for each neuron. If it has a column trial, it has a row for each neuron
of each trial.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require, shown
from metaplast.base.files import write_text
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.words import amount
from metaplast.recordings.columns import in_order
from metaplast.recordings.damaged import damaged

# The letter of numbered columns, and the array that they hold.
_COLUMNS: Mapping[str, str] = MappingProxyType(
    {"x": "inputs", "y": "activity", "n": "counts", "c": "choices"}
)
_PER_STEP = ("time", "reward", "plastic", "choice")


@dataclass(frozen=True)
class _Row:
    """The cells of a row below the header, and its number in the file, counted from 1."""

    number: int
    cells: list[str]


def _rows(path: Path) -> tuple[list[str], list[_Row]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            numbered = enumerate(csv.reader(stream), start=1)
            # Empty rows are skipped, but they count in the row numbers.
            rows = [_Row(n, row) for n, row in numbered if any(cell.strip() for cell in row)]
    except (OSError, ValueError, csv.Error) as error:
        raise damaged(path, "a CSV file", error) from None
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


def read_csv(path: AnyPath) -> dict[str, Any]:
    """Return the arrays in a file and in its file of weights.

    Raises:
        UserError: if a file is damaged, lacks a column or has an unknown column.
    """
    path = as_path(path, "recording")
    names, rows = _rows(path)
    require(
        "trial" in names,
        f"{path} has no column trial; name the trial of each row, or write 1 in all rows.",
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


def write_csv(path: AnyPath, arrays: Mapping[str, Any]) -> None:
    """Write arrays to a file, and initial weights to a separate one.

    Raises:
        UserError: if a table cannot hold one of the arrays, or the file cannot be written.
    """
    path = as_path(path, "recording")
    arrays = {name: np.asarray(value) for name, value in arrays.items()}
    left = {"readout", "continues", "weights"} & {n for n, v in arrays.items() if np.any(v)}
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
