"""Paths from a user: text or any path object."""

from __future__ import annotations

import os
from pathlib import Path

from metaplast.base.errors import UserError, shown

AnyPath = str | os.PathLike[str]


def as_path(value: AnyPath, name: str = "the path") -> Path:
    """Return a path given as text or as any path object.

    Raises:
        UserError: if the value is of another type, empty, or contains a null character.
    """
    text = os.fspath(value) if isinstance(value, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise UserError(f"{name} must be a path, as text or pathlib.Path, got {shown(value)}.")
    return Path(value)
