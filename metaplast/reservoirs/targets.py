"""Curves that an output draws: the published butterfly, a random one, or a file of points."""

from __future__ import annotations

import csv
import zipfile
import zlib

import numpy as np

from metaplast.base.bands import Numbers
from metaplast.base.errors import UserError, require, require_seed, shown
from metaplast.base.paths import AnyPath, as_path
from metaplast.base.seeds import numpy_generator

# Largest number in a target: figures and squared distances overflow long before float64 does.
_MOST = 1e9
# Scales the butterfly to the published size.
_LARGEST = 14.4734


def butterfly(steps: int) -> Numbers:
    """Return one period of the published target, [step, 2].

        R(θ) = 9 − sin θ + 2 sin 3θ + 2 sin 5θ − sin 7θ + 3 cos 2θ − 2 cos 4θ
        (x, y) = R(θ)/14.4734 · (cos θ, sin θ)

    with θ evenly spaced on [0, 2π]. Both ends are included, as published, so one point occurs
    twice.
    """
    theta = np.linspace(0, 2 * np.pi, steps)
    sines = -np.sin(theta) + 2 * np.sin(3 * theta) + 2 * np.sin(5 * theta) - np.sin(7 * theta)
    radius = (9 + sines + 3 * np.cos(2 * theta) - 2 * np.cos(4 * theta)) / _LARGEST
    return np.stack([radius * np.cos(theta), radius * np.sin(theta)], 1)


def random_curve(steps: int, seed: int) -> Numbers:
    """Return one period of a random smooth closed curve, [step, 2].

        R(θ) = c (1 + Σ_k (a_k cos kθ + b_k sin kθ)),   k = 1 … 6,   a_k, b_k normal with size ¼
        (x, y) = R(θ) · (cos θ, sin θ)

    with c such that the largest |R| is 1.2, about that of the butterfly.

    Args:
        steps: the number of steps in a period.
        seed: the seed of the curve.
    """
    require_seed("seed", seed)
    draw = numpy_generator(seed, "curve")
    theta = np.linspace(0, 2 * np.pi, steps, endpoint=False)
    waves = np.arange(1, 7)[:, None] * theta
    a, b = 0.25 * draw.standard_normal((2, 6))
    radius = 1 + a @ np.cos(waves) + b @ np.sin(waves)
    radius *= 1.2 / np.abs(radius).max()
    return np.stack([radius * np.cos(theta), radius * np.sin(theta)], 1)


def read_points(path: AnyPath) -> Numbers:
    """Return the points of a file, [point, 2].

    A CSV file has the columns x and y: in any order and beside others if its first row names them,
    else only these two. An NPZ file has an array `points` [point, 2], or two arrays `x` and `y`.

    Raises:
        UserError: if the file is missing or damaged, or does not contain such points.
    """
    path = as_path(path, "target")
    try:
        points = _from_npz(path) if path.suffix == ".npz" else _from_csv(path)
    except (OSError, ValueError, KeyError, TypeError, EOFError, csv.Error, zipfile.BadZipFile,
            zlib.error) as error:  # fmt: skip
        raise UserError(
            f"{path} is not a target: it must be a CSV file with the columns x and y, or an NPZ "
            f"file with an array points [point, 2] or the arrays x and y ({error})."
        ) from None
    return checked(points, str(path))


def checked(points: object, name: str) -> Numbers:
    """Return points as finite float64 numbers, [point, 2].

    Raises:
        UserError: if they are something else, or fewer than two, or one is too large.
    """
    try:
        found = _real(points)
    except (TypeError, ValueError):
        found = np.empty(0)
    require(
        found.ndim == 2 and found.shape[1:] == (2,) and len(found) >= 2,
        f"{name} must hold at least two points with two numbers each, [point, 2].",
    )
    require(bool(np.isfinite(found).all()), f"{name} contains numbers that are not finite.")
    most = float(np.abs(found).max())
    require(
        most <= _MOST,
        f"{name} has numbers as large as {most:.3g}, but at most {_MOST:g} can be drawn; give the "
        f"points in another unit.",
    )
    return found


def _real(values: object) -> Numbers:
    """Return an array of float64.

    Raises:
        TypeError: if the values are text, dates or complex numbers.
        ValueError: if the rows have different lengths.
    """
    found = np.asarray(values)
    if found.dtype.kind not in "iufO":
        raise TypeError(f"numbers are needed, got {found.dtype}")
    return found.astype(float)


def resampled(points: Numbers, steps: int) -> Numbers:
    """Return a closed curve through the points, in order, [step, 2].

    Every piece between two neighbours takes the same time; the last one leads back to the first
    point.
    """
    closed = np.concatenate([points, points[:1]])
    places = np.arange(steps) * (len(points) / steps)
    return np.stack([np.interp(places, np.arange(len(closed)), column) for column in closed.T], 1)


def _from_csv(path: AnyPath) -> Numbers:
    with as_path(path).open(encoding="utf-8-sig", newline="") as stream:
        rows = [row for row in csv.reader(stream) if any(cell.strip() for cell in row)]
    if any(len(row) != len(rows[0]) for row in rows):
        raise ValueError("its rows have different numbers of cells")
    if rows and not any(map(_is_number, rows[0])):
        names, *rows = rows
        places = _places([name.strip().lower() for name in names])
        rows = [[row[place] for place in places] for row in rows]
    return np.array([[float(cell) for cell in row] for row in rows])


def _places(names: list[str]) -> list[int]:
    """Return the places of the columns x and y."""
    if names.count("x") != 1 or names.count("y") != 1:
        raise ValueError(f"its first row names the columns {shown(', '.join(names))}")
    return [names.index("x"), names.index("y")]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _from_npz(path: AnyPath) -> Numbers:
    with as_path(path).open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        if "points" in arrays:
            return _real(arrays["points"])
        return np.stack([_real(arrays["x"]), _real(arrays["y"])], 1)
