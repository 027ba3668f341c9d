"""The folder of a command: made after all checks, locked, and removed if it stays empty."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from metaplast.base.files import claim_folder, new_folder
from metaplast.base.locks import locked


@contextmanager
def own_folder(out: Path | None, kind: str = "", *, resumable: bool = True) -> Iterator[Path]:
    """Make and lock an empty folder: `out`, or runs/KIND-<time>.

    If the command fails before it writes anything, the folders made here are removed again.

    Args:
        out: the user's folder, if any.
        kind: the kind of run, for the folder's name if `out` is None.
        resumable: whether the command has `--resume`.

    Raises:
        UserError: if `out` is not empty, is in use, or nothing can be written there.
    """
    made = _missing(Path("runs") if out is None else out)
    folder = new_folder(out, kind, resumable=resumable)
    made = [folder, *made] if out is None else made
    try:
        with locked(folder):
            # Another command may have used the folder after we found it empty.
            claim_folder(folder, resumable=resumable)
            yield folder
    except BaseException:
        _remove_empty(made)
        raise


@contextmanager
def common_folder(path: Path) -> Iterator[Path]:
    """Make and lock a folder that may already hold results; see `own_folder`."""
    made = _missing(path)
    try:
        with locked(path, make=True):
            yield path
    except BaseException:
        _remove_empty(made)
        raise


def held(folder: Path) -> AbstractContextManager[Path]:
    """Lock the folder of an earlier command; if it is missing, the code that reads it says so."""
    return locked(folder) if folder.is_dir() else nullcontext(folder)


def _missing(path: Path) -> list[Path]:
    """Return those of a path and its parents that do not exist, deepest first."""
    with contextlib.suppress(OSError):
        return [each for each in (path, *path.parents) if not each.exists()]
    return []


def _remove_empty(folders: list[Path]) -> None:
    """Remove the folders that are empty, deepest first."""
    with contextlib.suppress(OSError):
        for each in folders:
            each.rmdir()
