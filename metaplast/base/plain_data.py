"""Checks of plain data, such as what a JSON file holds."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar


class DataError(ValueError):
    """An error in plain data, such as the contents of a rule's file."""


def check(condition: bool, sentence: str) -> None:
    """Raise `DataError` unless `condition` holds."""
    if not condition:
        raise DataError(sentence)


Kind = TypeVar("Kind")


def entry(data: Any, key: str, kind: type[Kind] | tuple[type[Kind], ...], where: str) -> Kind:
    """Return `data[key]`, checked to be of a type.

    Raises:
        DataError: if `data` is not a mapping or lacks the key, or its value has another type.
    """
    check(isinstance(data, Mapping), f"{where} must be an object with {key!r}")
    check(key in data, f"{where} has no {key!r}")
    value = data[key]
    right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    check(right, f"{key!r} of {where} has the wrong type, {type(value).__name__}")
    return value  # type: ignore[no-any-return]


def number(value: Any, where: str) -> float:
    """Return a finite number.

    Raises:
        DataError: if the value is not a finite number.
    """
    plain = isinstance(value, int | float) and not isinstance(value, bool)
    check(plain, f"{where} must be a number, got {str(value)[:40]!r}")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    check(math.isfinite(found), f"{where} must be a finite number, got {str(value)[:40]}")
    return found
