"""Check that the output of a command can be written, before anything is computed."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from metaplast.base.errors import UserError, require, shown


def require_writable(flag: str, path: Path | None) -> None:
    """Raise `UserError` unless a file can be written at `path`.

    Nothing is left behind, and an existing file is not touched.
    """
    if path is None:
        return
    require(
        not path.is_dir(), f"{flag} takes a file, but {shown(str(path))} is a folder; name a file."
    )
    target = path.resolve()
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        return  # The path is a device or a pipe, which gets no temporary file beside it.
    require(
        target.parent.is_dir(),
        f"cannot write {shown(str(path))}, because there is no folder {shown(str(path.parent))}; "
        f"make it first, or give {flag} another file.",
    )
    _try(flag, path, target.parent)


def require_folder(flag: str, path: Path) -> None:
    """Raise `UserError` unless files can be written into a folder, which need not exist yet."""
    require(
        path.is_dir() or not os.path.lexists(path),
        f"{flag} must be a folder here, but {shown(str(path))} is a file; give {flag} a folder.",
    )
    there = path.resolve()
    while not there.exists():
        there = there.parent
    _try(flag, path, there)


def _try(flag: str, path: Path, folder: Path) -> None:
    """Raise `UserError`, which names `path`, unless a file can be made in `folder`."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write {shown(str(path))}: {error.strerror}; give {flag} a writable place."
        ) from None
