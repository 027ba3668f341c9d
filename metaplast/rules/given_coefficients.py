"""Convert coefficients that a user gives in any form to plain numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from torch import Tensor

from metaplast.base.errors import UserError, require
from metaplast.base.tensors import require_tensor

Rows = tuple[tuple[float, ...], ...]


def coefficient_rows(theta: object, terms: int) -> tuple[Rows, bool]:
    """Return rows of coefficients, and whether they were given as a matrix [layer, term].

    Args:
        theta: rows of numbers, one row, or an array or tensor [term] or [layer, term].
        terms: the number of coefficients in a row.

    Raises:
        UserError: if `theta` is anything else, or a number is not finite.
    """
    expected = "coefficients must be one row of numbers, or one row for each layer"
    plain = _plain(theta)
    is_matrix = isinstance(theta, Tensor | np.ndarray) and theta.ndim == 2
    if not isinstance(plain, Sequence) or isinstance(plain, str):
        raise UserError(f"{expected}, got {plain!r}; write ((0.1, 0.2),).")
    rows = [_plain(row) for row in plain]
    is_row = not any(isinstance(row, Sequence) for row in rows)
    if is_row and (rows or (plain is not theta and not terms)):
        rows = [rows]
    require(bool(rows), "a rule needs at least one row of coefficients, got none.")
    return tuple(_row(row, terms, expected) for row in rows), is_matrix


def _row(row: Any, terms: int, expected: str) -> tuple[float, ...]:
    if not isinstance(row, Sequence) or isinstance(row, str):
        raise UserError(f"{expected}, got {row!r} where a row belongs; write ((0.1, 0.2),).")
    require(
        len(row) == terms,
        f"a rule of {terms} terms needs {terms} coefficients in a row, got {len(row)}.",
    )
    return tuple(map(_number, row))


def _number(value: Any) -> float:
    value = _plain(value)
    found = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:
            found = math.inf
    if not math.isfinite(found):
        raise UserError(f"coefficients must be finite numbers, got {str(value)[:60]}.")
    return found


def _plain(value: Any) -> Any:
    """Return a tensor or array as lists or a number, and anything else unchanged."""
    if isinstance(value, Tensor):
        require_tensor(value, "coefficients")
        return value.detach().tolist()
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value
