"""A table in a text file: one sample in each row, its class or target numbers in named columns."""

from __future__ import annotations

import csv
import gzip
import math
import re
import warnings
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from episodes.arrays import Array
from episodes.from_file import (
    FileSource,
    Samples,
    damaged,
    file_at,
    listed,
    names_in,
    require_numbers,
)
from episodes.storage import DAMAGE
from metaplast.base.errors import UserError, require, shown
from metaplast.tasks.request import DataRequest

# Separators of cells; the first of these that occurs in the line of names is used.
_SEPARATORS = (",", ";", "\t")
_WHOLE = re.compile(r"\s*[+-]?[0-9]{1,18}\s*")


class CsvSource(FileSource):
    """Reads a table in which every column except the targets is an input.

    A target column of whole numbers or text names classes; a column of other numbers is learned by
    regression.
    """

    name = "csv"
    summary = (
        "a table: csv:FILE,target=COLUMN with the names of the columns in the first line; "
        "drop=COLUMN+COLUMN leaves some out, learn=numbers makes whole numbers a regression, "
        "scale=standard scales the inputs"
    )
    own = ("target", "drop")
    example = "csv:FILE.csv,target=COLUMN"

    def read(
        self, text: str, label: str, settings: Mapping[str, str], request: DataRequest
    ) -> Samples:
        """Return the rows of a file; see `FileSource.read`."""
        rows = _rows(label, file_at(text))
        names = _names(label, next(rows, (0, []))[1])
        require(
            "target" in settings,
            f"{label} needs the column to learn; write --dataset csv:{text},target=COLUMN with one "
            f"of {listed(names)}.",
        )
        learned = names_in(settings["target"], names, label, "column")
        dropped = names_in(settings["drop"], names, label, "column") if "drop" in settings else []
        inputs = [name for name in names if name not in learned + dropped]
        require(bool(inputs), f"{label} has no column left as input; drop or learn fewer columns.")
        values, targets, lines = _table(label, rows, names, inputs, learned)
        require_numbers(label, values, inputs, lambda row: f"line {lines[row]}")
        note = f"target {' and '.join(learned)}"
        if dropped:
            note += f", without {listed(dropped, 4)}"
        learned_values = _targets(label, targets, learned, settings.get("learn"), lines)
        return Samples(values, learned_values, note)


def _rows(label: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank: the number of its last line, and its cells."""
    opened: Any = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8-sig", newline="") as stream:
            separator = _separator(stream.readline())
            stream.seek(0)
            reader = csv.reader(stream, delimiter=separator, strict=True)
            yield from _records(label, reader)
    except UnicodeDecodeError:
        raise damaged(label, "a table", "it is not text in UTF-8") from None
    except DAMAGE as error:
        raise damaged(label, "a table", error) from None


def _separator(head: str) -> str:
    """Return the separator in the line of names; those in quotes do not count."""
    plain = re.sub('"[^"]*"', "", head)
    return next((each for each in _SEPARATORS if each in plain), ",")


def _records(label: str, reader: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the last line of each row that is not blank, and the row's cells.

    The first row that spans several lines leads to a warning, because a quote that should not be
    there makes one cell of all lines up to the next quote.

    Raises:
        UserError: if a quote is not closed, or text follows a closing one.
    """
    before, warned = 0, False
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            first, last = before + 1, reader.line_num
            lines = f"line {first}" if first == last else f"lines {first} to {last}"
            raise damaged(label, "a table", f"{lines}: {error}; check the quotes there") from None
        if reader.line_num > before + 1 and not warned:
            warned = True
            warnings.warn(
                f"{label}: lines {before + 1} to {reader.line_num} are one row, because a cell in "
                f"quotes has line breaks; if the quotes should not be there, remove them.",
                stacklevel=2,
            )
        before = reader.line_num
        if cells:
            yield before, cells


def _names(label: str, cells: Sequence[str]) -> list[str]:
    """Return the names of the columns, after checking that the first line has them."""
    names = [cell.strip() for cell in cells]
    require(bool(names), f"{label} is empty; give a table with rows.")
    require(
        not all(map(_is_number, names)),
        f"{label} must have the names of its columns in the first line, got numbers, "
        f"{listed(names, 4)}; add them.",
    )
    for place, name in enumerate(names, start=1):
        require(
            bool(name),
            f"{label}: column {place} has no name, as the row numbers of a data frame have; write "
            f"the file without it (index=False), or give it a name.",
        )
        require(
            names.count(name) == 1, f"{label} has two columns {shown(name)}; rename one of them."
        )
    return names


def _table(
    label: str,
    rows: Iterator[tuple[int, list[str]]],
    names: Sequence[str],
    inputs: Sequence[str],
    learned: Sequence[str],
) -> tuple[Array, list[list[str]], Sequence[int]]:
    """Return the inputs [row, column], the cells of each learned column, and each row's line."""
    places = [names.index(name) for name in inputs]
    wanted = [names.index(name) for name in learned]
    values, targets, lines = array("d"), [[] for _ in learned], array("q")  # type: ignore[var-annotated]
    for line, cells in rows:
        lines.append(line)
        require(
            len(cells) == len(names),
            f"{label} must have {len(names)} cells in each line, as in the first, got "
            f"{len(cells)} in line {line}; fix that line.",
        )
        try:
            values.extend([float(cells[place]) for place in places])
        except ValueError:
            raise _not_a_number(label, line, cells, places, names) from None
        for column, place in zip(targets, wanted, strict=True):
            cell = cells[place].strip()
            require(
                bool(cell),
                f"{label}: the target {shown(names[place])} is missing in line {line}; fill it, or "
                f"remove that line.",
            )
            column.append(cell)
    require(bool(values), f"{label} has no rows below the names of its columns; add some.")
    return np.frombuffer(values, np.float64).reshape(-1, len(places)), targets, lines


def _not_a_number(
    label: str, line: int, cells: Sequence[str], places: Sequence[int], names: Sequence[str]
) -> UserError:
    """Return the error for the first cell of a line that is not a number."""
    place = next(place for place in places if not _is_number(cells[place]))
    cell, name = cells[place].strip(), names[place]
    if not cell:
        return UserError(
            f"{label}: line {line} has an empty cell in the column {shown(name)}; fill it, remove "
            f"that line, or leave the column out with drop={name}."
        )
    return UserError(
        f"{label}: inputs must be numbers, got {shown(cell)} in line {line}, column {shown(name)}; "
        f"leave the column out with drop={name}, or write numbers."
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _targets(
    label: str,
    columns: Sequence[Sequence[str]],
    names: Sequence[str],
    learn: str | None,
    lines: Sequence[int],
) -> Array:
    """Return classes [row], whole numbers or text, or numbers to learn [row, output].

    Args:
        label: the label of the data.
        columns: the cells of each target.
        names: the names of the targets.
        learn: "classes", "numbers", or None to decide by the cells.
        lines: the line of each row.
    """
    cells = [cell for column in columns for cell in column]
    number = [_is_number(cell) for cell in cells]
    if learn == "classes" or (learn is None and len(columns) == 1 and not any(number)):
        return _classes(label, columns, names, lines)
    if learn is None and len(columns) == 1 and all(map(_WHOLE.fullmatch, cells)):
        return _classes(label, columns, names, lines)
    for name, column in zip(names, columns, strict=True):
        for line, cell in zip(lines, column, strict=True):
            require(
                _is_number(cell) and math.isfinite(float(cell)),
                f"{label}: numbers to learn must be finite numbers, got {shown(cell)} in line "
                f"{line}, column {shown(name)}; fix it, or write learn=classes if it is a class.",
            )
    return np.array([[float(cell) for cell in column] for column in columns]).T


def _classes(
    label: str, columns: Sequence[Sequence[str]], names: Sequence[str], lines: Sequence[int]
) -> Array:
    """Return the classes in the one column that names them: whole numbers, or text.

    Spaces around a class do not count. If all classes are whole numbers, one number in two
    spellings, such as 1 and 01, may be one class or two, so it is refused.
    """
    require(
        len(columns) == 1,
        f"{label} can have one column of classes, got {len(columns)} targets; name one.",
    )
    cells = [cell.strip() for cell in columns[0]]
    if not all(map(_WHOLE.fullmatch, cells)):
        return np.array(cells)
    spelled: dict[int, tuple[str, int]] = {}
    for cell, line in zip(cells, lines, strict=True):
        first, where = spelled.setdefault(int(cell), (cell, line))
        require(
            first == cell,
            f"{label}: a class must be spelled in one way, got {shown(first)} in line {where} and "
            f"{shown(cell)} in line {line}, column {shown(names[0])}; spell it alike, or, if these "
            f"are two classes, name them by words.",
        )
    return np.array([int(cell) for cell in cells])


CSV = CsvSource()
