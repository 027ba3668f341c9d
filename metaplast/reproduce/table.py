"""The numbers of an experiment: a row for each variant, seed and place, such as an episode."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError
from metaplast.base.files import csv_text
from metaplast.base.paths import AnyPath, as_path
from metaplast.report.curve import Curve

# Values by column. "at" is the place; quantities per layer or term are NAME_1, NAME_2, …
Row = Mapping[str, float]
AT, DIVERGED = "at", "diverged"
VARIANT, SEED = "variant", "seed"


@dataclass(frozen=True)
class Series:
    """One quantity over seeds and places.

    Attributes:
        x: places, increasing.
        values: [seed, place]; NaN if missing.
    """

    x: Numbers
    values: Numbers

    def between(self, low: float, high: float) -> Numbers:
        """Return each seed's mean over low < x ≤ high, [seed]; NaN without such a place."""
        inside = self.values[:, (self.x > low) & (self.x <= high)]
        return np.array([row[np.isfinite(row)].mean() if np.isfinite(row).any() else np.nan
                         for row in inside])  # fmt: skip

    def last(self, share: float = 0.0) -> Numbers:
        """Return each seed's value at the last place, or its mean over the last share, [seed]."""
        if not share:
            return self.values[:, -1]
        return self.between(self.x[-1] * (1 - share), self.x[-1])

    def smooth(self, window: int) -> Series:
        """Return running means over `window` places, each over the finite values."""
        if window <= 1:
            return self
        finite = np.isfinite(self.values)
        filled = np.where(finite, self.values, 0.0)
        kernel = np.ones(min(window, len(self.x)))
        sums, counts = (
            np.stack([np.convolve(row, kernel, "same") for row in rows])
            for rows in (filled, finite.astype(float))
        )
        return Series(self.x, np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))

    def curve(self, scale: float = 1.0, window: int = 1, *, median: bool = False) -> Curve:
        """Return mean (or median) over seeds of the running means, with its band."""
        values = scale * self.smooth(window).values
        return Curve.over_networks(list(self.x), values, median=median)


class Table:
    """All rows of an experiment.

    Args:
        parts: rows by variant and seed. Rows of several kinds may be mixed, as long as each column
            belongs to one kind.
    """

    def __init__(self, parts: Mapping[tuple[str, int], Sequence[Row]]) -> None:
        self.parts = parts

    @property
    def variants(self) -> list[str]:
        """Names of the variants, in order."""
        return list(dict.fromkeys(variant for variant, _ in self.parts))

    def series(self, variant: str, column: str) -> Series:
        """Return one column of one variant.

        Raises:
            KeyError: if there is no such variant or column.
        """
        parts = [rows for (name, _), rows in self.parts.items() if name == variant]
        if column not in self.columns(variant):
            raise KeyError(f"{variant} has no column {column}")
        x = np.array(sorted({row[AT] for rows in parts for row in rows if column in row}))
        values = [{row[AT]: row[column] for row in rows if column in row} for rows in parts]
        return Series(
            x, np.array([[by_place.get(at, math.nan) for at in x] for by_place in values])
        )

    def numbered(self, variant: str, column: str) -> list[Series]:
        """Return the columns COLUMN_1, COLUMN_2, … of one variant."""
        columns = self.columns(variant)
        found, index = [], 1
        while (name := f"{column}_{index}") in columns:
            found.append(self.series(variant, name))
            index += 1
        return found

    def named(self, variant: str, prefix: str) -> dict[str, Series]:
        """Return the columns whose names begin with a prefix, by the rest of the name."""
        columns = [name for name in self.columns(variant) if name.startswith(prefix)]
        return {name.removeprefix(prefix): self.series(variant, name) for name in columns}

    def columns(self, variant: str) -> dict[str, None]:
        """Return the columns of a variant's rows, in order."""
        return dict.fromkeys(
            column
            for (name, _), rows in self.parts.items()
            if name == variant
            for row in rows
            for column in row
        )

    def diverged(self, variant: str) -> tuple[int, int]:
        """Return how many rows of a variant contain a divergence, and how many rows count."""
        rows = [row for (name, _), part in self.parts.items() if name == variant for row in part]
        counted = [row[DIVERGED] for row in rows if DIVERGED in row]
        return sum(number > 0 for number in counted), len(counted)

    def to_csv(self) -> str:
        """Return all rows as CSV, with variant and seed in the first columns."""
        return rows_to_csv(
            {VARIANT: variant, SEED: seed, **row}
            for (variant, seed), rows in self.parts.items()
            for row in rows
        )


def rows_to_csv(rows: Iterable[Mapping[str, float | str]]) -> str:
    """Return rows as CSV, to six digits; missing and non-finite values are empty."""
    return csv_text({column: _cell(value) for column, value in row.items()} for row in rows)


def _cell(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.6g}" if math.isfinite(value) else ""


def read_rows(path: AnyPath) -> list[Row]:
    """Return the rows of a CSV file of numbers, each without its empty cells.

    Raises:
        UserError: if the file is damaged.
    """
    try:
        with as_path(path).open(encoding="utf-8", newline="") as stream:
            return [
                {column: float(cell) for column, cell in row.items() if cell}
                for row in csv.DictReader(stream)
            ]
    except (OSError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it to compute it again.") from None
